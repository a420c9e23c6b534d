"""The connection of this process to montemq, and how a visitor's runs are named."""

import hashlib
from dataclasses import replace

from django.conf import settings

import producer

# It connects when it is first used, so a server may load this module before it forks.
client = producer.Client(password_file=settings.MONTEMQ_PASSWORD_FILE)

SEED = 1
"""One seed for all: the same question gets the same answer, to the last bit."""


def named(submission: producer.Submission, visitor: str) -> producer.Submission:
    """Name a visitor's run by what it computes, so that a form sent twice is one run."""
    name = hashlib.sha256(visitor.encode() + submission.definition.hash).hexdigest()
    return replace(submission, run=f"web-{name[:24]}")


def submit(submission: producer.Submission) -> None:
    """Declare a run, for `montemq producer` to schedule; take it up again if it ended too early."""
    run = client.submit(submission, detach=True)
    if run.progress().state in {producer.RunState.CANCELLED, producer.RunState.FAILED}:
        client.resume(run.run, detach=True)
