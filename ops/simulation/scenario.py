"""What a schedule is made of: its runs, its parties and what goes wrong; and each run's digest."""

from dataclasses import dataclass, replace
from functools import cache
from random import Random

from aggregator.result import digest
from aggregator.stopping import Target, reached
from consumer.answers import Worker
from consumer.execution import execute
from ops.simulation.aggregator import AggregatorHabits
from ops.simulation.broker import NO_FAULTS, Faults
from ops.simulation.consumer import Habits
from ops.simulation.remembered import load
from protocol.definition import Definition, Lane, Stop
from protocol.messages import Chunk, Partial
from protocol.statistics import Statistics

CELLS, BLOCKS, BLOCK_SIZE = 2, 60, 512
DISTURBED_SECONDS = 15.0
"""Simulated time during which things go wrong; an undisturbed run would take about as long."""

TARGETS = (None, None, 0.01276, 0.01045)
"""Standard errors to stop at: cells end after 60 blocks both, after 48 and 32, after 60 and 48."""

STEP_SECONDS = 0.1
"""Of an aggregator; slow, so that accidents often happen between two of them."""

QUICK = AggregatorHabits(0.005)
"""An aggregator as it usually is."""


@dataclass(frozen=True)
class RunPlan:
    """One run of a schedule.

    Attributes
    ----------
    blocks
        Of each cell.
    cells
        How many.
    lane
        Its lane.
    chunk_blocks
        The forced size of its chunks, None where the scheduler finds one.
    start
        When its producers come, in simulated seconds.
    standard_error
        At which its cells end, None where they end at their last block.
    detached
        Whether its producers leave it to the service and only follow it.
    """

    blocks: int = BLOCKS
    cells: int = CELLS
    lane: Lane = Lane.NORMAL
    chunk_blocks: int | None = None
    start: float = 0.0
    standard_error: float | None = None
    detached: bool = False


@dataclass(frozen=True)
class Scenario:
    """What a schedule is made of, chosen by its seed unless a test gives it.

    Attributes
    ----------
    consumers
        How many times slower than usual each of them is.
    broken
        How many more there are that fail whatever they are given, at once.
    wrong
        How often each of further consumers, whose speed is usual, sends wrong sums.
    busy
        Whether slow ones are so because they get less of a core: their blocks cost no more.
    """

    consumers: tuple[float, ...]
    habits: Habits
    runs: tuple[RunPlan, ...] = (RunPlan(),)
    broken: int = 0
    wrong: tuple[float, ...] = ()
    busy: bool = False
    producers: int = 1
    services: int = 0
    aggregators: int = 1
    aggregator: AggregatorHabits = QUICK
    faults: Faults = NO_FAULTS
    accidents: int = 0

    @classmethod
    def of(cls, random: Random) -> "Scenario":
        """Choose a scenario."""
        consumers = tuple(random.choice((1.0, 1.0, 1.0, 10.0)) for _ in range(random.randint(1, 3)))
        slots = random.randint(1, 2)
        services = random.choice((0, 1, 2))
        runs = tuple(
            RunPlan(
                blocks=33 if number else BLOCKS,
                cells=1 if number else CELLS,
                lane=random.choice([*Lane]),
                chunk_blocks=random.choice((None, None, 1, 7, 7, 20, 20)),
                start=number * random.uniform(0.0, DISTURBED_SECONDS / 2),
                standard_error=None if number else random.choice(TARGETS),
                detached=services > 0 and random.choice((True, False)),
            )
            for number in range(random.choice((1, 1, 1, 1, 2, 3)))
        )
        speed = slots * sum(1 / slowness for slowness in consumers)
        scenario = cls(
            consumers=consumers,
            habits=Habits(
                slots=slots,
                block_seconds=DISTURBED_SECONDS * speed / (CELLS * BLOCKS),
                crash=random.choice((0.0, 0.0, 0.02)),
            ),
            runs=runs,
            producers=random.randint(1, 2),
            services=services,
            aggregators=random.randint(1, 2),
            aggregator=AggregatorHabits(STEP_SECONDS, random.choice((0.0, 0.1, 0.5))),
            faults=Faults(
                drop=random.choice((0.0, 0.002, 0.01)),
                close_channel=random.choice((0.0, 0.002, 0.01)),
                duplicate=random.choice((0.0, 0.1, 1.0)),
            ),
            accidents=random.randint(0, 6),
        )
        share = random.choices((0.0, 0.05, 1.0), (16, 3, 1))[0]  # audits cost the most
        return replace(scenario, aggregator=replace(scenario.aggregator, audit_share=share))


def definition(plan: RunPlan) -> Definition:
    """Return what a run of a schedule computes; by default two cells with three checkpoints."""
    outputs = ("pi",)
    return Definition(
        model="pi",
        model_version=1,
        outputs=outputs,
        cells=({},) * plan.cells,
        seed=7,
        block_size=BLOCK_SIZE,
        stop=Stop(
            samples=plan.blocks * BLOCK_SIZE,
            standard_error=plan.standard_error,
            outputs=() if plan.standard_error is None else outputs,
        ),
    )


def undisturbed_digest(plan: RunPlan) -> str:
    """Return the digest that a run must have in every schedule, computed without any messages."""
    return _undisturbed_digest(plan.blocks, plan.cells, plan.standard_error)


@cache
def _undisturbed_digest(blocks: int, cells: int, target: float | None) -> str:
    run = definition(RunPlan(blocks, cells, standard_error=target))
    return digest(run.hash, [_undisturbed_cell(run, cell, target) for cell in range(cells)])


def _undisturbed_cell(run: Definition, cell: int, target: float | None) -> Statistics:
    """Return the statistics of a cell up to the first checkpoint at which it may end."""
    for checkpoint in run.checkpoints:
        whole = Chunk.of("undisturbed", run, cell, (0, checkpoint), attempt=0)
        answer = execute(whole, Worker("nobody", "nowhere"), load)
        assert isinstance(answer, Partial)  # noqa: S101 - the model works
        found = answer.statistics
        if target and reached(found, run.sampling.method, Target(standard_error=target)):
            break
    return found
