"""What an operator does to a store beside the aggregator that uses it: copy it, and check it."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from aggregator.books import RunBooks
from aggregator.result import digest
from aggregator.store.sqlite import Access, Store, connect
from protocol.errors import MontemqError, StoreError
from protocol.messages import RunState


def backup(store: Path, target: Path) -> None:
    """Copy a store as it is at one moment; whoever uses it goes on meanwhile.

    Parameters
    ----------
    store
        The database file.
    target
        The copy: one file, only for its owner, without what was deleted; it appears when it is
        complete and on disk.

    Raises
    ------
    StoreError
        The store cannot be read, the target exists, or it cannot be written.
    """
    if target.exists():
        raise StoreError(f"the backup {target} exists already; it is not overwritten")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600, exist_ok=False)
        with contextlib.closing(connect(store, Access.READ)) as database:
            database.execute("VACUUM INTO ?", (str(draft.absolute()),))
        _to_disk(draft)
        draft.rename(target)
        _to_disk(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"the store {store} cannot be copied to {target}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage(path: Path) -> Iterator[str]:
    """Yield what SQLite finds wrong with a database file, nothing where it is sound.

    Raises
    ------
    StoreError
        It cannot be read at all.
    """
    try:
        with contextlib.closing(connect(path, Access.READ)) as database:
            for (finding,) in database.execute("PRAGMA integrity_check"):
                if finding != "ok":
                    yield f"the file is damaged: {finding}"
            for row in database.execute("PRAGMA foreign_key_check"):
                yield f"table {row['table']} has a row of a run that is not there"
    except sqlite3.Error as error:
        raise StoreError(f"the store {path} cannot be read: {error}") from error


def contradictions(store: Store, run: str) -> Iterator[str]:
    """Yield where what is stored of a run contradicts itself; what was pruned is not looked for.

    Raises
    ------
    StoreError
        The database refuses to be read.
    """
    try:
        books, found = store.books(run), store.result(run)
    except StoreError:
        raise
    except (MontemqError, ValueError, LookupError) as error:  # that is not what was written
        yield f"run {run} cannot be read: {' '.join(str(error).split())[:200]}"
        return
    if books is None:
        return
    stored = store.definition_hash(run)
    if books.definition.hash != stored:
        yield f"run {run} has another definition than the hash says that stands beside it"
    if store.is_pruned(run):
        return
    for number, cell in enumerate(books.cells):
        sums = cell.statistics()
        if (sums.blocks if sums else 0) != cell.counted:
            yield f"run {run}, cell {number}: {cell.counted} blocks count, the sums hold others"
    if books.state is RunState.FINISHED:
        yield from _digest(books, None if found is None else found.digest)


def _digest(books: RunBooks, told: str | None) -> Iterator[str]:
    sums = [cell.statistics() for cell in books.cells]
    if digest(books.definition.hash, sums) != told:
        yield f"run {books.run}: the digest of its result is not that of its sums"
