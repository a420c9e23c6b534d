"""How fast a run goes, from looks at its samples."""

import pytest

from protocol.rate import Rate, clock_text, seconds_left, short_number


def test_one_look_tells_no_rate() -> None:
    assert Rate().of(1000, 5.0) is None


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(4.0)
    looks = [(0, 0.0), (100, 1.0), (200, 2.0), (300, 3.0), (400, 4.0), (800, 5.0), (1200, 6.0)]
    assert [rate.of(samples, now) for samples, now in looks] == [
        None, 100.0, 100.0, 100.0, 100.0, 175.0, 250.0,
    ]  # fmt: skip


def test_looks_in_quick_succession_make_no_rate_of_their_own() -> None:
    rate = Rate(2.0)
    found = [rate.of(look, look / 100) for look in range(1_000)]
    assert found[1:] == [pytest.approx(100.0)] * 999
    assert len(rate._points) <= 22


def test_between_long_chunks_the_rate_is_that_of_the_chunks() -> None:
    rate = Rate(5.0)
    # Two slots, 1,000 samples each 20 s, one second after the other.
    found = [rate.of(1_000 * (now // 20 + (now - 1) // 20), float(now)) for now in range(400)]
    assert found[61:] == [pytest.approx(100.0, rel=0.5)] * 339


def test_a_rate_falls_while_samples_are_overdue_and_is_nothing_in_the_end() -> None:
    rate = Rate(5.0)
    for now in range(0, 101, 20):
        rate.of(50 * now, float(now))
    found = [round(rate.of(5_000, float(now)) or 0.0, 1) for now in (119, 140, 180, 260, 261, 400)]
    assert found == [50.0, 40.0, 28.6, 18.2, 0.0, 0.0]


def test_a_rate_is_not_nothing_while_the_chunks_grow() -> None:
    rate = Rate(5.0)
    ends = [2**number for number in range(8)]  # each chunk takes as long as all before
    found = [
        rate.of(100 * max(end for end in ends if end <= now), float(now)) for now in range(1, 256)
    ]
    assert found[0] is None
    assert found[1:] == [pytest.approx(100.0, rel=0.6)] * 254


def test_a_rate_of_quick_chunks_is_soon_nothing() -> None:
    rate = Rate(5.0)
    for now in range(20):
        rate.of(100 * now, float(now))
    assert rate.of(1_900, 29.5) == 0.0


def test_time_without_work_is_no_part_of_a_rate() -> None:
    rate = Rate(5.0)
    for now in range(600):
        rate.of(0, float(now))
    assert 1_000 / 66 <= (rate.of(1_000, 600.0) or 0.0) <= 1_000 / 5


def test_samples_that_are_taken_back_are_no_negative_rate() -> None:
    rate = Rate()
    rate.of(1000, 0.0)
    assert rate.of(900, 1.0) == 0.0


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(None, "--:--"), (0.0, "--:--"), (10.0, "01:15"), (0.1, "2:05:00"), (1000.0, "00:01")],
)
def test_the_time_left_is_that_of_the_rate(rate: float | None, expected: str) -> None:
    assert clock_text(seconds_left(750, rate)) == expected


@pytest.mark.parametrize(
    ("number", "expected"), [(0.0, "0 "), (999.0, "999 "), (1250.0, "1.25 k "), (3.2e9, "3.2 G ")]
)
def test_a_short_number_has_three_digits_and_a_prefix(number: float, expected: str) -> None:
    assert short_number(number) == expected
