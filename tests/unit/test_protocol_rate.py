"""How fast a run goes, from looks at its samples."""

import pytest

from protocol.rate import Rate, clock_text, seconds_left, short_number


def test_one_look_tells_no_rate() -> None:
    assert Rate().of(1000, 5.0) is None


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(2.0)
    looks = [(0, 0.0), (100, 1.0), (200, 2.0), (500, 3.0), (800, 4.0), (1100, 5.0)]
    assert [rate.of(samples, now) for samples, now in looks] == [
        None, 100.0, 100.0, 200.0, 300.0, 300.0,
    ]  # fmt: skip


def test_looks_in_quick_succession_make_no_rate_of_their_own() -> None:
    rate = Rate(2.0)
    found = [rate.of(int(now * 100), now) for now in (0.0, 0.01, 0.02, 0.5, 0.51, 1.0)]
    assert found[1:] == [pytest.approx(100.0)] * 5
    assert len(rate._points) == 3


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
