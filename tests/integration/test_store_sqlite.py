"""The store on a real SQLite file: what is committed comes back, to the bit."""

import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from aggregator.books import RunBooks
from aggregator.cells import Ending
from aggregator.history import NewPoint, Point, thinned
from aggregator.ledger import Ledger
from aggregator.result import digest
from aggregator.store.sqlite import StaleEpochError, Store
from protocol.definition import Definition, Lane, Method, Sampling, Stop
from protocol.errors import StoreError
from protocol.histogram import Tally
from protocol.messages import FailureKind, Partial, decode, encode
from protocol.model import moments
from protocol.results import EndedBy
from protocol.statistics import collect
from tests.support.run_values import RUN, declare, definition, failure, partial

NOW = 1_700_000_000.25


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as store:
        yield store


def busy_ledger(epoch: int, of: Definition) -> Ledger:
    """Return a ledger with two runs that go on and one that was cancelled."""
    ledger = Ledger(epoch)
    for run in (RUN, "run-2", "ended"):
        ledger.declare(declare(of, run), NOW)
    for number, (cell, start, stop) in enumerate(
        ((0, 0, 32), (1, 5, 9), (1, 40, 48), (0, 50, 60), (1, 20, 22))
    ):
        ledger.partial(partial(of, start, stop, cell, engine=f"e{number}"), NOW + number)
    ledger.failure(failure(of, 60, 64, attempt=2**64 - 1, text="it's \0 'odd' ☃"), NOW)
    ledger.failure(failure(of, 9, 12, 1, kind=FailureKind.UNSUPPORTED_MODEL, host="b"), NOW)
    ledger.partial(partial(of, 0, 4, run="ended"), NOW)
    ledger.cancel("ended", NOW + 7)
    return ledger


def test_books_come_back_to_the_bit_after_closing_the_file(path: Path) -> None:
    of = definition(cells=2, outputs=("x", "y"))
    with Store(path) as store:
        ledger = busy_ledger(store.take_over(), of)
        expected = dict(ledger.active)
        store.commit(ledger.take_changes(), ledger.epoch)
    with Store(path) as store:
        found = {books.run: books for books in store.active_runs()}
    assert found == expected
    for run, books in expected.items():
        sums = [[cell.statistics() for cell in either.cells] for either in (books, found[run])]
        assert digest(of.hash, sums[0]) == digest(of.hash, sums[1])


def test_ended_runs_come_back_as_summaries_with_their_results(path: Path) -> None:
    of = definition(cells=2)
    with Store(path) as store:
        ledger = busy_ledger(store.take_over(), of)
        changes = ledger.take_changes()
        store.commit(changes, ledger.epoch)
        expected = changes.results["ended"]
    with Store(path) as store:
        [ended] = store.ended_runs()
        assert ended == ledger.ended["ended"]
        assert store.result("ended") == expected
        assert store.result(RUN) is None
        assert store.result("other") is None
        assert store.books("other") is None
        cancelled = store.books("ended")
    assert cancelled is not None
    assert cancelled.merged_blocks == 4


def test_many_small_commits_give_the_same_books_as_one(path: Path, tmp_path: Path) -> None:
    of = definition()
    with Store(path) as one, Store(tmp_path / "many.sqlite") as many:
        for store, often in ((one, False), (many, True)):
            ledger = Ledger(store.take_over())
            ledger.declare(declare(of), NOW)
            for start in (40, 0, 20, 4, 60, 8):
                ledger.partial(partial(of, start, start + 4), NOW)
                if often:
                    store.commit(ledger.take_changes(), ledger.epoch)
            store.commit(ledger.take_changes(), ledger.epoch)
        assert one.active_runs() == many.active_runs()


def test_every_field_of_a_definition_survives(store: Store) -> None:
    of = Definition(
        model="demo",
        model_version=3,
        outputs=("a", "b"),
        cells=({"f": 0.1, "i": -(2**63), "s": "☃", "b": True, "t": (1.5, 2.0)},),
        seed=2**64 - 1,
        block_size=1024,
        sampling=Sampling(method=Method.SOBOL, common_random_numbers=True, control_variates=True),
        controls=("c",),
        bump={"f": 0.5},
        quantiles=(0.01, 0.5),
        stop=Stop(
            samples=100_000, confidence=0.99, standard_error=0.1, outputs=("b_bump",), seconds=5.5
        ),
    )
    books = RunBooks(RUN, of, "pool2", Lane.HIGH, NOW, term=2**31, name="nightly-{date}")
    ledger = Ledger(store.take_over())
    ledger.changes.runs[RUN] = books
    ledger.changes.declared.add(RUN)
    store.commit(ledger.take_changes(), ledger.epoch)
    [found] = store.active_runs()
    assert found == books
    assert found.definition.hash == of.hash
    assert type(found.definition.cells[0]["b"]) is bool


def test_histograms_survive_however_many_bins_their_merge_has(store: Store) -> None:
    fields = definition().model_dump() | {"quantiles": (0.5,)}
    of = Definition.model_validate(fields)
    ledger = Ledger(store.take_over())
    ledger.declare(declare(of), NOW)
    expected = 0
    # Each partial has its own 4,096 bins: the merged histogram outgrows any message.
    for number in range(3):
        exponents = np.arange(64 * number, 64 * (number + 1)).repeat(64)
        values = 2.0**exponents * (1 + np.tile(np.arange(64), 64) / 64)
        tally = Tally(1)
        tally.add(values[np.newaxis])
        blocks = values.reshape(4, 1, -1)
        found = collect([moments(block, 1) for block in blocks], 1024, tally)
        message = partial(of, 4 * number, 4 * number + 4, statistics=found)
        ledger.partial(decode(message.type, encode(message), Partial), NOW)
        store.commit(ledger.take_changes(), ledger.epoch)
        expected += 4096
    [books] = store.active_runs()
    statistics = books.cells[0].statistics()
    assert statistics is not None
    assert [len(one.arrays()[0]) for one in statistics.histograms] == [expected]


def test_failures_of_a_reopened_run_are_forgotten(store: Store) -> None:
    of = definition()
    ledger = Ledger(store.take_over())
    ledger.declare(declare(of), NOW)
    for attempt in (1, 2, 3):
        ledger.failure(failure(of, 0, 4, attempt=attempt), NOW)
    store.commit(ledger.take_changes(), ledger.epoch)
    books = store.books(RUN)
    assert books is not None
    assert len(books.failures) == 3
    ledger.reopen(books, NOW)
    ledger.failure(failure(of, 0, 4, attempt=9), NOW)
    store.commit(ledger.take_changes(), ledger.epoch)
    [found] = store.active_runs()
    assert [record.attempt for record in found.failures] == [9]


# Opening


def test_a_store_is_made_from_nothing_and_keeps_its_id(path: Path) -> None:
    with Store(path) as store:
        first = store.id
        assert (store.active_runs(), store.ended_runs()) == ([], [])
    with Store(path) as store:
        assert store.id == first
    with Store(path.with_name("other.sqlite")) as other:
        assert other.id != first


def test_a_store_survives_the_loss_of_power(store: Store) -> None:
    pragmas = [
        store._database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    assert pragmas == ["wal", 2, 1]  # 2 is FULL


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    Store(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="has schema 99, this montemq knows 6"):
        Store(path)
    assert database.execute("PRAGMA user_version").fetchone()[0] == 99
    database.close()


def test_a_path_that_cannot_be_used_is_named_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("this is no database, but a text of some length" * 100)
    for wrong in (tmp_path / "folder", tmp_path / "file", tmp_path / "file" / "store.sqlite"):
        with pytest.raises(StoreError, match=r"^the store ") as refused:
            Store(wrong)
        assert str(wrong) in str(refused.value)
        assert "\n" not in str(refused.value)
    assert (tmp_path / "file").read_text().startswith("this is no database")


def test_a_store_from_before_cells_could_end_early_goes_on_where_it_was(
    path: Path, store: Store
) -> None:
    of = definition(32, cells=2)
    ledger = Ledger(store.take_over())
    ledger.declare(declare(of), NOW)
    ledger.partial(partial(of, 0, 32), NOW)
    ledger.partial(partial(of, 0, 8, 1), NOW)
    store.commit(ledger.take_changes(), ledger.epoch)
    older = path.with_name("older.sqlite")
    scripts = files("aggregator.store") / "migrations"
    database = sqlite3.connect(older)
    database.executescript((scripts / "001_initial.sql").read_text(encoding="utf-8"))
    database.execute("ATTACH ? AS newer", [str(path)])
    for table in ("store", "runs", "cells", "segments"):
        columns = ", ".join(row[1] for row in database.execute(f"PRAGMA main.table_info({table})"))
        database.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM newer.{table}")  # noqa: S608
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    with Store(older) as again:
        [books] = again.active_runs()
    for cell in ledger.active[RUN].cells:
        cell.contributors.clear()  # nobody kept them then
    assert books == ledger.active[RUN]
    assert [cell.ending for cell in books.cells] == [Ending(EndedBy.SAMPLES, 32), None]
    assert (books.opened, books.expected_blocks) == (NOW, 64)


# Epochs


def test_every_take_over_raises_the_epoch(store: Store, path: Path) -> None:
    assert [store.take_over(), store.take_over()] == [1, 2]
    with Store(path) as other:
        assert other.take_over() == 3


def test_who_was_replaced_cannot_write_and_writes_nothing(path: Path) -> None:
    of = definition()
    with Store(path) as old, Store(path) as new:
        ledger = Ledger(old.take_over())
        ledger.declare(declare(of), NOW)
        old.commit(ledger.take_changes(), ledger.epoch)
        fresh = Ledger(new.take_over(), new.active_runs())
        ledger.partial(partial(of, 0, 32), NOW)
        with pytest.raises(
            StaleEpochError, match=r"epoch 2, this one had 1\); nothing was written"
        ):
            old.commit(ledger.take_changes(), ledger.epoch)
        assert new.active_runs()[0].merged_blocks == 0
        fresh.partial(partial(of, 0, 4), NOW)
        new.commit(fresh.take_changes(), fresh.epoch)
        assert new.active_runs()[0].merged_blocks == 4


# How estimates converged


def recorded(ledger: Ledger, of: Definition, spans: list[tuple[int, int]]) -> None:
    for start, stop in spans:
        ledger.partial(partial(of, start, stop), NOW)
        ledger.record(NOW + stop)


def test_points_come_back_after_closing_the_file_and_new_ones_go_on_from_them(path: Path) -> None:
    of = definition(outputs=("x", "y"))
    with Store(path) as store:
        ledger = Ledger(store.take_over())
        ledger.declare(declare(of), NOW)
        recorded(ledger, of, [(0, 2), (2, 8)])
        changes = ledger.take_changes()
        store.commit(changes, ledger.epoch)
        expected = [new.point for new in changes.points]
    with Store(path) as store:
        assert store.history(RUN, 0) == expected
        assert [point.samples for point in expected] == [2048, 8192]
        assert store.history(RUN, 1) == store.history("other", 0) == []
        ledger = Ledger(store.take_over(), store.active_runs())
        trace = ledger.active[RUN].cells[0].trace
        assert (trace.points, trace.samples) == (2, 8192)
        recorded(ledger, of, [(8, 9)])
        store.commit(ledger.take_changes(), ledger.epoch)
        assert [point.samples for point in store.history(RUN, 0)] == [2048, 8192, 9216]


def test_what_cannot_be_known_of_a_point_comes_back_as_unknown(store: Store) -> None:
    ledger = Ledger(store.take_over())
    ledger.declare(declare(definition()), NOW)
    changes = ledger.take_changes()
    point = Point(1, NOW, ((0.1, None), (None, None), (-0.0, 5e-324)))
    changes.points.append(NewPoint(RUN, 0, point, None))
    store.commit(changes, ledger.epoch)
    assert store.history(RUN, 0) == [point]


def test_points_beyond_the_end_of_a_cell_are_dropped(store: Store) -> None:
    of = definition(400, stop={"standard_error": 10.0, "outputs": ("x",)})
    ledger = Ledger(store.take_over())
    ledger.declare(declare(of), NOW)
    recorded(ledger, of, [(0, 31), (40, 48), (50, 60)])
    store.commit(ledger.take_changes(), ledger.epoch)
    assert [point.samples for point in store.history(RUN, 0)] == [31 * 1024, 39 * 1024, 49 * 1024]
    recorded(ledger, of, [(31, 32)])
    store.commit(ledger.take_changes(), ledger.epoch)
    assert ledger.ended[RUN].status.samples == 32 * 1024
    assert [point.samples for point in store.history(RUN, 0)] == [31 * 1024]


def test_a_history_is_thinned_when_it_is_due_and_deleted_with_its_run(
    store: Store, path: Path
) -> None:
    ledger = Ledger(store.take_over())
    ledger.declare(declare(definition()), NOW)
    changes = ledger.take_changes()
    for samples in range(1, 401):
        limit = 20 if samples == 400 else None
        changes.points.append(NewPoint(RUN, 0, Point(samples, NOW, ((0.5, 0.1),)), limit))
    store.commit(changes, ledger.epoch)
    kept = [point.samples for point in store.history(RUN, 0)]
    assert kept == thinned(range(1, 401), 20)
    assert len(kept) < 22
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("DELETE FROM runs WHERE run = ?", [RUN])
    database.close()
    assert store.history(RUN, 0) == []
