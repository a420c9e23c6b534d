"""Holes of RabbitMQ that concern a broker of montemq, by the releases that have them.

From the records of the CVE program, at https://www.cve.org: only what they say of ranges. A
distribution may have closed a hole without another version number.
"""

import re
from dataclasses import dataclass

AS_OF = "November 2026"

Version = tuple[int, ...]


@dataclass(frozen=True)
class Hole:
    """One record: the first release of each range that has it, the first one after, and what."""

    record: str
    ranges: tuple[tuple[Version, Version], ...]
    what: str


HOLES = (
    Hole(
        "CVE-2026-67238",
        (((4, 2, 0), (4, 2, 7)), ((4, 3, 0), (4, 3, 1))),
        "whoever may log in can crash the node by reply addresses",
    ),
    Hole(
        "CVE-2026-67235",
        (
            ((3, 13, 0), (3, 13, 15)),
            ((4, 0, 0), (4, 0, 20)),
            ((4, 1, 0), (4, 1, 11)),
            ((4, 2, 0), (4, 2, 6)),
        ),
        "whoever may publish can fill the memory of the node",
    ),
    Hole(
        "CVE-2025-50200",
        (((0,), (3, 13, 8)),),
        "the log shows the passwords of who uses the management API",
    ),
    Hole(
        "CVE-2024-51988",
        (((3, 12, 7), (3, 12, 11)),),
        "who may use the management API can delete any queue",
    ),
    Hole(
        "CVE-2023-46118",
        (((0,), (3, 11, 24)), ((3, 12, 0), (3, 12, 7))),
        "who may publish over the management API can fill the memory of the node",
    ),
)


def version_of(text: str) -> Version:
    """Return the numbers that a version begins with; what follows, as in 4.3.0-rc.1, is dropped."""
    numbers = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()


def holes(text: str) -> list[Hole]:
    """Return the holes that a release has by its version."""
    version = version_of(text)
    return [hole for hole in HOLES if any(first <= version < fixed for first, fixed in hole.ranges)]
