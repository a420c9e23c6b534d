"""Scheduler and ledger together, both pure, with a world between them that loses and repeats."""

import random
from dataclasses import dataclass, field

import pytest

from aggregator.books import Outcome
from aggregator.ledger import Ledger
from producer.scheduler import SILENCE_SECONDS, AskMissing, Publish, Scheduler
from protocol.definition import Definition
from protocol.messages import Chunk, Finished, Partial, Progress, RunState
from protocol.rpc_messages import Missing
from tests.support.run_values import (
    RUN,
    declare,
    definition,
    failure,
    partial,
    statistics,
    telemetry,
)

MAX_STEPS = 200_000
OF = definition(108, cells=3)


@dataclass
class World:
    """Between a scheduler and a ledger: queues that lose, repeat, reorder, and parties that die."""

    seed: int
    faults: float
    of: Definition = OF
    now: float = 1_000.0
    epoch: int = 1
    work: list[Chunk] = field(default_factory=list)
    results: list[Partial] = field(default_factory=list)
    events: list[Progress | Finished] = field(default_factory=list)
    answers: list[Missing] = field(default_factory=list)
    attempts: set[int] = field(default_factory=set)
    issued: int = 0
    merged: int = 0
    digest: str | None = None

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - faults
        self.ledger = Ledger(self.epoch)
        self.scheduler = self.fresh_scheduler()

    def fault(self, weight: float = 1.0) -> bool:
        return self.chance.random() < self.faults * weight

    def fresh_scheduler(self) -> Scheduler:
        scheduler = Scheduler(RUN, self.of, self.chance.choice((None, 1, 3, 7, 64)))
        scheduler.leads(leads=True)
        scheduler.joined(self.ledger.declare(declare(self.of), self.now), self.now)
        return scheduler

    def run(self) -> None:
        for _ in range(MAX_STEPS):
            if self.digest is not None and not self.events:
                return
            self.now += self.chance.expovariate(2.0)
            for step in self.chance.sample(
                (self.publish, self.compute, self.take_in, self.tell, self.answer, self.break_it), 6
            ):
                step()
        raise AssertionError(f"seed {self.seed}: the run does not end")

    def publish(self) -> None:
        for action in self.scheduler.actions(self.now):
            if isinstance(action, AskMissing):
                if self.fault():
                    self.scheduler.unanswered()
                elif RUN in self.ledger.active:
                    self.answers.append(self.ledger.missing(RUN))
                continue
            assert isinstance(action, Publish)
            attempt = action.chunk.attempt
            assert attempt not in self.attempts, f"seed {self.seed}: attempt {attempt} was reused"
            self.attempts.add(attempt)
            self.issued += action.chunk.blocks
            if self.fault(0.3):
                self.scheduler.refused(attempt, self.now)
                continue
            if not self.fault():  # or a purge takes it
                self.work += [action.chunk] * (1 + self.fault())
            if not self.fault(0.1):
                self.scheduler.confirmed(attempt)

    def compute(self) -> None:
        self.ledger.fleet.hear(telemetry(), self.now)
        for _ in range(min(4, len(self.work))):
            chunk = self.work.pop(self.chance.randrange(len(self.work)))
            cell, start, stop = chunk.cell, chunk.first_block, chunk.stop_block
            if self.fault(0.3):
                # Every failure on a host of its own attempt, never three at one block in a row.
                bad = failure(self.of, start, stop, cell, attempt=chunk.attempt)
                if not self.ledger.active.get(RUN) or not self.ledger.active[RUN].failures:
                    self.ledger.failure(bad, self.now)
                continue
            done = partial(self.of, start, stop, cell, attempt=chunk.attempt)
            self.results += [done] * (1 + self.fault())

    def take_in(self) -> None:
        for _ in range(min(6, len(self.results))):
            done = self.results.pop(self.chance.randrange(len(self.results)))
            ended = RUN in self.ledger.ended
            outcome = self.ledger.partial(done, self.now)
            assert not ended or outcome is Outcome.LATE
            self.merged += done.blocks * (outcome is Outcome.MERGED)

    def tell(self) -> None:
        self.events += [e for e in self.ledger.take_events(self.now) if not self.fault()]
        result = self.ledger.take_changes().results.get(RUN)
        if result is not None:
            assert result.state == RunState.FINISHED.value, f"seed {self.seed}: {result.error}"
            self.digest = result.digest
        if self.fault(0.3):
            self.chance.shuffle(self.events)
        while self.events:
            event = self.events.pop(0)
            if isinstance(event, Progress):
                self.scheduler.progress(event, self.now)
                if self.fault(0.3):
                    self.scheduler.progress(event, self.now)

    def answer(self) -> None:
        while self.answers:
            self.scheduler.joined(self.answers.pop(0), self.now)

    def break_it(self) -> None:
        if RUN not in self.ledger.active or not self.fault(0.05):
            return
        kind = self.chance.randrange(4)
        if kind == 0:  # the producer loses its connection
            self.scheduler.disconnected()
            self.scheduler.joined(self.ledger.declare(declare(self.of), self.now), self.now)
        elif kind == 1:  # the producer dies
            self.scheduler = self.fresh_scheduler()
        elif kind == 2:  # the aggregator dies: what is merged was committed, what was told is gone
            self.epoch += 1
            self.ledger = Ledger(self.epoch, active=self.ledger.active.values())
        else:  # the broker loses its disk
            self.work.clear()
            self.results.clear()


def test_a_failure_whose_event_is_lost_is_issued_again_at_the_next_answer() -> None:
    ledger, scheduler = Ledger(1), Scheduler(RUN, OF, 32)
    scheduler.leads(leads=True)
    ledger.fleet.hear(telemetry(), 0.0)
    scheduler.joined(ledger.declare(declare(OF), 0.0), 0.0)
    [first, *others] = [a.chunk for a in scheduler.actions(0.0) if isinstance(a, Publish)]
    ledger.failure(failure(OF, 0, 32, attempt=first.attempt), 0.0)
    assert ledger.take_events(0.0)  # and nobody hears them
    assert AskMissing() in [*scheduler.actions(SILENCE_SECONDS)]
    scheduler.joined(ledger.missing(RUN), SILENCE_SECONDS)
    issued = [a.chunk for a in scheduler.actions(SILENCE_SECONDS) if isinstance(a, Publish)]
    assert (0, 0, 32) in [(one.cell, one.first_block, one.blocks) for one in issued]
    assert not {one.attempt for one in issued} & {one.attempt for one in (first, *others)}


def expected_digest() -> str:
    ledger = Ledger(1)
    ledger.declare(declare(OF), 0.0)
    for cell in range(3):
        for start, stop in ((0, 32), (32, 48), (48, 72), (72, 108)):
            ledger.partial(partial(OF, start, stop, cell), 0.0)
    return str(ledger.take_changes().results[RUN].digest)


WORLDS = [(seed, faults) for faults in (0.0, 0.1, 0.3) for seed in range(25)]


@pytest.mark.parametrize(("seed", "faults"), WORLDS)
def test_every_block_is_merged_once_whatever_is_lost_repeated_or_reordered(
    seed: int, faults: float
) -> None:
    world = World(seed, faults)
    world.run()
    assert world.merged == OF.blocks * len(OF.cells)
    assert world.digest == expected_digest()
    if not faults:
        # Only at the end, where slots would idle, chunks are copied that are merely slow.
        assert world.issued <= 1.2 * OF.blocks * len(OF.cells)


def test_the_statistics_of_the_world_are_those_of_its_blocks() -> None:
    world = World(1, 0.2)
    books = world.ledger.active[RUN]
    world.run()
    for cell in range(3):
        assert books.cells[cell].statistics() == statistics(cell, 0, 108)
