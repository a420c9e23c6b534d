"""One seeded schedule: a run on the in-memory broker, disturbed in every way the seed thinks of.

`simulate` runs one schedule and raises `InvariantError`, which names the seed, when the result is
not what an undisturbed run gives.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from aggregator.result import digest
from aggregator.store.sqlite import Store
from consumer.answers import Worker
from consumer.execution import execute
from ops.simulation.aggregator import SimulatedAggregator
from ops.simulation.broker import NO_FAULTS, Faults, MemoryBroker, declare
from ops.simulation.consumer import SimulatedConsumer
from ops.simulation.party import Party
from ops.simulation.producer import SimulatedProducer
from producer.runfile import Submission
from protocol.definition import Definition, Lane, Stop
from protocol.messages import Chunk, Partial, RunState
from protocol.ranges import Ranges
from protocol.topology import RESULTS_QUEUE, topology, work_queue

RUN = "simulated"
CELLS, BLOCKS, BLOCK_SIZE = 2, 60, 512
DISTURBED_SECONDS = 15.0
"""Simulated time during which things go wrong; an undisturbed run would take about as long."""

LIMIT_SECONDS = 2_000.0
"""Simulated time after which the run must have ended."""


STEP_SHARE = 0.95
"""How often a message moves before time does, while any are under way."""


class InvariantError(AssertionError):
    """A schedule broke a promise; the text names its seed."""


@dataclass(frozen=True)
class Scenario:
    """What a schedule is made of, chosen by its seed."""

    consumers: int
    slots: int
    producers: int
    aggregators: int
    chunk_blocks: int
    chunk_seconds: float
    crash: float
    faults: Faults
    accidents: int

    @classmethod
    def of(cls, random: Random) -> "Scenario":
        """Choose a scenario."""
        consumers, slots = random.randint(1, 4), random.randint(1, 3)
        chunk_blocks = random.choice((1, 3, 7, 20))
        chunks = CELLS * BLOCKS / chunk_blocks
        return cls(
            consumers=consumers,
            slots=slots,
            producers=random.randint(1, 2),
            aggregators=random.randint(1, 2),
            chunk_blocks=chunk_blocks,
            chunk_seconds=DISTURBED_SECONDS * consumers * slots / chunks,
            crash=random.choice((0.0, 0.0, 0.02)),
            faults=Faults(
                drop=random.choice((0.0, 0.002, 0.01)),
                close_channel=random.choice((0.0, 0.002, 0.01)),
                duplicate=random.choice((0.0, 0.1, 1.0)),
            ),
            accidents=random.randint(0, 6),
        )


class World:
    """Time, chance, the broker, and everybody in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.random = Random(seed)  # noqa: S311 - schedules must repeat, not surprise
        self.scenario = Scenario.of(self.random)
        self.broker = MemoryBroker(self.random.getrandbits(32), self.scenario.faults)
        self.store = Store(Path(":memory:"))
        self.job = Submission(RUN, definition(), "default", Lane.NORMAL)
        self.attempts: set[int] = set()
        self.parties: list[Party] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._names = itertools.count()
        declare(self.broker.connect("operator").channel(), topology())
        for make, count in (
            (self._aggregator, self.scenario.aggregators),
            (self._consumer, self.scenario.consumers),
            (self._producer, self.scenario.producers),
        ):
            self.parties.extend(make() for _ in range(count))
        for _ in range(self.scenario.accidents):
            self.after(self.random.uniform(0.0, DISTURBED_SECONDS), self._accident)
        self.after(DISTURBED_SECONDS, self._calm)

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), what))

    def run(self) -> None:
        """Go on until every producer knows that the run has ended.

        Raises
        ------
        InvariantError
            That takes too long.
        """
        while any(party.state is RunState.RUNNING for party in self._producers()):
            if self.now > LIMIT_SECONDS:
                raise InvariantError(f"seed {self.seed}: the run has not ended")
            if self.broker.pending and self.random.random() < STEP_SHARE:
                reached = self.broker.step(self.now)
                for party in self.parties:
                    if party.channel is reached:
                        party.poll()
            else:
                self.now, _, what = heapq.heappop(self._timers)
                what()
                for party in self.parties:
                    party.poll()

    def _producers(self) -> list[SimulatedProducer]:
        return [party for party in self.parties if isinstance(party, SimulatedProducer)]

    def _accident(self) -> None:
        """Kill or disturb somebody."""
        kind = self.random.choice(("kill", "kill", "freeze", "freeze", "broker", "purge"))
        role = self.random.choice((SimulatedAggregator, SimulatedConsumer, SimulatedProducer))
        victim = self.random.choice([party for party in self.parties if isinstance(party, role)])
        if kind == "kill":
            self._replace(victim)
        elif kind == "broker":
            self.broker.restart()
        elif kind == "purge":
            queue = self.random.choice([RESULTS_QUEUE, work_queue("default", Lane.NORMAL)])
            self.broker.connect("careless operator").channel().purge(queue)
        else:
            self._freeze(victim)

    def _replace(self, victim: Party) -> None:
        """Kill a party and start another of its kind a moment later."""
        victim.kill()
        self.parties.remove(victim)
        make: Callable[[], Party] = self._consumer
        if isinstance(victim, SimulatedProducer):
            make = self._producer
        elif isinstance(victim, SimulatedAggregator):
            make = self._aggregator
        fresh = make()
        self.parties.append(fresh)

    def _freeze(self, victim: Party) -> None:
        """Stop a party as SIGSTOP would: the broker gives it up, and it wakes without knowing."""
        victim.frozen_until = self.now + self.random.uniform(3.0, 15.0)
        for connection in self.broker.connections:
            if connection.name == victim.name:
                connection.drop()

    def _calm(self) -> None:
        self.broker.faults = NO_FAULTS
        living = {type(party) for party in self.parties if party.alive}
        if SimulatedAggregator not in living:
            self.parties.append(self._aggregator())

    def _aggregator(self) -> SimulatedAggregator:
        return SimulatedAggregator(self, f"aggregator-{next(self._names)}", self.store)

    def _consumer(self) -> SimulatedConsumer:
        name = f"consumer-{next(self._names)}"
        return SimulatedConsumer(self, name, self.scenario)

    def _producer(self) -> SimulatedProducer:
        name = f"producer-{next(self._names)}"
        return SimulatedProducer(self, name, self.job, self.scenario.chunk_blocks, self.attempts)


def definition() -> Definition:
    """Return the run that every schedule computes: two cells, three checkpoints."""
    return Definition(
        model="pi",
        model_version=1,
        outputs=("pi",),
        cells=({},) * CELLS,
        seed=7,
        block_size=BLOCK_SIZE,
        stop=Stop(samples=BLOCKS * BLOCK_SIZE),
    )


def undisturbed_digest() -> str:
    """Return the digest that every schedule must give, computed without any messages."""
    run = definition()
    cells = []
    for cell in range(len(run.cells)):
        whole = Chunk.of(RUN, run, cell, (0, run.blocks), attempt=0)
        answer = execute(whole, Worker("nobody", "nowhere"))
        assert isinstance(answer, Partial)  # noqa: S101 - the model works
        cells.append(answer.statistics)
    return digest(run.hash, cells)


def simulate(seed: int, expected: str) -> World:
    """Run one schedule and check what it left behind.

    Raises
    ------
    InvariantError
        The run did not end, its digest differs, or a block is missing or counted twice.
    """
    world = World(seed)
    world.run()
    result, books = world.store.result(RUN), world.store.books(RUN)
    if result is None or books is None or result.digest != expected:
        found = None if result is None else (result.state, result.error, result.digest)
        raise InvariantError(f"seed {seed}: {found}, expected digest {expected}")
    for number, cell in enumerate(books.cells):
        counted = sum(segment.blocks for segment in cell.segments if segment is not None)
        if cell.merged != Ranges([(0, books.definition.blocks)]) or counted != len(cell.merged):
            raise InvariantError(f"seed {seed}: cell {number} has {cell.merged}, {counted} blocks")
    world.store.close()
    return world
