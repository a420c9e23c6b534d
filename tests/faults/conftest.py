"""Every test of a fault is a row of ops/FAULTS.md, which a run with `--write-faults` writes.

A test says by the mark `fault` what it does and what must hold; the values of its parameters may
stand in braces. What it saw is told by the fixture `seen`, and by a site for the runs it answered.
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.settings import HEARTBEAT_SECONDS
from tests.support.fault_table import TABLE, Row, page, rows_of
from tests.support.stack_site import PEAK_MIB, Site

WRITE = "--write-faults"
ROWS, SEEN = pytest.StashKey[dict[str, Row]](), pytest.StashKey[list[str]]()
FILES = pytest.StashKey[set[str]]()
HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(WRITE, action="store_true", help="write ops/FAULTS.md from what is seen")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note all rows, those of tests that are then deselected too."""
    rows = (row for row in map(_row, items) if row is not None)
    config.stash[ROWS] = {row.test + row.fault: row for row in rows}
    config.stash[FILES] = {item.path.name for item in items}


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return whom to tell what a test has seen."""
    return request.node.stash.setdefault(SEEN, []).append  # type: ignore[no-any-return]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Note what a test has seen that ends well; of several with one row the first."""
    row = _row(item)
    if row is None:
        return (yield)
    values = getattr(item, "funcargs", {}).values()
    sites = [getattr(value, "site", value) for value in values]
    begun = [(site, len(site.answers)) for site in sites if isinstance(site, Site)]
    done = yield
    told = item.stash.setdefault(SEEN, [])
    for site, before in begun:
        if site.answers[before:]:
            told += [*site.answers[before:], site.memory]
    known = item.config.stash[ROWS]
    key = row.test + row.fault
    if not known[key].seen:
        known[key] = replace(row, seen="; ".join(told) or "it held")
    return done


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption(WRITE, default=False):
        return
    rows = session.config.stash[ROWS]
    old = {row.test + row.fault: row for row in rows_of(TABLE.read_text(encoding="utf-8"))}
    # A test that did not run now keeps what it saw when it did.
    files = session.config.stash[FILES]
    merged = [row if row.seen else old.get(key, row) for key, row in rows.items()]
    merged += [row for row in old.values() if row.file not in files]
    text = page(merged, mib=PEAK_MIB, seconds=2 * HEARTBEAT_SECONDS)
    TABLE.write_text(text, encoding="utf-8")


def _row(item: pytest.Item) -> Row | None:
    mark = item.get_closest_marker("fault")
    if mark is None or not isinstance(item, pytest.Function):
        return None
    values = item.callspec.params if hasattr(item, "callspec") else {}
    fault, *holds = (text.format(**values) for text in mark.args)
    test = f"{item.path.relative_to(HERE)}::{item.originalname}"
    return Row(test, fault, "; ".join(holds), "")
