"""The hours of the week in which a machine may be used."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.hours import DAYS, Hours
from protocol.errors import UsageError

MONDAY = datetime(2026, 11, 16)  # noqa: DTZ001 - the time on the wall
WEEK = 7 * 24 * 60

days = st.tuples(st.sampled_from(DAYS), st.none() | st.sampled_from(DAYS))
times = st.tuples(st.integers(0, 1439), st.integers(0, 1440)).filter(lambda t: t[0] != t[1])
items = st.tuples(days, st.none() | times)


def at(text: str) -> datetime:
    """Return a time of one week, such as `tue 19:30`."""
    day, clock = text.split()
    hour, minute = clock.split(":")
    return MONDAY + timedelta(days=DAYS.index(day), hours=int(hour), minutes=int(minute))


def written(item: tuple[tuple[str, str | None], tuple[int, int] | None]) -> str:
    (first, last), span = item
    text = first if last is None else f"{first}-{last}"
    if span is None:
        return text
    start, end = (f"{minute // 60}:{minute % 60:02}" for minute in span)
    return f"{text} {start}-{end}"


def minutes(item: tuple[tuple[str, str | None], tuple[int, int] | None]) -> set[int]:
    """Return the minutes of the week that an item means, by walking through them."""
    (first, last), span = item
    start, end = span or (0, 1440)
    found, day = set(), DAYS.index(first)
    while True:
        found |= {(1440 * day + start + m) % WEEK for m in range((end - start) % 1440 or 1440)}
        if day == DAYS.index(last or first):
            return found
        day = (day + 1) % 7


@given(st.lists(items, min_size=1, max_size=3), st.integers(0, WEEK - 1))
def test_every_minute_of_the_week_is_as_written(
    spans: list[tuple[tuple[str, str | None], tuple[int, int] | None]], minute: int
) -> None:
    hours = Hours.read(", ".join(map(written, spans)))
    wanted = minute in set().union(*map(minutes, spans))
    assert hours.include(MONDAY + timedelta(minutes=minute)) is wanted


@pytest.mark.parametrize(
    ("moment", "open_"),
    [
        ("mon 18:59", False), ("mon 19:00", True), ("tue 06:59", True), ("tue 07:00", False),
        ("fri 23:00", True), ("sat 06:00", True), ("sat 12:00", True), ("sun 23:59", True),
        ("mon 00:00", False), ("mon 06:00", False),
    ],
)  # fmt: skip
def test_a_night_belongs_to_the_day_on_which_it_begins(moment: str, open_: bool) -> None:
    assert Hours.read("mon-fri 19:00-07:00, sat-sun").include(at(moment)) is open_


@pytest.mark.parametrize("text", ["22:00-24:00", " 22:00 - 24:00 ", "MON-SUN 22:00-0:00"])
def test_days_are_all_days_unless_given_and_spaces_and_capitals_do_not_matter(text: str) -> None:
    hours = Hours.read(text)
    assert [hours.include(at(f"wed {h}:00")) for h in (21, 22, 23, 0)] == [False, True, True, False]


@pytest.mark.parametrize("night", [datetime(2026, 3, 28), datetime(2026, 10, 24)])  # noqa: DTZ001
def test_a_night_in_which_clocks_are_changed_is_one_night(night: datetime) -> None:
    zone, hours = ZoneInfo("Europe/Berlin"), Hours.read("sat 19:00-07:00")
    dusk = night.replace(hour=18, tzinfo=zone).astimezone(UTC)
    seen = [hours.include((dusk + timedelta(minutes=m)).astimezone(zone)) for m in range(15 * 60)]
    begins, length = seen.index(True), sum(seen)
    assert begins == 60
    assert all(seen[begins : begins + length])
    assert length == (11 if night.month == 3 else 13) * 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is none, it must read like 'mon-fri 19:00-07:00, sat-sun'"),
        ("mon,,tue", "'' is none, it must read like"),
        ("nights", "'nights' is none, it must read like"),
        ("mon 19-7", "'mon 19-7' is none, it must read like"),
        ("foo-fri", "'foo' is no day, days are mon, tue, wed, thu, fri, sat, sun"),
        ("mon 7:00-25:00", "25:00 is no time from 0:00 to 24:00"),
        ("mon 7:60-8:00", "7:60 is no time from 0:00 to 24:00"),
        ("mon 7:00-7:00", "'mon 7:00-7:00' has no length; a day alone means all of it"),
        ("mon 24:00-7:00", "'mon 24:00-7:00' has no length"),
    ],
)
def test_what_is_written_otherwise_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        Hours.read(text)
    assert str(refused.value).startswith(f"hours = {text!r}: {said}")
