"""The store: opens and migrates the database, loads the ledger, commits batches under an epoch.

Synchronous; the service calls it from one worker thread.
"""

import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from aggregator.books import RunBooks
from aggregator.ledger import Changes, EndedRun
from aggregator.store import rows
from protocol.errors import StoreError
from protocol.results import Result

BUSY_MILLISECONDS = 5_000
MEMORY = ":memory:"


class StaleEpochError(StoreError):
    """Another aggregator has taken the store over; this one must not write any more."""


class Store:
    """One database file.

    Parameters
    ----------
    path
        Created when it does not exist.

    Raises
    ------
    StoreError
        It cannot be opened, or a newer montemq wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queries = _queries()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.name != MEMORY:
                path.touch(mode=0o600)  # results are their owner's business
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            self._migrate()
            with self._transaction():
                self._run("create_store", id=uuid.uuid4().hex)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def id(self) -> str:
        """The name by which the broker knows this store."""
        return str(self._run("store").fetchone()["id"])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def take_over(self) -> int:
        """Raise the epoch, so that every older aggregator is fenced off, and return it."""
        with self._transaction():
            return int(self._run("raise_epoch").fetchone()["epoch"])

    def active_runs(self) -> list[RunBooks]:
        """Return the books of all runs that have not ended."""
        names = [row["run"] for row in self._run("active_runs").fetchall()]
        return [books for name in names if (books := self.books(name)) is not None]

    def ended_runs(self) -> list[EndedRun]:
        """Return a summary of each run that has ended."""
        return [rows.ended_from(row) for row in self._run("ended_runs")]

    def books(self, run: str) -> RunBooks | None:
        """Return the books of any run, None where there is none."""
        row = self._run("run", run=run).fetchone()
        if row is None:
            return None
        parts = ("cells_of_run", "segments_of_run", "failures_of_run")
        return rows.books_from(row, *(self._run(part, run=run).fetchall() for part in parts))

    def result(self, run: str) -> Result | None:
        """Return the result of an ended run, None where there is none."""
        row = self._run("result", run=run).fetchone()
        if row is None or row["result"] is None:
            return None
        return Result.model_validate_json(row["result"])

    def commit(self, changes: Changes, epoch: int) -> None:
        """Write a batch in one transaction.

        Raises
        ------
        StaleEpochError
            Somebody took over; nothing was written.
        StoreError
            The database refused (disk full, I/O error); nothing was written.
        """
        with self._transaction():
            self.check_epoch(epoch)
            self._write(changes)

    def _write(self, changes: Changes) -> None:
        for name, books in changes.runs.items():
            result = changes.results.get(name)
            text = result.model_dump_json() if result is not None else None
            row = rows.run_row(books, text)
            if name in changes.declared:
                self._run("create_run", **row, **rows.definition_row(books))
            self._run("save_run", **row)
        for run in changes.reopened:
            self._run("forget_failures", run=run)
        self._database.executemany(self._queries["save_cell"], rows.cell_rows(changes))
        self._database.executemany(self._queries["save_segment"], rows.segment_rows(changes))
        for run, failure in changes.failures:
            self._run("save_failure", **rows.failure_row(run, failure))

    def check_epoch(self, epoch: int | None) -> None:
        """Make sure that nobody has taken over since this epoch; None for never active so far.

        Raises
        ------
        StaleEpochError
            Somebody has.
        """
        present = self._run("store").fetchone()["epoch"]
        if epoch not in (None, present):
            raise StaleEpochError(
                f"another aggregator has taken the store {self.path} over (epoch {present}, "
                f"this one had {epoch}); nothing was written"
            )

    def _run(self, query: str, **values: Any) -> sqlite3.Cursor:
        try:
            return self._database.execute(self._queries[query], values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"the store {self.path} cannot be used: {error}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    def _migrate(self) -> None:
        migrations = _migrations()
        with self._transaction():
            version: int = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version > len(migrations):
                raise StoreError(
                    f"the store {self.path} has schema {version}, this montemq knows "
                    f"{len(migrations)}: it was written by a newer version"
                )
            for number, script in enumerate(migrations[version:], start=version + 1):
                for statement in _statements(script):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {number}")


def _migrations() -> list[str]:
    folder = files("aggregator.store") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(folder / name).read_text(encoding="utf-8") for name in names]


def _queries() -> dict[str, str]:
    text = (files("aggregator.store") / "queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))


def _statements(script: str) -> Iterator[str]:
    """Split a script where SQLite itself says that a statement is complete."""
    statement = ""
    for line in script.splitlines():
        statement += re.sub(r"--.*", "", line) + "\n"
        if statement.strip() and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
