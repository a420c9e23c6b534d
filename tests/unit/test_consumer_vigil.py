"""An agent that means to consume, and a broker that does not deliver."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.vigil import CONFIRM_SECONDS, LOOK_SECONDS, Vigil, Wakefulness


@pytest.fixture
def vigil() -> Vigil:
    """Return one that consumes since 0."""
    made = Vigil()
    made.asked(0.0)
    made.confirmed(0.0)
    return made


def test_a_confirm_that_does_not_come_is_complained_of_once() -> None:
    vigil = Vigil()
    vigil.asked(5.0)
    assert vigil.overdue(5.0 + CONFIRM_SECONDS - 1) is None
    assert "has not said for 60 s" in str(vigil.overdue(5.0 + CONFIRM_SECONDS))
    assert vigil.overdue(1e6) is None


def test_a_confirm_that_comes_late_is_no_reason_to_complain(vigil: Vigil) -> None:
    assert vigil.overdue(1e6) is None


def test_whoever_means_to_take_nothing_is_left_alone(vigil: Vigil) -> None:
    vigil.stopped()
    assert vigil.overdue(1e6) is None
    assert not vigil.is_due(1e6)
    assert vigil.seen("q", 5, 0) is None


def test_queues_are_looked_at_after_a_minute_without_a_chunk_and_every_minute_then(
    vigil: Vigil,
) -> None:
    looks = [now for now in range(200) if vigil.is_due(float(now))]
    assert looks == [60, 120, 180]
    vigil.heard(190.0)
    assert not vigil.is_due(190.0 + LOOK_SECONDS - 1)
    assert vigil.is_due(190.0 + LOOK_SECONDS)


def test_a_queue_that_nobody_consumes_is_complained_of_at_once(vigil: Vigil) -> None:
    assert vigil.seen("q", 0, 1) is None
    assert vigil.seen("q", 0, 0) == "the broker does not know that q is consumed"


def test_chunks_that_wait_twice_in_a_row_while_none_comes_are_complained_of(vigil: Vigil) -> None:
    assert vigil.seen("q", 3, 1) is None  # on their way, perhaps
    assert vigil.seen("other", 3, 1) is None
    assert vigil.seen("q", 0, 1) is None
    assert vigil.seen("q", 3, 1) is None
    vigil.heard(70.0)
    assert vigil.seen("q", 3, 1) is None
    assert vigil.seen("q", 2, 1) == "2 chunks wait in q, and none has come for 60 s"


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from([0.0, 0.0, 30.0])), min_size=1),
    st.floats(0, 1e9),
)
def test_sleep_is_what_one_clock_misses(course: list[tuple[float, float]], boot: float) -> None:
    wakefulness, waking, always = Wakefulness(), 0.0, boot
    assert wakefulness.slept(waking, always) == 0.0  # whatever was before
    for awake, asleep in course:
        waking, always = waking + awake, always + awake + asleep
        assert wakefulness.slept(waking, always) == pytest.approx(asleep, abs=1e-3)
