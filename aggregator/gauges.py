"""Metrics that are read off the session at each scrape: what has ended is gone from them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from aggregator.books import RunBooks
from aggregator.families import GAUGE, Family, shown
from aggregator.fleet import Capacity
from aggregator.host_metrics import host_metrics
from aggregator.labels import Labels
from aggregator.leader_metrics import leader_metrics
from aggregator.ledger import Ledger
from aggregator.names import Latest
from protocol.messages import Headline, RunState

if TYPE_CHECKING:
    from aggregator.session import Session

MAX_RUNS = 100
"""Active runs that have series of their own: those that go on longest."""


@dataclass(slots=True)
class _Pool:
    """What the pools of one label have."""

    consumers: int = 0
    slots: int = 0
    busy: int = 0
    runs: int = 0


class _Run(NamedTuple):
    """An active run, and its estimate so far."""

    books: RunBooks
    headline: Headline | None


@dataclass(slots=True)
class _Name:
    """When the runs of the names of one label last started, and last succeeded."""

    started: float
    succeeded: float | None


_SESSION: tuple[Family["Session"], ...] = (
    Family(GAUGE, "runs", "Runs by state.", ("state",), lambda session: _states(session.ledger)),
    Family(
        GAUGE,
        "refused_hosts",
        "Hosts that were wrong, of which nothing is taken.",
        (),
        lambda session: len(session.ledger.standings.refused),
    ),
    Family(
        GAUGE,
        "pending_audits",
        "Chunks of active runs that no two hosts agree on yet.",
        (),
        lambda session: sum(len(books.audits.pending) for books in session.ledger.active.values()),
    ),
    Family(
        GAUGE,
        "outstanding_blocks",
        "Blocks that active runs are expected to need still, by model.",
        ("model",),
        lambda session: _outstanding(session.ledger.active.values()),
    ),
    Family(
        GAUGE,
        "waiting_messages",
        "Messages that were taken from the queues and wait for the ledger (inbox), or wait to "
        "be published (events, replies).",
        ("where",),
        lambda session: session.waiting(),
    ),
)

_POOLS: tuple[Family[_Pool], ...] = (
    Family(
        GAUGE,
        "live_consumers",
        "Live consumers, by pool; those suspended for another reason than failures do not count.",
        ("pool",),
        lambda pool: pool.consumers,
    ),
    Family(
        GAUGE,
        "live_slots",
        "Slots of the consumers that count as live, by pool.",
        ("pool",),
        lambda pool: pool.slots,
    ),
    Family(
        GAUGE,
        "busy_slots",
        "Slots that compute, of the consumers that count as live, by pool.",
        ("pool",),
        lambda pool: pool.busy,
    ),
    Family(GAUGE, "active_runs", "Runs that go on, by pool.", ("pool",), lambda pool: pool.runs),
)

_RUNS: tuple[Family[_Run], ...] = (
    Family(
        GAUGE,
        "run_relative_error",
        "Standard error divided by the absolute value of the mean, of the first output of the "
        "first cell, of at most 100 active runs.",
        ("run",),
        lambda run: _relative_error(run.headline),
    ),
    Family(
        GAUGE,
        "run_target_relative_error",
        "The relative error to stop at, where there is one, an absolute one divided by the mean so "
        "far.",
        ("run",),
        lambda run: _target(run.books, run.headline),
    ),
    Family(
        GAUGE,
        "run_merged_samples",
        "Samples that count so far.",
        ("run",),
        lambda run: run.books.merged_blocks * run.books.definition.block_size,
    ),
    Family(
        GAUGE,
        "run_expected_samples",
        "Samples that the run is expected to take in all.",
        ("run",),
        lambda run: run.books.expected_blocks * run.books.definition.block_size,
    ),
    Family(
        GAUGE,
        "run_created_timestamp_seconds",
        "When the run was declared for the first time.",
        ("run",),
        lambda run: run.books.created,
    ),
)

_NAMES: tuple[Family[_Name], ...] = (
    Family(
        GAUGE,
        "run_last_start_timestamp_seconds",
        "When a run of this name, the template of its id, was last declared; for 35 days.",
        ("name",),
        lambda name: name.started,
    ),
    Family(
        GAUGE,
        "run_last_success_timestamp_seconds",
        "When a run of this name, the template of its id, last finished; for 35 days after the "
        "last start.",
        ("name",),
        lambda name: name.succeeded,
    ),
)


class Gauges(Collector):
    """What an aggregator shows of its ledger; nothing while it stands by.

    Parameters
    ----------
    session
        Gives the present session, None while there is none.
    """

    def __init__(self, session: Callable[[], "Session | None"]) -> None:
        self._session = session
        self._pools = Labels()

    def collect(self) -> Iterator[Metric]:
        """Yield every family as it is now."""
        session = self._session()
        if session is None:
            return
        ledger, now = session.ledger, session.clock()
        yield from shown(_SESSION, {(): session})
        yield from shown(_POOLS, self._of_pools(ledger))
        yield from shown(_RUNS, _of_runs(ledger))
        yield from shown(_NAMES, _of_names(ledger.names.recent(now)))
        yield from host_metrics(session.hosts, now)
        yield from leader_metrics(session.leaders, now)

    def _of_pools(self, ledger: Ledger) -> dict[tuple[str], _Pool]:
        capacity = ledger.fleet.capacity()
        runs = Counter(books.pool for books in ledger.active.values())
        labels = {pool: self._pools.of(pool) for pool in (*capacity, *runs)}
        # A pool whose last consumer has gone shows 0, so that somebody may be told.
        found = {(label,): _Pool() for label in (*self._pools, *labels.values())}
        for pool, label in labels.items():
            here, there = found[label,], capacity.get(pool, Capacity())
            here.consumers += there.consumers
            here.slots += there.slots
            here.busy += there.busy
            here.runs += runs[pool]
        return found


def _states(ledger: Ledger) -> Mapping[str, int]:
    states = Counter(run.status.state for run in ledger.ended.values())
    states[RunState.RUNNING] = len(ledger.active)
    return {state.value: states[state] for state in RunState}


def _outstanding(active: Iterable[RunBooks]) -> Mapping[str, int]:
    labels, blocks = Labels(), Counter[str]()
    for books in active:
        left = books.expected_blocks - books.merged_blocks
        blocks[labels.of(books.definition.model)] += left
    return blocks


def _of_runs(ledger: Ledger) -> dict[tuple[str], _Run]:
    oldest = list(ledger.active.items())[:MAX_RUNS]
    return {(run,): _Run(books, ledger.last_headline(run)) for run, books in oldest}


def _of_names(names: Iterable[Latest]) -> dict[tuple[str], _Name]:
    labels, found = Labels(), dict[tuple[str], _Name]()
    for one in names:
        here = found.setdefault((labels.of(one.name),), _Name(one.started, one.succeeded))
        here.started = max(here.started, one.started)
        here.succeeded = max(filter(None, (here.succeeded, one.succeeded)), default=None)
    return found


def _relative_error(headline: Headline | None) -> float | None:
    if headline is None or not headline.mean or headline.standard_error is None:
        return None
    return headline.standard_error / abs(headline.mean)


def _target(books: RunBooks, headline: Headline | None) -> float | None:
    """Return the relative error that the headline's output has to reach, None without one."""
    stop = books.definition.stop
    if headline is None or not headline.mean or headline.output not in stop.outputs:
        return None
    goals = [] if stop.relative_error is None else [stop.relative_error]
    if stop.standard_error is not None:
        goals.append(stop.standard_error / abs(headline.mean))
    return min(goals)
