"""What is read off the ledger at a scrape: by pool, by model and by run, and never without end."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from aggregator.fleet import ALIVE_SECONDS
from aggregator.gauges import MAX_RUNS, Gauges
from aggregator.labels import MAX_LABELS, Labels
from aggregator.ledger import Ledger
from aggregator.metrics import EVENT, Metrics
from aggregator.session import Office, Session
from aggregator.store.sqlite import Store
from protocol.amqp_aio import Link
from protocol.messages import ConsumerState
from tests.support.run_values import BLOCK_SIZE, RUN, declare, definition, partial, telemetry

NOW = 1_000.0
NO_LINK = cast("Link", None)
"""Gauges never touch the broker."""


@dataclass
class Scene:
    """A session that may be taken away, and the gauges that look at it."""

    session: Session | None
    ledger: Ledger
    gauges: Gauges

    def look(self, name: str) -> dict[str, float]:
        """Return the samples of a gauge by the value of its label."""
        families = {family.name: family for family in self.gauges.collect()}
        return {
            sample.labels.popitem()[1]: sample.value
            for sample in families[f"montemq_{name}"].samples
        }


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Store(tmp_path / "s.sqlite") as store, ThreadPoolExecutor(1) as executor:
        ledger = Ledger(store.take_over())
        office = Office(store, executor, Metrics("0"), lambda: NOW)
        made = Scene(
            Session(NO_LINK, NO_LINK, ledger, office), ledger, Gauges(lambda: made.session)
        )
        yield made


def test_an_aggregator_that_stands_by_shows_nothing_of_a_ledger(scene: Scene) -> None:
    assert list(scene.gauges.collect())
    scene.session = None
    assert not list(scene.gauges.collect())


def test_slots_and_runs_are_counted_by_pool(scene: Scene) -> None:
    fleet, of = scene.ledger.fleet, definition()
    fleet.hear(telemetry("a", slots=4, busy=3), NOW)
    fleet.hear(telemetry("b", slots=2, busy=9), NOW)
    fleet.hear(telemetry("c", slots=1, pool="big"), NOW)
    fleet.hear(telemetry("d", slots=8, busy=1, state=ConsumerState.DRAINING), NOW)
    fleet.hear(telemetry("loads", slots=0), NOW)
    scene.ledger.declare(declare(of).model_copy(update={"pool": "big"}), NOW)
    assert scene.look("live_consumers") == {"default": 2, "big": 1}
    assert scene.look("live_slots") == {"default": 6, "big": 1}
    assert scene.look("busy_slots") == {"default": 5, "big": 0}
    assert scene.look("active_runs") == {"default": 0, "big": 1}


def test_a_pool_whose_consumers_have_gone_shows_0(scene: Scene) -> None:
    scene.ledger.fleet.hear(telemetry("a", slots=4), NOW)
    assert scene.look("live_slots") == {"default": 4}
    scene.ledger.fleet.forget_silent(NOW + 2 * ALIVE_SECONDS)
    assert scene.look("live_slots") == scene.look("live_consumers") == {"default": 0}


def test_a_run_whose_pool_nobody_works_for_is_seen(scene: Scene) -> None:
    scene.ledger.declare(declare(definition()), NOW)
    assert scene.look("active_runs") == {"default": 1}
    assert scene.look("live_slots") == {"default": 0}


def test_a_flood_of_pools_ends_up_in_one_series_and_moves_no_other(scene: Scene) -> None:
    fleet = scene.ledger.fleet
    fleet.hear(telemetry("honest", slots=3, pool="honest"), NOW)
    assert scene.look("live_slots") == {"honest": 3}
    for number in range(10 * MAX_LABELS):
        fleet.hear(telemetry(f"c{number}", slots=1, pool=f"p{number}"), NOW)
    found = scene.look("live_slots")
    assert len(found) == MAX_LABELS + 1
    assert found["honest"] == 3
    assert sum(found.values()) == 3 + 10 * MAX_LABELS
    assert found["other"] == 1 + 9 * MAX_LABELS


def test_outstanding_blocks_are_counted_by_model(scene: Scene) -> None:
    of = definition(cells=2)
    for number in range(2):
        scene.ledger.declare(declare(of, f"r{number}"), NOW)
    other = of.model_copy(update={"model": "pi"})
    scene.ledger.declare(declare(other, "pi"), NOW)
    scene.ledger.partial(partial(of, 0, 32, run="r0"), NOW)
    assert scene.look("outstanding_blocks") == {"demo": 4 * 108 - 32, "pi": 2 * 108}


def test_a_run_shows_how_far_it_is_and_vanishes_when_it_ends(scene: Scene) -> None:
    of, ledger = definition(), scene.ledger
    ledger.declare(declare(of), NOW)
    ledger.partial(partial(of, 0, 32), NOW + 1)
    assert scene.look("run_merged_samples") == {RUN: 32 * BLOCK_SIZE}
    assert scene.look("run_expected_samples") == {RUN: 108 * BLOCK_SIZE}
    assert scene.look("run_created_timestamp_seconds") == {RUN: NOW}
    ledger.cancel(RUN, NOW + 2)
    for name in ("run_merged_samples", "run_expected_samples", "run_created_timestamp_seconds"):
        assert scene.look(name) == {}


@pytest.mark.parametrize(
    ("stop", "target"),
    [
        ({}, None),
        ({"relative_error": 1e-4, "outputs": ("x",)}, lambda _: 1e-4),
        ({"standard_error": 1e-4, "outputs": ("x",)}, lambda mean: 1e-4 / abs(mean)),
        (
            {"standard_error": 1e-4, "relative_error": 1e-9, "outputs": ("x",)},
            lambda _: 1e-9,
        ),
        (
            {"standard_error": 1e-9, "relative_error": 1e-4, "outputs": ("x",)},
            lambda mean: 1e-9 / abs(mean),
        ),
    ],
    ids=["none", "relative", "absolute", "narrower relative", "narrower absolute"],
)
def test_a_run_shows_its_relative_error_and_where_it_wants_to_be(
    scene: Scene, stop: dict[str, object], target: object
) -> None:
    of, ledger = definition(stop=stop), scene.ledger
    ledger.declare(declare(of), NOW)
    assert scene.look("run_relative_error") == {}, "nothing is merged"
    ledger.partial(partial(of, 0, 32), NOW + 1)
    ledger.take_events(NOW + 1)
    headline = ledger.last_headline(RUN)
    assert headline is not None
    assert headline.standard_error is not None
    relative = headline.standard_error / abs(headline.mean)
    assert scene.look("run_relative_error") == {RUN: relative}
    wanted = {RUN: target(headline.mean)} if callable(target) else {}
    assert scene.look("run_target_relative_error") == wanted


def test_a_target_of_another_output_is_not_shown_as_that_of_the_first(scene: Scene) -> None:
    of = definition(outputs=("x", "y"), stop={"relative_error": 1e-4, "outputs": ("y",)})
    scene.ledger.declare(declare(of), NOW)
    scene.ledger.partial(partial(of, 0, 32), NOW)
    scene.ledger.take_events(NOW)
    assert scene.look("run_relative_error").keys() == {RUN}
    assert scene.look("run_target_relative_error") == {}


def test_only_so_many_runs_have_series_of_their_own(scene: Scene) -> None:
    of = definition()
    for number in range(MAX_RUNS + 5):
        scene.ledger.declare(declare(of, f"r{number}"), NOW + number)
    oldest = {f"r{number}" for number in range(MAX_RUNS)}
    assert scene.look("run_merged_samples").keys() == oldest


def test_a_value_keeps_its_label_whatever_comes_later() -> None:
    labels = Labels(limit=2)
    assert [labels.of(value) for value in "abcab"] == ["a", "b", "other", "a", "b"]


def test_the_last_start_and_success_of_a_name_outlive_its_runs(scene: Scene) -> None:
    of, ledger = definition(32), scene.ledger
    for number in range(2):
        named = declare(of, f"n{number}").model_copy(update={"name": "n-{date}"})
        ledger.declare(named, NOW + number)
    assert scene.look("run_last_success_timestamp_seconds") == {}
    ledger.partial(partial(of, 0, 32, run="n0"), NOW + 7)
    ledger.cancel("n1", NOW + 8)
    assert scene.look("run_last_start_timestamp_seconds") == {"n-{date}": NOW + 1}
    assert scene.look("run_last_success_timestamp_seconds") == {"n-{date}": NOW + 7}


def test_a_flood_of_names_ends_up_in_one_series(scene: Scene) -> None:
    of = definition(32)
    for number in range(MAX_LABELS + 3):
        named = declare(of, f"n{number}").model_copy(update={"name": f"n{number}-{{date}}"})
        scene.ledger.declare(named, NOW + number)
    found = scene.look("run_last_start_timestamp_seconds")
    assert len(found) == MAX_LABELS + 1
    assert found["n0-{date}"] == NOW
    assert found["other"] == NOW + MAX_LABELS + 2


async def test_what_waits_is_shown_and_what_finds_no_place_is_counted(scene: Scene) -> None:
    session, of = scene.session, definition()
    assert session is not None
    session._outbox = asyncio.Queue(1)
    for number in range(3):
        scene.ledger.declare(declare(of, f"r{number}"), NOW)
    session._tell()
    assert scene.look("waiting_messages") == {"inbox": 0, "events": 1, "replies": 0}
    dropped = session._metrics.dropped.labels(EVENT)
    assert next(iter(dropped.collect())).samples[0].value == 2
