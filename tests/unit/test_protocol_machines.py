"""For whom a user of the broker may speak."""

import pytest

from protocol.machines import machine_of, machine_user, may_speak


@pytest.mark.parametrize("user", ["guest", "mc", "consumer", "producer"])
def test_a_user_of_several_machines_may_speak_for_each(user: str) -> None:
    assert machine_of(user) is None
    assert may_speak(user, "any", "any-1")


def test_a_machines_own_user_speaks_for_that_machine_alone() -> None:
    user = machine_user("spare-1")
    assert machine_of(user) == "spare-1"
    assert may_speak(user, "spare-1", "spare-1-0a1b2c")
    for host, consumer in (
        ("spare-2", "spare-1-0a1b2c"),
        ("spare-1", "spare-2-0a1b2c"),
        ("spare-1", "spare-10-a"),
        ("spare-1", ""),
    ):
        assert not may_speak(user, host, consumer)
