"""Nobody schedules a run: said once, and only where no takeover explains it."""

import pytest

from producer.unserved import TAKEOVER_SECONDS, Unserved
from protocol.settings import RETRY_SECONDS


def test_a_service_that_takes_over_in_time_leaves_nothing_to_say() -> None:
    unserved = Unserved()
    assert not unserved.looked(100.0, served=False)
    assert unserved.doubtful
    assert not unserved.looked(100.0 + RETRY_SECONDS, served=False)
    assert not unserved.looked(100.0 + TAKEOVER_SECONDS, served=True)
    assert not unserved.doubtful
    assert not unserved.certain


def test_what_lasts_longer_than_a_takeover_is_said_once() -> None:
    unserved = Unserved()
    looks = [unserved.looked(second, served=False) for second in (0.0, 2.0, 4.0, 6.0, 8.0)]
    assert looks == [False, False, False, True, False]
    assert unserved.certain


@pytest.mark.parametrize("pause", [0.5, 60.0])
def test_every_time_that_nobody_is_there_counts_anew(pause: float) -> None:
    unserved = Unserved()
    unserved.looked(0.0, served=False)
    unserved.looked(TAKEOVER_SECONDS, served=False)
    unserved.looked(TAKEOVER_SECONDS + pause, served=True)
    assert not unserved.certain
    again = TAKEOVER_SECONDS + 2 * pause
    assert not unserved.looked(again, served=False)
    assert unserved.looked(again + TAKEOVER_SECONDS, served=False)
