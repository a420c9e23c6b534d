"""What an agent tells of itself, from its start to its end, read as an aggregator would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIGTERM

import pika

from protocol.definition import Lane
from protocol.messages import (
    ConsumerState,
    FailureKind,
    Golden,
    Suspension,
    Telemetry,
    decode,
    encode,
)
from protocol.settings import Broker
from protocol.topology import TELEMETRY, WORK, work_key, work_queue
from tests.support.stack_jobs import Job, gate
from tests.support.stack_processes import eventually
from tests.support.stack_site import Site


class Ear:
    """Hears all telemetry, beside the aggregator's queue; and issues chunks."""

    def __init__(self, connection: pika.BlockingConnection) -> None:
        self._channel = connection.channel()
        self._queue = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.queue_bind(self._queue, TELEMETRY, "#")
        self._heard: list[Telemetry] = []

    def heard(self) -> list[Telemetry]:
        """Return everything so far."""
        while True:
            method, properties, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None:
                return self._heard
            self._heard.append(decode(properties.type, body, Telemetry))

    def last(self) -> Telemetry | None:
        return self.heard()[-1] if self.heard() else None

    def tells(self, what: Callable[[Telemetry], bool], text: str) -> Telemetry:
        """Wait until the newest word is so, and return it."""

        def told() -> Telemetry | None:
            last = self.last()
            return last if last is not None and what(last) else None

        found = eventually(told, lambda: f"{text}: {self.last()}")
        assert found is not None
        return found

    def issue(self, job: Job, block: int, **fields: object) -> None:
        chunk = job.chunk(first_block=block, attempt=block, **fields)
        properties = pika.BasicProperties(type=chunk.type, delivery_mode=2)
        key = work_key("default", Lane.NORMAL)
        self._channel.basic_publish(WORK, key, encode(chunk), properties)

    def clean(self) -> None:
        self._channel.queue_purge(work_queue("default", Lane.NORMAL))


@contextmanager
def ear(broker: Broker) -> Iterator[Ear]:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        made = Ear(connection)
        yield made
        made.clean()


def test_an_agent_tells_when_it_loads_works_drains_and_ends(site: Site) -> None:
    with ear(site.broker) as listener:
        consumer = site.consumer()
        consumer.ready()
        ready = listener.tells(lambda one: one.slots == 1, "it takes chunks")
        assert (ready.state, ready.golden, ready.busy) == (ConsumerState.RUNNING, Golden.PASSED, 0)
        loading = [one for one in listener.heard() if one.golden is None]
        assert not any(one.slots for one in loading)
        job = gate("told-of", site.folder)
        listener.issue(job, 0)
        eventually(job.waiting, "the slot computes")
        busy = listener.tells(lambda one: one.busy == 1, "it is at work")
        assert busy.totals is not None
        assert (busy.totals.models, busy.totals.reconnections) == ({}, 0)
        consumer.send(SIGTERM)
        draining = listener.tells(lambda one: one.state is ConsumerState.DRAINING, "it drains")
        assert draining.busy == 1
        job.open()
        assert consumer.wait().code == 0
        last = listener.tells(lambda one: one.state is ConsumerState.STOPPED, "it has ended")
        assert last.totals is not None
        assert last.totals.models["gate"].samples == 512


def test_an_agent_that_rests_because_run_after_run_fails_tells_why(site: Site) -> None:
    with ear(site.broker) as listener:
        consumer = site.consumer()
        consumer.ready()
        failing = Job("failing", '[run]\nmodel = "failing"\nid = "failing"\nseed = 1\n')
        for number in range(12):
            listener.issue(failing, 0, run=f"failing-{number}")
        told = listener.tells(lambda one: one.suspended is not None, "it rests")
        assert told.suspended is Suspension.FAILURES
        assert told.totals is not None
        assert told.totals.failures[FailureKind.MODEL_ERROR] >= 3
        consumer.send(SIGTERM)
        assert consumer.wait().code == 0
