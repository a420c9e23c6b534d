"""The hours of the week in which a machine may be used, as people write them; pure."""

import re
from dataclasses import dataclass
from datetime import datetime

from protocol.errors import UsageError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_ITEM = re.compile(
    r"(?:([a-z]{3})(?:\s*-\s*([a-z]{3}))?)?\s*(?:(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d))?"
)
_RULE = "it must read like 'mon-fri 19:00-07:00, sat-sun'"


@dataclass(frozen=True, slots=True)
class _Span:
    """Minutes after midnight, on these days; one that ends before it starts ends the next day."""

    days: frozenset[int]
    start: int
    end: int

    def has(self, day: int, minute: int) -> bool:
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        evening = day in self.days and minute >= self.start
        return evening or ((day - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of the week, by the clock on the wall: a night is a night, be it an hour shorter.

    Attributes
    ----------
    text
        As they were written.
    """

    text: str
    _spans: tuple[_Span, ...]

    @classmethod
    def read(cls, text: str) -> "Hours":
        """Read items such as `mon-fri 19:00-07:00`, `sat` or `22:00-24:00`, with commas between.

        A span that goes over midnight belongs to the day on which it begins.

        Raises
        ------
        UsageError
            They are not written like that.
        """
        return cls(text, tuple(_span(item.strip().lower(), text) for item in text.split(",")))

    def include(self, local: datetime) -> bool:
        """Say whether a local time lies within them."""
        minute = 60 * local.hour + local.minute
        return any(span.has(local.weekday(), minute) for span in self._spans)


def _span(item: str, text: str) -> _Span:
    found = _ITEM.fullmatch(item)
    if found is None or not item:
        raise UsageError(f"hours = {text!r}: {item!r} is none, {_RULE}")
    first, last, *times = found.groups()
    days = _days(first, last or first, text)
    if times[0] is None:
        return _Span(days, 0, _DAY)
    start, end = _minute(times[0], times[1], text), _minute(times[2], times[3], text)
    if start in (end, _DAY):
        raise UsageError(f"hours = {text!r}: {item!r} has no length; a day alone means all of it")
    return _Span(days, start, end)


def _days(first: str | None, last: str | None, text: str) -> frozenset[int]:
    if first is None or last is None:
        return frozenset(range(7))
    for name in (first, last):
        if name not in DAYS:
            raise UsageError(f"hours = {text!r}: {name!r} is no day, days are {', '.join(DAYS)}")
    start = DAYS.index(first)
    length = (DAYS.index(last) - start) % 7 + 1
    return frozenset((start + day) % 7 for day in range(length))


def _minute(hour: str, minute: str, text: str) -> int:
    found = 60 * int(hour) + int(minute)
    if int(minute) >= 60 or found > _DAY:  # noqa: PLR2004
        raise UsageError(f"hours = {text!r}: {hour}:{minute} is no time from 0:00 to 24:00")
    return found
