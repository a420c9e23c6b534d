"""Measures the pipeline: tiny chunks per second, efficiency against bare multiprocessing, latency.

Run it as `python -m ops.bench.pipeline [--json] [--only tiny|efficiency|latency]`.
"""

import asyncio
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import click

from consumer.blocks import block_simulation
from consumer.kernels.width import vector_environment
from ops.stack import Stack
from producer.runfile import Submission, parse, submission
from producer.session import RunSession
from protocol.definition import Sampling
from protocol.model import Model, validated
from protocol.registry import load_model
from protocol.results import Result
from protocol.statistics import collect
from protocol.streams import BlockStream

TINY_CHUNKS = 10_000
LATENCY_RUNS = 51
CHUNK_SECONDS = 0.5
WORK_SECONDS = 15.0
"""Wall time of the efficiency measurement on each side, about."""

TINY = {"run": {"model": "pi", "seed": 1}, "sampling": {"block_size": 32}}
LARGE = {"run": {"model": "asian", "seed": 1}}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option("--only", type=click.Choice(["tiny", "efficiency", "latency"]))
def bench(as_json: bool, only: str | None) -> None:
    """Start a private stack with one slot per core and measure it."""
    cores = len(os.sched_getaffinity(0))
    measures: dict[str, Callable[[Stack, int], dict[str, float]]] = {
        "tiny": tiny,
        "efficiency": efficiency,
        "latency": latency,
    }
    found = {}
    with Stack.start(consumers=1, slots=cores, prefer_port=None, quiet=True) as stack:
        for name, measure in measures.items():
            if only in (None, name):
                found[name] = {"montemq": measure(stack, cores)}
                if not as_json:
                    click.echo(f"{name}: {_line(found[name]['montemq'])}")
    if as_json:
        click.echo(json.dumps(found))


def tiny(stack: Stack, _: int) -> dict[str, float]:
    """Measure one-block chunks of the cheapest model, end to end with commits and confirms."""
    began = time.perf_counter()
    _run(stack, _job(TINY, TINY_CHUNKS * 32), chunk_blocks=1)
    return {"chunks_per_second": TINY_CHUNKS / (time.perf_counter() - began)}


def latency(stack: Stack, _: int) -> dict[str, float]:
    """Measure one-block runs from submission to result, connection included."""
    seconds = []
    for _i in range(LATENCY_RUNS):
        began = time.perf_counter()
        _run(stack, _job(TINY, 32), chunk_blocks=1)
        seconds.append(time.perf_counter() - began)
    return {"median_seconds": statistics.median(seconds), "worst_seconds": max(seconds)}


def efficiency(stack: Stack, cores: int) -> dict[str, float]:
    """Compare half-second chunks with the same blocks in a multiprocessing pool.

    The pool computes with vectors of the width that slots have chosen.
    """
    os.environ.update(vector_environment())
    model = validated(load_model("asian"), {})
    _simulate((model, 0, 1))  # loads the kernels
    began = time.perf_counter()
    count = 0
    while time.perf_counter() - began < 1.0:
        _simulate((model, count, 1))
        count += 1
    per_chunk = max(1, round(count * CHUNK_SECONDS / (time.perf_counter() - began)))
    chunks = max(cores, round(WORK_SECONDS / CHUNK_SECONDS) * cores)
    tasks = [(model, i * per_chunk, per_chunk) for i in range(chunks)]
    context = multiprocessing.get_context("forkserver")
    with context.Pool(cores) as pool:
        pool.map(_simulate, [(model, 0, 1)] * cores, chunksize=1)  # imports and first touches
        began = time.perf_counter()
        pool.map(_simulate, tasks, chunksize=1)
        bare = time.perf_counter() - began
    job = _job(LARGE, chunks * per_chunk * model.block_size)
    began = time.perf_counter()
    _run(stack, job, chunk_blocks=per_chunk)
    through = time.perf_counter() - began
    return {"ratio": bare / through, "bare_seconds": bare, "pipeline_seconds": through}


def _simulate(task: tuple[Model, int, int]) -> int:
    model, first, blocks = task
    # What a slot does for a chunk, without its messages.
    simulate = block_simulation(model, Sampling(), model.outputs, bump={}, tally=None)
    streams = (BlockStream(1, 0, first + i, model.block_size) for i in range(blocks))
    return collect(map(simulate, streams), model.block_size).samples


def _job(content: dict[str, Any], samples: int) -> Submission:
    return submission(parse(content | {"stop": {"samples": samples}}, "bench"))


def _run(stack: Stack, job: Submission, chunk_blocks: int) -> Result:
    return asyncio.run(RunSession(stack.node.broker, job, chunk_blocks=chunk_blocks).result())


def _line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


if __name__ == "__main__":
    bench()
