"""ops/FAULTS.md has a row for each fault that tests make, and no others."""

import pytest

from tests.faults.conftest import FILES, HERE, ROWS
from tests.support.fault_table import TABLE, Row, page, rows_of


def without_what_was_seen(row: Row) -> tuple[str, str, str]:
    return row.test, row.fault, row.holds


def test_the_table_has_the_rows_of_the_tests_that_there_are(request: pytest.FixtureRequest) -> None:
    real = {path.name for path in HERE.glob("test_*.py") if not path.match("*simulation.py")}
    if not real <= request.config.stash[FILES]:
        pytest.skip("only a run of all faults of real processes knows all rows")
    kept = [*rows_of(TABLE.read_text(encoding="utf-8"))]
    assert sorted(map(without_what_was_seen, kept)) == sorted(
        map(without_what_was_seen, request.config.stash[ROWS].values())
    ), "`./ops/test --slow tests/faults --write-faults` writes it anew"
    assert all(row.seen for row in kept)


def test_a_page_gives_the_rows_back_that_it_was_written_from() -> None:
    rows = [
        Row("b.py::test_b", "a fault", "an answer; a metric", "1 → 2"),
        Row("a.py::test_a", "SIGKILL", "an answer", "seen"),
    ]
    assert [*rows_of(page(rows, mib=1, seconds=2))] == sorted(rows)
