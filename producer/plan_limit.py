"""What of a planned run is computed before its time limit: numbers in, numbers out.

Blocks are issued in the order of their segments, whatever the cell, and the limit ends each cell at
its last complete checkpoint.
"""

from collections.abc import Callable, Sequence

from producer.plan_cell import CellPlan, Range, Rule, ended_cell


def cut_cells(cells: tuple[CellPlan, ...], rule: Rule, computed: Range) -> tuple[CellPlan, ...]:
    """Return what becomes of cells of which so many core seconds are computed together.

    Parameters
    ----------
    cells
        As they would be without the limit.
    rule
        Their checkpoints.
    computed
        Core seconds, one number for each of what the cells may take.
    """
    work = total([cell.core_seconds for cell in cells])
    if computed == work:
        return cells
    ends = {
        which: _ended_blocks(cells, rule, which, getattr(computed, which))
        for which in Range.model_fields
    }
    return tuple(
        ended_cell(
            _ordered(*(ends[which][number] for which in ("expected", "low", "high"))),
            cell.block_seconds,
            rule,
            reaches=cell.reaches
            and ends["expected"][number] * rule.block_size >= cell.samples.expected,
        )
        for number, cell in enumerate(cells)
    )


def _ended_blocks(
    cells: tuple[CellPlan, ...], rule: Rule, which: str, core_seconds: float
) -> list[int]:
    """Return after how many blocks each cell ends."""
    wanted = [round(getattr(cell.samples, which) / rule.block_size) for cell in cells]
    ends = [0] * len(cells)
    left = core_seconds * (1 + 1e-9)  # what is just enough shall be enough
    start, going = 0, list(range(len(cells)))
    for stop in rule.checkpoints:
        going = [number for number in going if wanted[number] >= stop]
        for number in going:
            left -= (stop - start) * cells[number].block_seconds
            if left < 0:
                return ends
            ends[number] = stop
        start = stop
    return ends


def _ordered(expected: float, low: float, high: float) -> Range:
    """Return a range; where others end sooner, a cell may get further than expected."""
    found = (expected, low, high)
    return Range(expected=expected, low=min(found), high=max(found))


def ranged(of: Callable[[str], float]) -> Range:
    """Return the range of what a function gives for `expected`, `low` and `high`."""
    return Range(expected=of("expected"), low=of("low"), high=of("high"))


def total(ranges: Sequence[Range]) -> Range:
    """Return the sum of ranges."""
    return ranged(lambda which: sum(getattr(one, which) for one in ranges))
