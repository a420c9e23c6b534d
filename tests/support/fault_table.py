"""The table of faults in ops/FAULTS.md, as values: what was done, what held, what was seen."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).parents[2] / "ops" / "FAULTS.md"

ANSWER = "every block counts once; the undisturbed digest"
GOES_ON = "goes on within two heartbeats"
MOVES = "the matching metric moves"
REFUSED = "refused and counted; nothing stops"

HEAD = """\
# Faults

What the tests in `tests/faults` do to a real RabbitMQ and to real processes of montemq, what must
hold all the same, and what the run saw that wrote this page: `./ops/test --slow tests/faults
--write-faults`. Every digest is compared with one that is computed from the run file alone, without
a broker; and the ranges in the ledger are compared with the sums beside them. No service that is
there at the end may ever have taken more than {mib} MiB of memory, nor any slot of a consumer, what
it shares with other slots included; the most of services and of slots is told. Two heartbeats are
{seconds} seconds.

| fault | must hold | seen | test |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, order=True)
class Row:
    """One fault."""

    test: str
    fault: str
    holds: str
    seen: str

    @property
    def file(self) -> str:
        return self.test.partition("::")[0]

    def line(self) -> str:
        return f"| {self.fault} | {self.holds} | {self.seen} | `{self.test}` |"


def page(rows: Iterable[Row], *, mib: int, seconds: int) -> str:
    """Return the page, its rows in the order of the tests' files."""
    lines = [f"{row.line()}\n" for row in sorted(rows)]
    return HEAD.format(mib=mib, seconds=seconds) + "".join(lines)


def rows_of(text: str) -> Iterator[Row]:
    """Yield the rows of a page."""
    for line in text.splitlines():
        parts = [part.strip() for part in line.strip("|").split(" | ")]
        if line.endswith("` |"):
            fault, holds, seen, test = parts
            yield Row(test.strip("`"), fault, holds, seen)
