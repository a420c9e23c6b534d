"""Runs, partials and failures for tests: block statistics that follow from cell and block alone."""

import random
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from protocol.definition import Definition, Lane, Stop
from protocol.messages import (
    CHUNK_SECONDS,
    CONFIRM_SECONDS,
    Chunk,
    ConsumerState,
    Failure,
    FailureKind,
    Leader,
    LeaderTotals,
    ModelTotals,
    Partial,
    Telemetry,
    Totals,
)
from protocol.rpc_messages import Declare
from protocol.statistics import BlockMoments, Statistics, collect

RUN = "run-1"
BLOCK_SIZE = 1024
"""So large that checkpoints are close together: 32, 48, 72, 108, 162 … blocks."""


def definition(
    blocks: int = 108,
    cells: int = 1,
    outputs: tuple[str, ...] = ("x",),
    seed: int = 7,
    stop: Mapping[str, Any] = MappingProxyType({}),
) -> Definition:
    """Return the definition of a run with so many blocks in each of its cells, at most."""
    return Definition(
        model="demo",
        model_version=1,
        outputs=outputs,
        cells=tuple({"cell": number} for number in range(cells)),
        seed=seed,
        block_size=BLOCK_SIZE,
        stop=Stop(samples=blocks * BLOCK_SIZE, **stop),
    )


def declare(of: Definition, run: str = RUN) -> Declare:
    """Return the request that declares a run."""
    return Declare(run=run, definition=of, pool="default", lane=Lane.NORMAL)


@cache
def block(cell: int, number: int, outputs: int = 1) -> BlockMoments:
    """Return the moments of one block."""
    chance = random.Random(f"{cell} {number}")  # noqa: S311 - made-up samples
    return BlockMoments(
        sums=[chance.gauss(0, 100) for _ in range(outputs)],
        squares=[chance.uniform(900, 1100) for _ in range(outputs)],
        minimum=[-chance.random() for _ in range(outputs)],
        maximum=[chance.random() for _ in range(outputs)],
    )


def statistics(cell: int, start: int, stop: int, outputs: int = 1) -> Statistics:
    """Return the statistics of the blocks [start, stop) of a cell."""
    return collect((block(cell, number, outputs) for number in range(start, stop)), BLOCK_SIZE)


def partial(of: Definition, start: int, stop: int, cell: int = 0, **fields: Any) -> Partial:
    """Return the partial of the blocks [start, stop) of a cell."""
    values: dict[str, Any] = {
        "run": RUN,
        "definition": of.hash,
        "attempt": start,
        "cell": cell,
        "first_block": start,
        "blocks": stop - start,
        "statistics": statistics(cell, start, stop, len(of.outputs)),
        "consumer": "host-a.1",
        "host": "host-a",
        "cpu_seconds": 0.5,
        "engine": "portable",
    }
    return Partial(**values | fields)


def failure(of: Definition, start: int, stop: int, cell: int = 0, **fields: Any) -> Failure:
    """Return a failure of the blocks [start, stop) of a cell."""
    values: dict[str, Any] = {
        "run": RUN,
        "definition": of.hash,
        "attempt": 0,
        "cell": cell,
        "first_block": start,
        "blocks": stop - start,
        "kind": FailureKind.MODEL_ERROR,
        "text": "division by zero",
        "consumer": "host-a.1",
        "host": "host-a",
    }
    return Failure(**values | fields)


def chunk(of: Definition, start: int, stop: int, cell: int = 0, **fields: Any) -> Chunk:
    """Return the chunk of the blocks [start, stop) of a cell."""
    return Chunk.of(RUN, of, cell, (start, stop), attempt=0).model_copy(update=fields)


def telemetry(consumer: str = "host-a.1", slots: int = 2, **fields: Any) -> Telemetry:
    """Return the heartbeat of a consumer."""
    values: dict[str, Any] = {
        "consumer": consumer,
        "host": consumer.partition(".")[0],
        "pool": "default",
        "slots": slots,
        "busy": 0,
        "state": ConsumerState.RUNNING,
        "version": "0.1.0",
    }
    return Telemetry(**values | fields)


def totals(model: str = "pi", chunks: Mapping[int, int] | None = None, **fields: Any) -> Totals:
    """Return what a consumer has counted: chunks by class, 10 samples and a second for each."""
    counts = chunks or {}
    number = sum(counts.values())
    classes = tuple(counts.get(index, 0) for index in range(len(CHUNK_SECONDS) + 1))
    seconds = float(number)
    models = {
        model: ModelTotals(
            samples=10 * number, seconds=seconds, cpu_seconds=seconds / 2, chunks=classes
        )
    }
    rest: dict[str, Any] = {"failures": {}, "reconnections": 0, "cancels": 0}
    return Totals(**({"models": models} | rest | fields))


def leader_totals(**fields: Any) -> LeaderTotals:
    """Return what a leader has counted: nothing but these."""
    values: dict[str, Any] = {
        "published": 0,
        "returned": 0,
        "reissued": {},
        "blockings": 0,
        "confirm_seconds": 0.0,
        "confirms": (0,) * (len(CONFIRM_SECONDS) + 1),
    }
    return LeaderTotals(**values | fields)


def leader(name: str = "host-p.1", **fields: Any) -> Leader:
    """Return the heartbeat of a producer that leads one run."""
    values: dict[str, Any] = {
        "leader": name,
        "host": name.partition(".")[0],
        "version": "0.1.0",
        "first": False,
        "stopped": False,
        "runs": 1,
        "window": 4,
        "outstanding": 3,
        "unconfirmed": 2,
        "totals": leader_totals(),
    }
    return Leader(**values | fields)
