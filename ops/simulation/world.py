"""One seeded schedule: a run on the in-memory broker, disturbed in every way the seed thinks of.

`simulate` runs one schedule and raises `InvariantError`, which names the seed, when the result is
not what an undisturbed run gives.
"""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

from aggregator.failures import FAILURE_LIMIT
from aggregator.store.sqlite import Store
from ops.simulation.aggregator import SimulatedAggregator
from ops.simulation.attendant import RunLog
from ops.simulation.broker import NO_FAULTS, MemoryBroker, declare
from ops.simulation.consumer import SimulatedConsumer
from ops.simulation.disturbance import Disturbance
from ops.simulation.idleness import Idleness
from ops.simulation.operator import SimulatedOperator
from ops.simulation.party import Party
from ops.simulation.producer import SimulatedProducer
from ops.simulation.scenario import (
    DISTURBED_SECONDS,
    Scenario,
    definition,
    undisturbed_digest,
)
from ops.simulation.service import SimulatedService
from producer.runfile import Submission
from protocol.messages import Chunk, RunState
from protocol.topology import RESULTS_QUEUE, topology, work_queue

EPOCH = 1.0e9
"""What clocks show when a schedule begins."""

LIMIT_SECONDS = 2_000.0
"""Simulated time after which the run must have ended."""


LEFT_SHARE = 0.5
"""How often a producer that was killed is followed by one that leaves the run to the service."""

MOST_ISSUES = 20
"""How often a block may be issued on average, whatever goes wrong."""

MOST_AUDITS, MOST_AUDITS_PER_SECOND = 100, 10
"""How often a run's audits may be issued, while those who may not compute them are the only ones
who have nothing else to do."""

MOST_IDLE_SECONDS = 60.0
"""How long idle machines may wait beside audits that they could compute. A leader that has seen
nothing come back waits 30 s for one that was lost; one that has, for 1.5 times what is usual, which
the longest chunks make about as much. Who declines one costs seconds, where events are lost too."""

STEP_SHARE = 0.95
"""How often a message moves before time does, while any are under way."""


class InvariantError(AssertionError):
    """A schedule broke a promise; the text names its seed."""


class World:
    """Time, chance, the broker, and everybody in it.

    Attributes
    ----------
    now, wall
        Seconds on a clock that never jumps, and on the hosts' clocks.
    logs
        What became of each run, by its id.
    crashes
        The chunks at which a slot crashed by chance, of runs that have not failed by it.
    idleness
        For how long runs waited for audits that idle machines could compute.
    resumed
        The runs that failed by such crashes, and went on.
    """

    def __init__(self, seed: int, scenario: Scenario | None = None) -> None:
        self.seed = seed
        self.now = 0.0
        self.random = Random(seed)  # noqa: S311 - schedules must repeat, not surprise
        self.scenario = scenario or Scenario.of(self.random)
        self.broker = MemoryBroker(self.random.getrandbits(32), self.scenario.faults)
        self.store = Store(Path(":memory:"))
        self.jobs = {
            f"run-{number}": (
                Submission(f"run-{number}", definition(plan), "default", plan.lane),
                plan,
            )
            for number, plan in enumerate(self.scenario.runs)
        }
        self.logs = {run: RunLog() for run in self.jobs}
        self.crashes: list[tuple[Chunk, str]] = []
        self.resumed: list[str] = []
        self.parties: list[Party] = []
        self.idleness = Idleness()
        self._jump = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._names = itertools.count()
        declare(self.broker.connect("operator").channel(), topology())
        self.parties.extend(self._aggregator() for _ in range(self.scenario.aggregators))
        self.parties.extend(self._service() for _ in range(self.scenario.services))
        self.parties.extend(self._consumer(slowness) for slowness in self.scenario.consumers)
        self.parties.extend(self._consumer(0.0, broken=True) for _ in range(self.scenario.broken))
        self.parties.extend(self._consumer(1.0, wrong=share) for share in self.scenario.wrong)
        for run, (_, plan) in self.jobs.items():
            for _ in range(self.scenario.producers):
                self.after(plan.start, partial(self._begin, run))
        for _ in range(self.scenario.accidents):
            self.after(self.random.uniform(0.0, DISTURBED_SECONDS), self._accident)
        self.after(DISTURBED_SECONDS, self._calm)

    @property
    def wall(self) -> float:
        """What the hosts' clocks show."""
        return EPOCH + self.now + self._jump

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), what))

    def run(self) -> None:
        """Go on until every producer knows that the run has ended; resume what crashes ended.

        Raises
        ------
        InvariantError
            That takes too long.
        """
        while self._is_going() or self._take_up():
            if self.now > LIMIT_SECONDS:
                raise InvariantError(f"seed {self.seed}: a run has not ended")
            while self.broker.busy and self.random.random() < STEP_SHARE:
                if reached := self.broker.step(self.now):
                    for party in self.parties:
                        if party.channel is reached:
                            party.poll()
                    break  # only who has heard something can know that a run has ended
            else:
                self.now, _, what = heapq.heappop(self._timers)
                what()
                for party in self.parties:
                    if party.channel is not None and party.channel.inbox:
                        party.poll()
                self.idleness.look(self.now, self.parties)

    def _is_going(self) -> bool:
        """Say whether a run has not ended, is being resumed, or a producer does not know."""
        for log in self.logs.values():
            if log.ended == math.inf:
                return True
        # Somebody who is late may still hear of its first end.
        if any(party.alive for party in self.parties if isinstance(party, SimulatedOperator)):
            return True
        if any(self.store.result(run) is None for run in self.resumed):
            return True
        producers = (party for party in self.parties if isinstance(party, SimulatedProducer))
        return any(party.attendant.state is RunState.RUNNING for party in producers)

    def _take_up(self) -> bool:
        """Have somebody resume the runs that chance ended, and say whether there are any.

        Nobody can tell a poisonous chunk from the only machine's crashes, thrice at one block.
        """
        crashed = [run for run in self.jobs if self._failed_by_crashes(run)]
        for run in crashed:
            self.logs[run].ended = math.inf
            self.crashes = [(chunk, host) for chunk, host in self.crashes if chunk.run != run]
            name = f"operator-{next(self._names)}"
            self.parties.append(SimulatedOperator(self, name, run, partial(self._go_on, run)))
        return bool(crashed)

    def _failed_by_crashes(self, run: str) -> bool:
        """Say whether a run has failed, and crashed so often at a block that is missing."""
        result, books = self.store.result(run), self.store.books(run)
        if result is None or books is None or result.state != RunState.FAILED:
            return False
        # As the ledger counts: a broker may give one attempt to two hosts, and both may crash.
        attempts = {
            (chunk.cell, block, chunk.attempt, host)
            for chunk, host in self.crashes
            if chunk.run == run
            for block in range(chunk.first_block, chunk.stop_block)
            if books.cells[chunk.cell].needs(block, block + 1)
        }
        crashes = Counter((cell, block) for cell, block, _, _ in attempts)
        return max(crashes.values(), default=0) >= FAILURE_LIMIT

    def _go_on(self, run: str) -> None:
        """End the producers of a run that was resumed, as they do themselves, and start one."""
        self.resumed.append(run)
        for party in [*self.parties]:
            if isinstance(party, SimulatedProducer) and party.run == run:
                party.kill()
                self.parties.remove(party)
        self._begin(run)

    def _begin(self, run: str) -> None:
        self.parties.append(self._producer(run, detached=self.jobs[run][1].detached))

    def _accident(self) -> None:
        """Kill or disturb somebody."""
        kinds = ("kill", "kill", "freeze", "freeze", "broker", "purge", "clock")
        kind = self.random.choice(kinds)
        role = self.random.choice(_ROLES)
        victims = [party for party in self.parties if isinstance(party, role)]
        victim = self.random.choice(victims or self.parties)
        if kind == "clock":
            self.broker.seen[Disturbance.CLOCK_JUMP] += 1
            self._jump += self.random.choice((-3_600.0, -5.0, 5.0, 60.0, 3_600.0))
        elif kind == "kill":
            self._replace(victim)
        elif kind == "broker":
            self.broker.seen[Disturbance.BROKER_RESTART] += 1
            self.broker.restart()
        elif kind == "purge":
            lane = self.random.choice([plan.lane for plan in self.scenario.runs])
            queue = self.random.choice([RESULTS_QUEUE, work_queue("default", lane)])
            purged = self.broker.connect("careless operator").channel().purge(queue)
            self.broker.seen[Disturbance.PURGE] += purged > 0
        else:
            self._freeze(victim)

    def _replace(self, victim: Party) -> None:
        """Kill a party and start another of its kind a moment later."""
        self.broker.seen[_death(victim)] += 1
        victim.kill()
        self.parties.remove(victim)
        if isinstance(victim, SimulatedProducer):
            # Where there is a service, whoever follows may leave the run to it.
            left = self.scenario.services > 0 and self.random.random() < LEFT_SHARE
            self.parties.append(self._producer(victim.run, detached=left))
        elif isinstance(victim, SimulatedService):
            self.parties.append(self._service())
        elif isinstance(victim, SimulatedAggregator):
            self.parties.append(self._aggregator())
        else:
            self.parties.append(self._consumer(self.random.choice(self.scenario.consumers)))

    def _freeze(self, victim: Party) -> None:
        """Stop a party as SIGSTOP would: the broker gives it up, and it wakes without knowing."""
        self.broker.seen[Disturbance.FREEZE] += 1
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
        name = f"aggregator-{next(self._names)}"
        return SimulatedAggregator(self, name, self.store, self.scenario.aggregator)

    def _consumer(
        self, slowness: float, *, broken: bool = False, wrong: float = 0.0
    ) -> SimulatedConsumer:
        habits = self.scenario.habits
        seconds = habits.block_seconds * slowness
        share = 1 / slowness if self.scenario.busy and slowness else habits.share
        habits = replace(habits, block_seconds=seconds, broken=broken, share=share, wrong=wrong)
        return SimulatedConsumer(self, f"consumer-{next(self._names)}", habits)

    def _producer(self, run: str, *, detached: bool) -> SimulatedProducer:
        job, plan = self.jobs[run]
        name = f"producer-{next(self._names)}"
        log, size = self.logs[run], plan.chunk_blocks
        return SimulatedProducer(self, name, job, log, size, detached=detached)

    def _service(self) -> SimulatedService:
        return SimulatedService(self, f"service-{next(self._names)}", self.logs)


_ROLES = (
    SimulatedAggregator,
    SimulatedConsumer,
    SimulatedProducer,
    SimulatedService,
    SimulatedService,
)


def _death(victim: Party) -> Disturbance:
    """Say what the death of a party is."""
    match victim:
        case SimulatedProducer() if victim.attendant.leads:
            return Disturbance.LEADER_DEATH
        case SimulatedProducer():
            return Disturbance.FOLLOWER_DEATH
        case SimulatedService() if victim.leads:
            return Disturbance.SERVICE_DEATH
        case SimulatedService():
            return Disturbance.STANDBY_DEATH
        case SimulatedAggregator():
            return Disturbance.AGGREGATOR_DEATH
        case _:
            return Disturbance.CONSUMER_DEATH


def simulate(seed: int, scenario: Scenario | None = None) -> World:
    """Run one schedule and check what it left behind.

    Parameters
    ----------
    seed
        Of the schedule.
    scenario
        What it is made of, unless the seed chooses.

    Raises
    ------
    InvariantError
        A run did not end, its digest differs, a block is missing or counted twice, chunks or
        audits were issued again and again, machines idled beside audits, or a run failed without
        as many crashes at a block as that takes.
    """
    world = World(seed, scenario)
    world.run()
    for run in world.jobs:
        _check(world, run)
    world.store.close()
    return world


def _check(world: World, run: str) -> None:
    _, plan = world.jobs[run]
    expected = undisturbed_digest(plan)
    where = f"seed {world.seed}, {run}"
    result, books = world.store.result(run), world.store.books(run)
    if result is None or books is None or result.digest != expected:
        found = None if result is None else (result.state, result.error, result.digest)
        raise InvariantError(f"{where}: {found}, expected digest {expected}")
    for number, cell in enumerate(books.cells):
        counted = sum(segment.blocks for segment in cell.segments if segment is not None)
        ended = cell.ending is not None and counted == cell.ending.blocks
        if not ended or cell.merged.prefix() < counted:
            raise InvariantError(f"{where}: cell {number} is {cell.ending}, {counted} blocks")
    issued, wanted = world.logs[run].blocks, plan.cells * plan.blocks
    if issued > wanted * MOST_ISSUES:
        raise InvariantError(f"{where}: {issued} blocks were issued for {wanted}")
    audits, seconds = world.logs[run].audits, world.logs[run].ended
    if audits > MOST_AUDITS + MOST_AUDITS_PER_SECOND * seconds:
        raise InvariantError(f"{where}: {audits} audits were issued in {seconds:.0f} s")
    idle = world.idleness.longest.get(run, 0.0)
    if idle > MOST_IDLE_SECONDS:
        raise InvariantError(f"{where}: machines idled {idle:.0f} s beside audits")
