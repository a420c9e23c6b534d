"""Last start and success of a name, as the ledger notes them and the store keeps them."""

from pathlib import Path

from aggregator.labels import OTHER
from aggregator.ledger import Ledger
from aggregator.names import MAX_NAMES, REMEMBERED_SECONDS, Latest, Names
from aggregator.store.sqlite import Store
from protocol.rpc_messages import Declare
from tests.support.run_values import declare, definition, partial

NOW = 1_700_000_000.0
DAY = 86_400.0
NIGHTLY = "nightly-{date}"


def named(run: str, name: str | None = NIGHTLY) -> Declare:
    return declare(definition(32), run).model_copy(update={"name": name})


def finish(ledger: Ledger, run: str, now: float) -> None:
    ledger.partial(partial(definition(32), 0, 32, run=run), now)


def test_a_run_counts_when_it_is_declared_and_when_it_finishes() -> None:
    ledger = Ledger(1)
    ledger.declare(named("n-1"), NOW)
    assert ledger.names.recent(NOW) == [Latest(NIGHTLY, NOW)]
    finish(ledger, "n-1", NOW + 5)
    assert ledger.names.recent(NOW) == [Latest(NIGHTLY, NOW, NOW + 5)]
    ledger.declare(named("n-2"), NOW + DAY)
    assert ledger.names.recent(NOW) == [Latest(NIGHTLY, NOW + DAY, NOW + 5)]


def test_joining_a_run_or_cancelling_it_is_neither_a_start_nor_a_success() -> None:
    ledger = Ledger(1)
    ledger.declare(named("n-1"), NOW)
    ledger.declare(named("n-1"), NOW + 1)
    ledger.cancel("n-1", NOW + 2)
    ledger.declare(named("n-1"), NOW + 3)
    assert ledger.names.recent(NOW) == [Latest(NIGHTLY, NOW)]


def test_a_run_without_a_name_is_remembered_under_none() -> None:
    ledger = Ledger(1)
    ledger.declare(named("n-1", None), NOW)
    finish(ledger, "n-1", NOW)
    assert ledger.names.recent(NOW) == []


def test_a_name_is_forgotten_weeks_after_its_last_start() -> None:
    names = Names([Latest("old", NOW, NOW), Latest("new", NOW + 1)])
    later = NOW + REMEMBERED_SECONDS
    assert [one.name for one in names.recent(later)] == ["old", "new"]
    assert [one.name for one in names.recent(later + 1)] == ["new"]


def test_names_and_their_times_survive_the_process(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        ledger = Ledger(store.take_over())
        ledger.declare(named("n-1"), NOW)
        finish(ledger, "n-1", NOW + 5)
        ledger.declare(named("n-2"), NOW + DAY)
        ledger.cancel("n-2", NOW + DAY + 5)
        ledger.declare(named("other", "a-{week}"), NOW + DAY)
        ledger.declare(named("nameless", None), NOW + DAY)
        expected = ledger.names.recent(NOW)
        store.commit(ledger.take_changes(), ledger.epoch)
    with Store(tmp_path / "s.sqlite") as store:
        again = Ledger(store.take_over(), store.active_runs(), store.ended_runs(), store.names())
    assert expected == [Latest(NIGHTLY, NOW + DAY, NOW + 5), Latest("a-{week}", NOW + DAY)]
    assert again.names.recent(NOW) == expected
    finish(again, "other", NOW + 2 * DAY)
    assert again.names.recent(NOW)[1].succeeded == NOW + 2 * DAY


def flood(begin: float) -> list[Latest]:
    return [Latest(f"invented-{number}", begin + number) for number in range(2 * MAX_NAMES)]


def test_a_flood_of_names_is_remembered_as_one_and_drives_nobody_out() -> None:
    names = Names([Latest(NIGHTLY, NOW)])
    for one in flood(NOW + 1):
        names.started(one.name, one.started)
    names.succeeded("invented-1999", NOW + 3000)
    names.succeeded(NIGHTLY, NOW + 3001)
    found = {one.name: one for one in names.recent(NOW + 3001)}
    assert len(found) == MAX_NAMES + 1
    assert found[NIGHTLY] == Latest(NIGHTLY, NOW, NOW + 3001)
    assert found[OTHER] == Latest(OTHER, NOW + 2 * MAX_NAMES, NOW + 3000)


def test_names_that_are_forgotten_make_room_also_for_those_that_the_store_holds() -> None:
    later = NOW + REMEMBERED_SECONDS + 2 * MAX_NAMES
    names = Names(flood(NOW))
    names.started(NIGHTLY, later)
    assert [one.name for one in names.recent(later)][-1] == NIGHTLY
    again = Names([*flood(NOW), Latest(NIGHTLY, later, later + 1)])
    assert again.recent(later)[-1] == Latest(NIGHTLY, later, later + 1)
    assert OTHER not in {one.name for one in again.recent(later)}
