"""The store: opens and migrates the database, loads the ledger, commits batches under an epoch.

Synchronous; the service calls it from one worker thread.
"""

import re
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from aggregator.books import RunBooks
from aggregator.cells import total
from aggregator.changes import Changes, EndedRun
from aggregator.failures import FailureRecord
from aggregator.history import Point, thinned
from aggregator.names import Latest
from aggregator.standings import Standing
from aggregator.store import rows
from protocol.errors import StoreError
from protocol.results import Result
from protocol.statistics import Statistics

BUSY_MILLISECONDS = 5_000
MEMORY = ":memory:"


class StaleEpochError(StoreError):
    """Another aggregator has taken the store over; this one must not write any more."""


class Access(Enum):
    """What a store is opened for."""

    OWN = "rwc"
    """To be an aggregator's: it is created and migrated."""

    CARE = "rw"
    """To be written beside an aggregator: it must exist, and is not migrated under its feet."""

    READ = "ro"
    """To be read only, as it is."""


class Store:
    """One database file.

    Parameters
    ----------
    path
        Where it is.
    access
        What for.

    Raises
    ------
    StoreError
        It cannot be opened, or another version of montemq wrote it.
    """

    def __init__(self, path: Path, access: Access = Access.OWN) -> None:
        self.path = path
        self._queries = _queries()
        try:
            if access is Access.OWN:
                _create(path)
            self._database = connect(path, access)
            if access is Access.OWN:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                    self._database.execute(f"PRAGMA {pragma}")
                self._migrate()
                with self._transaction():
                    self._run("create_store", id=uuid.uuid4().hex)
            elif (version := self._version()) != SCHEMA:
                self._check_version(version)
                raise StoreError(
                    f"the store {path} has schema {version}, this montemq works on {SCHEMA}: the "
                    "aggregator of this version migrates it when it starts"
                )
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

    def names(self) -> list[Latest]:
        """Return when the runs of each name last started and finished, the oldest name first."""
        return [Latest(**row) for row in self._run("names")]

    def standings(self) -> list[Standing]:
        """Return what is known of hosts."""
        return [Standing(**row) for row in self._run("hosts")]

    def readmit(self, host: str) -> bool:
        """Refuse a host no longer; say whether it was refused."""
        with self._transaction():
            return self._run("readmit", host=host).rowcount > 0

    def suspects(self, run: str) -> tuple[str, ...]:
        """Return the hosts that contributed to a run and were found wrong after it had ended."""
        return tuple(row["host"] for row in self._run("suspects", run=run))

    def books(self, run: str) -> RunBooks | None:
        """Return the books of any run, None where there is none."""
        kinds = ("cells", "segments", "failures", "contributors", "audits")
        with self._transaction("DEFERRED"):  # or half of it could be pruned meanwhile
            row = self._run("run", run=run).fetchone()
            if row is None:
                return None
            found = [self._run(f"{kind}_of_run", run=run).fetchall() for kind in kinds]
        return rows.books_from(row, *found)

    def result(self, run: str) -> Result | None:
        """Return the result of an ended run, None where there is none."""
        row = self._run("result", run=run).fetchone()
        if row is None or row["result"] is None:
            return None
        found = Result.model_validate_json(row["result"])
        return found.model_copy(update={"suspects": self.suspects(run)})

    def history(self, run: str, cell: int) -> list[Point]:
        """Return how a cell converged, without where it is now; empty where nothing is known."""
        return [rows.point_from(row) for row in self._run("history", run=run, cell=cell)]

    def statistics(self, run: str, cell: int) -> Statistics | None:
        """Return all that counts of a cell of a run that has ended, None where nothing does."""
        segments = self._run("segments_of_cell", run=run, cell=cell)
        return total(map(rows.statistics_from, segments))

    def failures(self, run: str) -> list[FailureRecord]:
        """Return the failures that are kept of any run, in the order in which they came."""
        return [rows.failure_from(row) for row in self._run("failures_of_run", run=run)]

    def prunable(self, before: float) -> list[str]:
        """Return the runs that ended before a time, in seconds since the epoch, and hold details.

        Details are all but id, definition, digest and result.
        """
        return [row["run"] for row in self._run("prunable", before=before)]

    def prune(self, run: str, before: float) -> bool:
        """Forget a run's details in one transaction; say whether it could still be pruned then."""
        with self._transaction():
            if not self._run("is_prunable", run=run, before=before).fetchone():
                return False
            for part in ("history", "failures", "audits", "contributors", "segments", "cells"):
                self._run(f"forget_{part}", run=run)
        return True

    def is_pruned(self, run: str) -> bool:
        """Say whether nothing but id, definition, digest and result is left of a run."""
        return self._run("holds_cells", run=run).fetchone() is None

    def definition_hash(self, run: str) -> bytes | None:
        """Return the hash that stands beside a run's definition, None where there is no run."""
        row = self._run("definition_hash", run=run).fetchone()
        return None if row is None else bytes(row["definition_hash"])

    def runs(self) -> list[str]:
        """Return the ids of all runs, in the order in which they were declared."""
        return [row["run"] for row in self._run("runs")]

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
            row = rows.run_row(books, changes.results.get(name))
            if name in changes.declared:
                self._run("create_run", **row, **rows.definition_row(books))
            self._run("save_run", **row)
        for run in changes.reopened:
            self._run("forget_failures", run=run)
        for query in ("empty_history", "discard_segments", "discard_contributors"):
            self._run_many(query, rows.emptied_rows(changes))
        self._run_many("save_cell", rows.cell_rows(changes))
        self._run_many("save_segment", rows.segment_rows(changes))
        self._run_many("save_contributor", rows.contributor_rows(changes))
        for query in ("discard_segments", "discard_contributors"):
            self._run_many(query, rows.discarded_rows(changes))
        self._run_many("discard_points_beyond", rows.ended_cell_rows(changes))
        saved, gone = rows.audit_rows(changes)
        self._run_many("save_audit", saved)
        self._run_many("discard_audit", gone)
        self._run_many("save_host", map(asdict, changes.standings.values()))
        for new in changes.points:
            self._run("save_point", **rows.point_row(new))
            if new.limit is not None:
                self._thin(new.run, new.cell, new.limit)
        for run, failure in changes.failures:
            self._run("save_failure", **rows.failure_row(run, failure))

    def _thin(self, run: str, cell: int, limit: int) -> None:
        present = [point.samples for point in self.history(run, cell)]
        for samples in set(present) - set(thinned(present, limit)):
            self._run("discard_point", run=run, cell=cell, samples=samples)

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

    def _run_many(self, query: str, values: Iterable[rows.Row]) -> None:
        self._database.executemany(self._queries[query], values)

    def _failed(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"the store {self.path} cannot be used: {error}")

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        try:
            self._database.execute(f"BEGIN {kind}")
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    def _migrate(self) -> None:
        with self._transaction():
            version = self._version()
            self._check_version(version)
            migrate(self._database, version, SCHEMA)

    def _version(self) -> int:
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    def _check_version(self, version: int) -> None:
        if version > SCHEMA:
            raise StoreError(
                f"the store {self.path} has schema {version}, this montemq knows "
                f"{SCHEMA}: it was written by a newer version"
            )


def connect(path: Path, access: Access) -> sqlite3.Connection:
    """Open a database without looking at what is in it.

    Raises
    ------
    sqlite3.Error
        It cannot be opened, or is not there.
    """
    place = MEMORY if path.name == MEMORY else f"{path.absolute().as_uri()}?mode={access.value}"
    database = sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False)
    database.row_factory = sqlite3.Row
    database.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    return database


def migrate(database: sqlite3.Connection, since: int, to: int) -> None:
    """Bring a database from one schema to a later one."""
    folder = files("aggregator.store") / "migrations"
    for number, name in enumerate(MIGRATIONS[since:to], start=since + 1):
        for statement in _statements((folder / name).read_text(encoding="utf-8")):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {number}")


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name != MEMORY:
        path.touch(mode=0o600)  # results are their owner's business


def _migrations() -> tuple[str, ...]:
    folder = files("aggregator.store") / "migrations"
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql")))


MIGRATIONS = _migrations()
SCHEMA = len(MIGRATIONS)
"""The number of migrations is the version of the schema."""


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
