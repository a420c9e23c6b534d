"""What an interrupted command says about the run that it followed."""

import asyncio

import pytest

from ops.commands import following
from ops.private_broker import free_port
from protocol.settings import Broker


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (True, "and goes on without this command: follow it with `montemq wait r1`, or end it"),
        (False, "but nobody schedules it now: start `montemq producer`, go on with `montemq res"),
        (None, "stopped following; run 'r1' keeps what is merged: go on with `montemq resume r1`"),
    ],
)
def test_whether_a_run_goes_on_by_itself_is_said_as_it_is(served: bool | None, words: str) -> None:
    said = following._how_to_go_on("r1", declared=True, served=served)
    assert words in said
    assert ("goes on" in said) == (served is True)
    assert said.endswith("or end it with `montemq cancel r1`")


def test_without_a_broker_nobody_knows_whether_a_run_goes_on() -> None:
    nowhere = Broker("127.0.0.1", free_port("127.0.0.1"), "guest", "guest", "/")
    assert asyncio.run(following._is_served(nowhere, "r1")) is None
