"""Backup, check, prune, export and migrations on real database files, with writers beside them."""

import csv
import io
import json
import os
import sqlite3
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aggregator.books import RunBooks
from aggregator.ledger import Ledger
from aggregator.result import digest
from aggregator.store.sqlite import SCHEMA, Access, Store, migrate
from ops.commands.store import store as store_command
from protocol.definition import Definition
from protocol.errors import StoreError
from protocol.messages import RunState
from tests.support.run_values import declare, definition, failure, partial

NOW = 1_700_000_000.0
DAY = 86_400.0
LONG_AGO = NOW + DAY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def of() -> Definition:
    return definition(cells=2, outputs=("x", "y"))


@pytest.fixture
def ledger(path: Path, of: Definition) -> Ledger:
    """Return what a store at this path holds: runs that finished, were cancelled, and go on."""
    with Store(path) as opened:
        ledger = Ledger(opened.take_over())
        for run in ("done", "off", "going"):
            ledger.declare(declare(of, run), NOW)
            ledger.partial(partial(of, 0, 4, run=run), NOW + 1)
        ledger.failure(failure(of, 8, 12, run="off"), NOW + 1)
        finish(ledger, of, "done", NOW + 2)
        ledger.cancel("off", NOW + 3)
        opened.commit(ledger.take_changes(), ledger.epoch)
    return ledger


def finish(ledger: Ledger, of: Definition, run: str, at: float) -> None:
    bounds = (0, *of.checkpoints)
    for cell in range(len(of.cells)):
        for start, stop in pairwise(bounds):
            first = 4 if (cell, start) == (0, 0) else start
            ledger.partial(partial(of, first, stop, cell, run=run), at)
    assert run in ledger.ended


def call(path: Path, *arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(
        store_command, [command, "--store", str(path), *rest], catch_exceptions=False
    )


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def sums(books: RunBooks | None) -> str:
    assert books is not None
    return digest(books.definition.hash, [cell.statistics() for cell in books.cells])


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    tables = ("store", "runs", "cells", "segments", "failures", "history")
    return {table: rows(path, f"SELECT * FROM {table}") for table in tables}  # noqa: S608


# backup and restore


def test_a_backup_holds_all_that_was_committed_while_somebody_writes(
    path: Path, ledger: Ledger, of: Definition, tmp_path: Path
) -> None:
    target, stop = tmp_path / "copy.sqlite", threading.Event()
    written = threading.Event()

    def write() -> None:
        with Store(path) as opened:
            for start in range(4, 4_000):
                if stop.is_set():
                    return
                if start < of.blocks:
                    ledger.partial(partial(of, start, start + 1, run="going"), NOW + 5)
                else:
                    ledger.declare(declare(of, f"run-{start}"), NOW + 5)
                opened.commit(ledger.take_changes(), ledger.epoch)
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(40)
        done = call(path, "backup", str(target))
    finally:
        stop.set()
        writer.join()
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{path} is copied to {target}")
    assert call(target, "check").exit_code == 0
    with Store(target, Access.READ) as copy, Store(path, Access.READ) as original:
        assert copy.id == original.id
        assert sums(copy.books("done")) == sums(original.books("done"))
        going = copy.books("going")
        assert going is not None
        assert len(going.cells[0].merged) > 4


def test_a_backup_is_private_complete_and_never_overwrites(
    path: Path, ledger: Ledger, tmp_path: Path
) -> None:
    del ledger
    target = tmp_path / "copy.sqlite"
    call(path, "backup", str(target))
    assert target.stat().st_mode & 0o777 == 0o600
    assert contents(target) == contents(path)
    before = target.read_bytes()
    with pytest.raises(StoreError, match="exists already"):
        call(path, "backup", str(target))
    assert target.read_bytes() == before
    with pytest.raises(StoreError, match="cannot be copied"):
        call(tmp_path / "absent.sqlite", "backup", str(tmp_path / "other.sqlite"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.sqlite", "store.sqlite"]


def test_a_restored_backup_goes_on_and_fences_off_whoever_had_the_store_before(
    path: Path, ledger: Ledger, of: Definition, tmp_path: Path
) -> None:
    target = tmp_path / "copy.sqlite"
    call(path, "backup", str(target))
    path.write_bytes(b"a broken disk")
    path.unlink()
    target.rename(path)
    with Store(path) as opened:
        fresh = Ledger(opened.take_over(), opened.active_runs(), opened.ended_runs())
        assert fresh.ended == ledger.ended
        finish(fresh, of, "going", NOW + 9)
        changes = fresh.take_changes()
        opened.commit(changes, fresh.epoch)
        assert changes.results["going"].digest == sums(opened.books("done"))
        with pytest.raises(StoreError, match="taken the store"):
            opened.check_epoch(ledger.epoch)


# check


def test_a_sound_store_is_said_to_be_sound(path: Path, ledger: Ledger) -> None:
    del ledger
    done = call(path, "check")
    assert (done.exit_code, done.stdout) == (0, f"{path}: 3 runs; 0 wrong\n")


DAMAGES = {
    "UPDATE segments SET statistics = (SELECT statistics FROM segments WHERE run = 'going') "
    "WHERE run = 'done' AND cell = 0 AND segment = 0": "the sums hold others",
    'UPDATE runs SET result = replace(result, \'"digest":"\', \'"digest":"0\') '
    "WHERE run = 'done'": "the digest of its result is not that of its sums",
    "DELETE FROM segments WHERE run = 'going'": "run going, cell 0: 4 blocks count",
    "UPDATE runs SET definition_hash = x'00' WHERE run = 'off'": "run off has another definition",
    "UPDATE runs SET definition = x'00' WHERE run = 'off'": "run off cannot be read",
    "UPDATE cells SET cell = 99 WHERE run = 'off'": "run off cannot be read",
    "UPDATE segments SET run = 'nobody' WHERE run = 'going'": "a row of a run that is not there",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_contradicts_itself_is_found(path: Path, ledger: Ledger, damage: str) -> None:
    del ledger
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(damage)
    done = call(path, "check", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert not found["ok"]
    assert any(DAMAGES[damage] in finding for finding in found["findings"])


def test_a_file_with_broken_pages_is_found_or_refused(path: Path, ledger: Ledger) -> None:
    del ledger
    with path.open("r+b") as file:
        file.seek(4096 + 100)
        file.write(os.urandom(4096))
    try:
        done = call(path, "check")
    except StoreError:
        return
    assert done.exit_code == 1


def test_checking_changes_nothing_and_creates_nothing(path: Path, ledger: Ledger) -> None:
    del ledger
    before = contents(path)
    call(path, "check")
    assert contents(path) == before
    absent = path.with_name("absent.sqlite")
    with pytest.raises(StoreError, match="cannot be read"):
        call(absent, "check")
    assert not absent.exists()


# prune


def test_pruning_keeps_id_definition_digest_and_result_and_leaves_other_runs_alone(
    path: Path, ledger: Ledger, of: Definition
) -> None:
    del ledger
    with Store(path) as opened:
        kept, going = opened.result("done"), opened.books("going")
    shown = call(path, "prune", "--older-than", "1d", "--dry-run")
    assert shown.stdout.split() == ["done", "off"]
    assert rows(path, "SELECT COUNT(*) FROM cells WHERE run = 'done'") == [(2,)]
    done = call(path, "prune", "--older-than", "1d")
    assert done.stdout.split() == ["done", "off"]
    assert call(path, "prune", "--older-than", "1d").stdout == ""
    for table in ("cells", "segments", "failures", "history"):
        query = f"SELECT COUNT(*) FROM {table} WHERE run <> 'going'"  # noqa: S608
        assert rows(path, query) == [(0,)]
    assert call(path, "check").stdout == (
        f"{path}: 3 runs, 2 of them without sums to compare; 0 wrong\n"
    )
    with Store(path) as opened:
        assert opened.result("done") == kept
        assert opened.books("going") == going
        fresh = Ledger(opened.take_over(), opened.active_runs(), opened.ended_runs())
        again = fresh.declare(declare(of, "done"), NOW + DAY)
        assert again.state is RunState.FINISHED


def test_young_runs_are_not_pruned(path: Path, ledger: Ledger) -> None:
    del ledger
    before = contents(path)
    assert call(path, "prune", "--older-than", "40000d").stdout == ""
    assert contents(path) == before


def test_a_pruned_run_that_is_resumed_is_computed_again_to_the_same_digest(
    path: Path, ledger: Ledger, of: Definition
) -> None:
    call(path, "prune", "--older-than", "1d")
    with Store(path) as opened:
        fresh = Ledger(opened.take_over(), opened.active_runs(), opened.ended_runs())
        books = opened.books("off")
        assert books is not None
        fresh.reopen(books, LONG_AGO)
        term = fresh.declare(declare(of, "off"), LONG_AGO).term
        assert term > 1, "attempts are never used again"
        fresh.partial(partial(of, 0, 4, run="off"), LONG_AGO)
        finish(fresh, of, "off", LONG_AGO)
        changes = fresh.take_changes()
        opened.commit(changes, fresh.epoch)
        done = opened.result("done")
        assert done is not None
        assert changes.results["off"].digest == done.digest
    assert call(path, "check").exit_code == 0
    del ledger


def test_a_run_that_is_resumed_just_as_it_is_pruned_loses_nothing(
    path: Path, ledger: Ledger
) -> None:
    with Store(path) as opened:
        fresh = Ledger(opened.take_over(), opened.active_runs(), opened.ended_runs())
        books = opened.books("off")
        assert books is not None
        fresh.reopen(books, LONG_AGO)
        call(path, "prune", "--older-than", "1d")
        opened.commit(fresh.take_changes(), fresh.epoch)
        found = opened.books("off")
        assert found is not None
        assert [cell.merged for cell in found.cells] == [cell.merged for cell in books.cells]
        assert sums(found) == sums(books)
    assert call(path, "check").exit_code == 0
    del ledger


# export


def test_an_export_holds_every_result_that_there_is(path: Path, ledger: Ledger) -> None:
    del ledger
    lines = call(path, "export").stdout.splitlines()
    with Store(path) as opened:
        expected = [opened.result(run) for run in ("done", "off")]
    assert [json.loads(line) for line in lines] == [
        result.model_dump(mode="json") for result in expected if result is not None
    ]


def test_a_table_has_a_line_for_each_estimate_at_full_precision(path: Path, ledger: Ledger) -> None:
    del ledger
    text = call(path, "export", "--format", "csv").stdout
    found = [row for row in csv.DictReader(io.StringIO(text)) if row["run"] == "done"]
    with Store(path) as opened:
        result = opened.result("done")
    assert result is not None
    estimates = [(n, o, e) for n, c in enumerate(result.cells) for o, e in c.outputs.items()]
    assert len(found) == len(estimates) == 4
    for row, (number, output, estimate) in zip(found, estimates, strict=True):
        assert (row["cell"], row["output"], row["digest"]) == (str(number), output, result.digest)
        assert json.loads(row["params"]) == result.cells[number].params
        assert float(row["mean"]) == estimate.mean


# migrations


@pytest.fixture(params=range(1, SCHEMA))
def older(request: pytest.FixtureRequest, path: Path, ledger: Ledger) -> Path:
    """Return the store as an older version would have written it."""
    del ledger
    older = path.with_name("older.sqlite")
    with closing(sqlite3.connect(older, isolation_level=None)) as database:
        migrate(database, 0, request.param)
        database.execute("ATTACH ? AS newer", (str(path),))
        for (table,) in database.execute(
            "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name = 'runs' DESC"
        ).fetchall():
            columns = ", ".join(
                row[1] for row in database.execute(f"PRAGMA main.table_info({table})")
            )
            database.execute(
                f"INSERT INTO main.{table} ({columns}) "  # noqa: S608 - names of our own tables
                f"SELECT {columns} FROM newer.{table}"
            )
    return older


def test_a_store_of_every_older_version_is_migrated_with_all_its_sums(
    older: Path, path: Path, ledger: Ledger, of: Definition
) -> None:
    with Store(path, Access.READ) as newer:
        expected = {run: sums(newer.books(run)) for run in newer.runs()}
        results = {run: newer.result(run) for run in newer.runs()}
    with Store(older) as opened:
        assert {run: sums(opened.books(run)) for run in opened.runs()} == expected
        assert {run: opened.result(run) for run in opened.runs()} == results
        fresh = Ledger(opened.take_over(), opened.active_runs(), opened.ended_runs())
        assert {run: e.definition_hash for run, e in fresh.ended.items()} == {
            run: e.definition_hash for run, e in ledger.ended.items()
        }
        finish(fresh, of, "going", NOW + 9)
        changes = fresh.take_changes()
        opened.commit(changes, fresh.epoch)
        assert changes.results["going"].digest == expected["done"]
    assert call(older, "check").exit_code == 0


def test_care_never_migrates_a_store_under_an_older_aggregator(older: Path) -> None:
    for command in (("prune", "--older-than", "1d"), ("check",), ("export",)):
        with pytest.raises(StoreError, match="the aggregator of this version migrates it"):
            call(older, *command)
    target = older.with_name("copy.sqlite")
    assert call(older, "backup", str(target)).exit_code == 0
    for file in (older, target):
        assert rows(file, "PRAGMA user_version") != [(SCHEMA,)]
