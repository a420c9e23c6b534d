"""Measures what a run will take by small runs of the same model through the real pipeline.

A few runs of one block each tell the latency; one run of all cells, each several times over with
random numbers of its own, tells variances and costs; the same in larger chunks tells what a chunk
adds, and how much of a core a slot gets. They are runs like any other, in the lane `high`, under
ids of their own: `<model>-plan-<time>-<random>-<number>`.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from producer.events import Events, Inbox
from producer.plan import Overhead, Plan, Timing, plan
from producer.plan_cell import CellPilot, Rule, Spread
from producer.rpc import ask
from producer.runfile import Submission
from producer.session import RunSession, Update
from protocol.amqp_aio import Link
from protocol.definition import Definition, Lane, Method, Params, Stop
from protocol.errors import MontemqError, TimedOutError
from protocol.messages import Progress
from protocol.results import CellResult, Result
from protocol.rpc_messages import CancelRequest, Missing
from protocol.sentences import no_consumer
from protocol.settings import Broker

PROBES = 3
"""Runs of one block: the first ones find a model that no slot has loaded yet."""

REPLICATES = 8
MAX_CELLS = 256
"""Measured at most, evenly spaced; each other cell counts as the one measured before it."""

PILOT_SECONDS = 1.0
"""About what each of the pilot's two larger runs takes where blocks are short enough."""

CHUNKS_PER_SLOT = 4
"""Of the large chunks, so that all slots are at work to the end or nearly so."""

MAX_PILOT_BLOCKS = 512
SOBOL_DEGREES = 200
"""Degrees of freedom from which a run believes an error that block means tell."""


@dataclass(frozen=True)
class Shape:
    """How much the pilot computes of each measured cell."""

    replicates: int
    blocks: int


class Measured(BaseModel):
    """The plan, and how it was measured: by which runs, in how many seconds, of how many cells."""

    model_config = ConfigDict(frozen=True)

    plan: Plan
    runs: tuple[str, ...]
    seconds: float
    cells: int
    replicates: int


Observer = Callable[[str, Update], None]
"""Told the id of a small run and its progress."""


class Pilot:
    """The pilot of one run.

    Parameters
    ----------
    broker
        Where.
    submission
        The run to be planned; it is not declared.
    observer
        Told of each of the small runs' progress, by its id.
    """

    def __init__(
        self,
        broker: Broker,
        submission: Submission,
        observer: Observer = lambda _run, _update: None,
    ) -> None:
        self._broker = broker
        self._submission = submission
        self._observer = observer
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self._id = f"{submission.definition.model}-plan-{stamp}-{secrets.token_hex(4)}"
        self._runs: list[str] = []
        self._slots = 0

    async def measure(self, timeout: float | None = None) -> Measured:  # noqa: ASYNC109
        """Run the pilot and return the plan.

        Parameters
        ----------
        timeout
            Seconds to wait at most, for a consumer for instance.

        Raises
        ------
        TimedOutError
            It was not done by then, and is cancelled.
        RunFailedError
            The model failed.
        BrokerError
            The broker or the aggregator cannot be used.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._measure()
        except TimeoutError:
            waits = "" if self._slots else f": {no_consumer(self._submission.pool)}"
            raise TimedOutError(f"the pilot was not done after {timeout:g} s{waits}") from None

    async def _measure(self) -> Measured:
        began = time.monotonic()
        definition = self._submission.definition
        numbers = measured_cells(len(definition.cells))
        probe = _like(definition, [definition.cells[0]], 1)
        probes = [await self._timed(probe) for _ in range(PROBES)]
        wall, first = min(probes, key=lambda one: one[0])
        shape = pilot_shape(definition, len(numbers), first.cpu_seconds, self._slots)
        cells = [definition.cells[n] for n in numbers for _ in range(shape.replicates)]
        pilot = _like(definition, cells, shape.blocks)
        costs: dict[int, float] = {}
        small_wall, result = await self._timed(pilot, costs)
        blocks, slots = len(cells) * shape.blocks, max(1, self._slots)
        chunk_blocks = max(1, min(shape.blocks, blocks // (CHUNKS_PER_SLOT * slots)))
        large_wall, again = await self._timed(pilot, chunk_blocks=chunk_blocks)
        chunks = len(cells) * -(-shape.blocks // chunk_blocks)
        overhead = Overhead.of(
            max(0.0, wall - first.cpu_seconds),
            Timing(small_wall, result.cpu_seconds, blocks),
            Timing(large_wall, again.cpu_seconds, chunks),
            slots,
        )
        found = cell_pilots(definition, result, shape, costs)
        last = len(numbers) - 1
        all_cells = [
            found[min(last, n * len(numbers) // len(definition.cells))]
            for n in range(len(definition.cells))
        ]
        return Measured(
            plan=plan(all_cells, rule_of(definition), overhead, self._slots),
            runs=tuple(self._runs),
            seconds=time.monotonic() - began,
            cells=len(numbers),
            replicates=shape.replicates,
        )

    async def _timed(
        self,
        definition: Definition,
        costs: dict[int, float] | None = None,
        chunk_blocks: int = 1,
    ) -> tuple[float, Result]:
        """Run a definition in chunks of one size; return its wall seconds and its result.

        Into `costs` goes what a block of each cell takes, as far as the progress tells it: what
        ends a run is told as its end, without the cells that it completes.
        """
        run = f"{self._id}-{len(self._runs) + 1}"
        self._runs.append(run)
        job = Submission(run, definition, self._submission.pool, Lane.HIGH)

        def show(update: Update) -> None:
            self._slots = update.slots or self._slots
            self._observer(run, update)

        async with await Link.open(self._broker, "montemq plan") as link:
            inbox = await (await Events.open(link)).follow(run)
            began = time.monotonic()
            try:
                result = await RunSession(self._broker, job, show, chunk_blocks).result()
            except asyncio.CancelledError:
                await self._cancel(run)
                raise
            wall = time.monotonic() - began
        if costs is not None:
            costs.update(_told(inbox))
        return wall, result

    async def _cancel(self, run: str) -> None:
        """Leave nothing to compute behind, as far as the broker lets us."""
        with suppress(MontemqError):
            async with await Link.open(self._broker, "montemq plan") as link:
                await ask(link, CancelRequest(run=run), Missing)


def measured_cells(count: int) -> list[int]:
    """Return the numbers of the cells that are measured."""
    measured = min(count, MAX_CELLS)
    return [-(-number * count // measured) for number in range(measured)]


def pilot_shape(definition: Definition, cells: int, block_seconds: float, slots: int) -> Shape:
    """Return how much to compute of each cell so that all of it takes about a second.

    The standard error of every replicate must be known: two blocks are the least, with Sobol points
    and controls one more for each of these. A run of single samples has no errors to know.
    """
    budget = PILOT_SECONDS * max(1, slots) / max(block_seconds, 1e-9)
    each = max(4, min(MAX_PILOT_BLOCKS, int(budget)) // cells)
    sobol = definition.sampling.method is Method.SOBOL
    least = 2 + (len(definition.controls) if sobol else 0)
    if definition.block_size == 1:
        return Shape(2, 1)
    replicates = max(2, min(REPLICATES, each // least))
    return Shape(replicates, max(least, each // replicates))


def _told(inbox: Inbox) -> dict[int, float]:
    """Return the last cost that was told of each cell."""
    costs = {}
    while not inbox.empty():
        event = inbox.get_nowait()
        for cell in event.cells if isinstance(event, Progress) else ():
            if cell.cost is not None:
                costs[cell.cell] = cell.cost
    return costs


def cell_pilots(
    definition: Definition, result: Result, shape: Shape, costs: Mapping[int, float]
) -> list[CellPilot]:
    """Return what the pilot found of each measured cell, from its replicates.

    A cell of whose cost nothing was told counts as the average one.
    """
    average = result.cpu_seconds / (len(result.cells) * shape.blocks)
    found = []
    for first in range(0, len(result.cells), shape.replicates):
        numbers = range(first, first + shape.replicates)
        replicates = [result.cells[number] for number in numbers]
        known = [costs[number] for number in numbers if number in costs]
        found.append(
            CellPilot(
                samples=sum(cell.samples for cell in replicates),
                block_seconds=fmean(known) if known else average,
                outputs=tuple(_spread(name, replicates) for name in _targets(definition)),
            )
        )
    return found


def rule_of(definition: Definition) -> Rule:
    """Return when the cells of a definition end."""
    sobol = definition.sampling.method is Method.SOBOL
    return Rule(
        block_size=definition.block_size,
        checkpoints=definition.checkpoints,
        standard_error=definition.stop.standard_error,
        relative_error=definition.stop.relative_error,
        least_blocks=SOBOL_DEGREES + 1 + len(definition.controls) if sobol else 2,
        seconds=definition.stop.seconds,
    )


def _targets(definition: Definition) -> tuple[str, ...]:
    """Return the outputs that the targets are of; none where there is no target."""
    if not definition.stop.has_target:
        return ()
    return definition.stop.outputs or definition.reported[:1]


def _spread(name: str, replicates: list[CellResult]) -> Spread:
    estimates = [cell.outputs[name] for cell in replicates]
    return Spread.of(
        [one.mean or 0.0 for one in estimates],
        [
            (one.standard_error or 0.0) ** 2 * cell.samples
            for one, cell in zip(estimates, replicates, strict=True)
        ],
        sum(cell.samples for cell in replicates),
    )


def _like(definition: Definition, cells: Sequence[Params], blocks: int) -> Definition:
    """Return a definition that samples as another one does, each cell with its own numbers."""
    samples = blocks * definition.block_size
    return Definition.model_validate(
        definition.model_dump()
        | {
            "cells": tuple(cells),
            "sampling": definition.sampling.model_copy(update={"common_random_numbers": False}),
            "stop": Stop(samples=samples, confidence=definition.stop.confidence),
        }
    )
