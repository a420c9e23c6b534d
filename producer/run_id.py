"""Run ids with placeholders: one command is one run within its slot, and another one after it.

`{date}` is the day as 2026-11-21, `{week}` the ISO week as 2026-W47, `{hour}` the hour of the day
as 00 to 23, `{hash}` the first 12 hex digits of the definition's hash.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from pydantic import TypeAdapter, ValidationError

from protocol.definition import RunId
from protocol.sentences import rule

HASH_DIGITS = 12
_EXAMPLES = {"date": "2026-11-21", "week": "2026-W47", "hour": "02", "hash": "0" * HASH_DIGITS}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_RUN_ID = TypeAdapter(RunId)


@dataclass(frozen=True)
class Moment:
    """A point in time, and whose calendar it is read in.

    Attributes
    ----------
    epoch
        Seconds since 1970-01-01 00:00 UTC.
    utc
        Whether days and hours are those of UTC; of this machine's time zone otherwise.
    """

    epoch: float
    utc: bool = False

    @property
    def clock(self) -> datetime:
        """What a clock on the wall shows."""
        return datetime.fromtimestamp(self.epoch, UTC if self.utc else None).replace(tzinfo=None)

    def of(self, clock: datetime) -> float:
        """Return when a clock on the wall shows this, in seconds since the epoch."""
        return (clock.replace(tzinfo=UTC) if self.utc else clock).timestamp()


def checked(template: str) -> str:
    """Return a run id, with placeholders or without, as it is.

    Raises
    ------
    ValueError
        It would never become a run id.
    """
    for name in _PLACEHOLDER.findall(template):
        if name not in _EXAMPLES:
            known = ", ".join(f"{{{each}}}" for each in _EXAMPLES)
            raise ValueError(f"{{{name}}} is no placeholder, allowed are {known}")
    if "{hour}" in template and "{date}" not in template:
        raise ValueError("{hour} is the hour of a day and needs {date} beside it")
    example = _PLACEHOLDER.sub(lambda found: _EXAMPLES[found[1]], template)
    try:
        _RUN_ID.validate_python(example)
    except ValidationError as error:
        raise ValueError(rule(error.errors(include_url=False)[0])) from None
    return template


def name(template: str) -> str | None:
    """Return what all runs of a checked run id have in common; None where there is only one."""
    return template if _PLACEHOLDER.search(template) else None


def at(template: str, moment: Moment) -> str:
    """Return a checked run id with its date, week and hour filled in."""
    clock = moment.clock
    year, week, _ = clock.isocalendar()
    return (
        template.replace("{date}", clock.date().isoformat())
        .replace("{week}", f"{year:04}-W{week:02}")
        .replace("{hour}", f"{clock.hour:02}")
    )


def of_definition(template: str, definition_hash: bytes) -> str:
    """Return a checked run id with its hash filled in."""
    return template.replace("{hash}", definition_hash.hex()[:HASH_DIGITS])


def slot_begin(template: str, moment: Moment) -> datetime | None:
    """Return when the slot began that a run id names, as a clock on the wall showed it.

    The hour, else the day, else the week; None where the id names no time.
    """
    clock = moment.clock
    if "{hour}" in template:
        return clock.replace(minute=0, second=0, microsecond=0)
    if "{date}" in template:
        return datetime.combine(clock, time())
    if "{week}" in template:
        return datetime.combine(clock - timedelta(days=clock.weekday()), time())
    return None


def slot_age(template: str, moment: Moment) -> float | None:
    """Return how many seconds ago the slot of a run id began; None where it names no time."""
    begin = slot_begin(template, moment)
    return None if begin is None else moment.epoch - moment.of(begin)
