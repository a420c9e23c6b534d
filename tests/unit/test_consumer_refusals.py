"""Whom a refusal means, how that one ends, and what it says."""

import pytest

from consumer import events as e
from consumer.answers import Worker
from consumer.refusals import Refusal, refused
from protocol.messages import ConsumerOutdated, HostRefused
from protocol.origin import software_version

WORKER = Worker("lab-7-a1b2c3", "lab-7")


def test_a_host_with_wrong_bits_stops_at_once_and_says_how_to_come_back() -> None:
    heard = refused(HostRefused(host="lab-7"), WORKER)
    assert heard is not None
    error, end = heard
    assert end == e.Stop()
    assert "`montemq store readmit lab-7`" in str(error)
    assert error.exit_code == 8


def test_an_outdated_consumer_finishes_its_chunks_and_names_both_versions() -> None:
    heard = refused(ConsumerOutdated(consumer="lab-7-a1b2c3", host="lab-7", oldest="99.1"), WORKER)
    assert heard is not None
    error, end = heard
    assert end == e.Drain()
    assert str(error) == (
        f"the aggregator takes consumers from montemq 99.1 on, and this is {software_version()}: "
        "install a newer one, and start it again"
    )
    assert error.exit_code == 8


@pytest.mark.parametrize(
    "event",
    [
        HostRefused(host="lab-8"),
        ConsumerOutdated(consumer="lab-7-ffffff", host="lab-7", oldest="99.1"),
    ],
)
def test_what_is_meant_for_another_one_changes_nothing(event: Refusal) -> None:
    assert refused(event, WORKER) is None
