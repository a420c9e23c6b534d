"""The store when SQLite refuses: nothing is written in part, and it can be used afterwards."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.ledger import Ledger
from aggregator.store import sqlite
from aggregator.store.sqlite import Store
from protocol.errors import StoreError
from tests.support.run_values import RUN, declare, definition, partial

NOW = 100.0
OF = definition(cells=300)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


def declared(store: Store) -> Ledger:
    """Return a ledger whose run is in the store, with nothing merged."""
    ledger = Ledger(store.take_over())
    ledger.declare(declare(OF), NOW)
    store.commit(ledger.take_changes(), ledger.epoch)
    return ledger


def merge_all_cells(ledger: Ledger) -> None:
    for cell in range(len(OF.cells)):
        ledger.partial(partial(OF, 0, 4, cell), NOW)


def rows(path: Path) -> list[int]:
    database = sqlite3.connect(path)
    counts = [
        database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our names
        for table in ("runs", "cells", "segments", "failures")
    ]
    database.close()
    return counts


def limit_pages(store: Store, more: int) -> None:
    """Let the file grow by so many pages; SQLite then says that the disk is full."""
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages + more}")


@pytest.mark.parametrize("more", [0, 1, 5, 10])
def test_a_full_disk_in_the_middle_of_a_commit_leaves_nothing_of_it(
    store: Store, path: Path, more: int
) -> None:
    ledger = declared(store)
    merge_all_cells(ledger)
    changes = ledger.take_changes()
    limit_pages(store, more)
    with pytest.raises(StoreError, match="cannot be used: database or disk is full"):
        store.commit(changes, ledger.epoch)
    assert rows(path) == [1, 0, 0, 0]
    assert [books.merged_blocks for books in store.active_runs()] == [0]
    limit_pages(store, 10_000)
    store.commit(changes, ledger.epoch)
    assert rows(path) == [1, 300, 300, 0]
    assert store.active_runs() == list(ledger.active.values())


def test_a_take_over_on_a_full_disk_is_told_and_the_old_epoch_stays(store: Store) -> None:
    ledger = declared(store)
    store._database.execute("PRAGMA query_only = ON")  # what a read-only file system comes to
    with pytest.raises(StoreError, match="cannot be used: attempt to write a readonly database"):
        store.take_over()
    store._database.execute("PRAGMA query_only = OFF")
    merge_all_cells(ledger)
    store.commit(ledger.take_changes(), ledger.epoch)
    assert store.take_over() == ledger.epoch + 1


def test_a_locked_database_is_told_and_the_commit_can_be_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MILLISECONDS", 50)
    with Store(path) as store:
        ledger = declared(store)
        merge_all_cells(ledger)
        changes = ledger.take_changes()
        somebody = sqlite3.connect(path, isolation_level=None)
        somebody.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="cannot be used: database is locked"):
            store.commit(changes, ledger.epoch)
        somebody.execute("ROLLBACK")
        somebody.close()
        assert rows(path) == [1, 0, 0, 0]
        store.commit(changes, ledger.epoch)
        assert store.active_runs()[0].merged_blocks == 4 * len(OF.cells)


def test_an_error_of_ours_in_the_middle_of_a_commit_leaves_nothing_of_it(
    store: Store, path: Path
) -> None:
    ledger = declared(store)
    merge_all_cells(ledger)
    changes = ledger.take_changes()
    ledger.active[RUN].cells[299].segments[0] = object()  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        store.commit(changes, ledger.epoch)
    assert rows(path) == [1, 0, 0, 0]
    assert store.take_over() == ledger.epoch + 1


def test_a_damaged_file_is_told_and_not_taken_for_an_empty_one(path: Path) -> None:
    with Store(path) as store:
        ledger = declared(store)
        merge_all_cells(ledger)
        store.commit(ledger.take_changes(), ledger.epoch)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"the store .* cannot be"), Store(path) as store:
        store.active_runs()
