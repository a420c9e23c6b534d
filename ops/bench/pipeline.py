"""Measures the pipeline: chunks per second, efficiency, latency, mixed consumers, time to an error.

Run it as `python -m ops.bench.pipeline [--json] [--only …] [--peers]`, where
`--only` takes tiny, efficiency, latency, mixed or error.
"""

import asyncio
import functools
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from consumer.kernels.width import vector_environment
from ops.bench import mixed as mixed_fleet
from ops.bench.blocks import Task, simulate
from ops.bench.peers import PEERS, Compute, pool_peer
from ops.bench.peers.place import Place, redis_server
from ops.bench.processor_time import processes, processor_seconds
from ops.stack import Stack
from producer.run_sections import parse
from producer.runfile import Submission, submission
from producer.session import RunSession
from protocol.model import validated
from protocol.registry import load_model
from protocol.results import Result

TINY_WARM = 1_000
TINY_CHUNKS = (10_000, 100_000)
PEER_TASKS = 2_000
LATENCY_RUNS = 51
CHUNK_SECONDS = 0.5
ROUND_SECONDS = 10.0
"""Wall time of one round of the efficiency measurement on each side, about: twenty chunks for each
slot, so that the first and the last ones weigh little."""

ROUNDS = 3

COMPARED = {"tiny": "chunks_per_second", "efficiency": "ratio", "latency": "median_seconds"}
"""The figure that stands for a measurement beside that of peers."""

TINY = {"run": {"model": "pi", "seed": 1}, "sampling": {"block_size": 32}}
ERROR_REPEATS = 9
ERROR_JOB: dict[str, Any] = {
    "run": {"model": "asian"},
    "sampling": {"method": "sobol", "control_variates": True},
    "stop": {"standard_error": 1e-4},
}
LARGE = {"run": {"model": "asian", "seed": 1}}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option("--only", type=click.Choice(["tiny", "efficiency", "latency", "mixed", "error"]))
@click.option("--peers", is_flag=True, help="Measure the same work on other systems as well.")
@click.option(
    "--peer-tasks", default=PEER_TASKS, show_default=True, type=click.IntRange(1),
    help="Tiny tasks that peers are given.",
)  # fmt: skip
def bench(as_json: bool, only: str | None, peers: bool, peer_tasks: int) -> None:
    """Start a private stack with one slot per core and measure it."""
    cores = len(os.sched_getaffinity(0))
    os.environ.update(vector_environment())  # as slots do; also for peers
    measures: dict[str, Callable[[Stack, int], dict[str, float]]] = {
        "tiny": tiny,
        "efficiency": efficiency,
        "latency": latency,
        "mixed": mixed,
        "error": error,
    }
    found: dict[str, dict[str, dict[str, float]]] = {}
    with Stack.start(consumers=1, slots=cores, prefer_port=None, quiet=True) as stack:
        for name, measure in measures.items():
            if only in (None, name):
                found[name] = {"montemq": measure(stack, cores)}
                if not as_json:
                    click.echo(f"{name}.montemq: {figures_line(found[name]['montemq'])}")
        if peers:  # the stack idles meanwhile
            # Their lines are for people: beside JSON they go to stderr.
            say = functools.partial(click.echo, err=as_json)
            measure_peers(found, Place(cores, stack.amqp_url), peer_tasks, say)
    if as_json:
        click.echo(json.dumps(found))


def tiny(stack: Stack, _: int) -> dict[str, float]:
    """Measure one-block chunks of the cheapest model, end to end with commits and confirms.

    Once with many and once with ten times as many: the rate must not fall.
    """
    _run(stack, job(TINY, TINY_WARM * 32), chunk_blocks=1)
    rates, costs = [], []
    for chunks in TINY_CHUNKS:
        pids = [pid for part in processes(stack).values() for pid in part]
        before, began = processor_seconds(pids), time.perf_counter()
        _run(stack, job(TINY, chunks * 32), chunk_blocks=1)
        rates.append(chunks / (time.perf_counter() - began))
        costs.append((processor_seconds(pids) - before) / chunks)
    return {
        "chunks_per_second": rates[0],
        "many_chunks_per_second": rates[-1],
        "many_ratio": rates[-1] / rates[0],
        "cpu_seconds_per_chunk": costs[0],
        "many_cpu_seconds_per_chunk": costs[-1],
    }


def latency(stack: Stack, _: int) -> dict[str, float]:
    """Measure one-block runs from submission to result, connection included."""
    seconds = []
    for _i in range(LATENCY_RUNS):
        began = time.perf_counter()
        _run(stack, job(TINY, 32), chunk_blocks=1)
        seconds.append(time.perf_counter() - began)
    return {"median_seconds": statistics.median(seconds), "worst_seconds": max(seconds)}


def error(stack: Stack, _: int) -> dict[str, float]:
    """Measure the Asian call, 252 fixings, to a standard error of 1e-4, submission to result.

    A first run warms the stack and does not count; each run has a seed of its own.
    """
    seconds, errors, samples = [], [], []
    for seed in range(ERROR_REPEATS + 1):
        job = submission(parse(ERROR_JOB | {"run": ERROR_JOB["run"] | {"seed": seed}}, "bench"))
        began = time.perf_counter()
        result = _run(stack, job)
        seconds.append(time.perf_counter() - began)
        errors.append(result.cells[0].outputs["price"].standard_error or math.inf)
        samples.append(result.samples)
    return {
        "median_seconds": statistics.median(seconds[1:]),
        "worst_seconds": max(seconds[1:]),
        "largest_standard_error": max(errors),
        "most_samples": max(samples),
    }


def efficiency(stack: Stack, cores: int) -> dict[str, float]:
    """Compare half-second chunks with the same blocks in a multiprocessing pool.

    Both sides take turns, so that whatever else the machine does meets both.
    """
    tasks = half_second_tasks(cores)
    samples = sum(task.blocks for task in tasks) * tasks[0].block_size
    bare, through = [], []
    with pool_peer.start(Place(cores)) as compute:
        compute(tasks[:cores])  # imports and first touches
        for _ in range(ROUNDS):
            bare.append(wall_seconds(lambda: compute(tasks)))
            through.append(
                wall_seconds(lambda: _run(stack, job(LARGE, samples), chunk_blocks=tasks[0].blocks))
            )
    return {
        "ratio": statistics.median(bare) / statistics.median(through),
        "bare_seconds": statistics.median(bare),
        "pipeline_seconds": statistics.median(through),
    }


def mixed(_: Stack, cores: int) -> dict[str, float]:
    """Compare runs on a fast and a slow consumer, on a stack of their own, with the ideal time."""
    tasks = half_second_tasks(cores)
    speed = tasks[0].blocks * tasks[0].block_size / CHUNK_SECONDS

    def submit(stack: Stack, samples: int) -> float:
        return wall_seconds(lambda: _run(stack, job(LARGE, samples)))

    return mixed_fleet.measure(submit, speed)


def half_second_tasks(cores: int) -> list[Task]:
    """Return tasks of about half a second each, for one round of the efficiency measurement."""
    size = validated(load_model("asian"), {}).block_size
    simulate(Task("asian", size, 0, 1))  # loads the kernels
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 1.0:
        simulate(Task("asian", size, count, 1))
        count += 1
    blocks = max(1, round(count * CHUNK_SECONDS / (time.perf_counter() - began)))
    tasks = max(1, round(ROUND_SECONDS / CHUNK_SECONDS)) * cores
    return [Task("asian", size, i * blocks, blocks) for i in range(tasks)]


def measure_peers(
    found: dict[str, dict[str, dict[str, float]]],
    place: Place,
    tiny_tasks: int,
    say: Callable[[str], None],
) -> None:
    """Add each peer's figures to those of montemq, and say which peer is missing, and why."""
    for name in found.keys() - COMPARED:
        say(f"{name}: not measured on peers")
    compared = {name: figures for name, figures in found.items() if name in COMPARED}
    with redis_server() as redis:
        place = replace(place, redis_url=redis or "")
        for peer in PEERS if compared else ():
            if (lack := peer.lacks(redis)) is not None:
                say(f"{peer.name} is left out: {lack}")
                continue
            say(f"{peer.name}: {peer.guarantees}")
            with peer.start(place) as compute:
                for name, figures in compared.items():
                    measured = _measure_peer(name, compute, place.cores, tiny_tasks)
                    figures[peer.name] = measured
                    ratio = _times(name, figures["montemq"], measured)
                    say(f"  {name}.{peer.name}: {figures_line(measured)}; montemq is {ratio}")


def _measure_peer(name: str, compute: Compute, cores: int, tiny_tasks: int) -> dict[str, float]:
    """Measure one thing on a peer."""
    one = [Task("pi", 32, 0, 1)]
    compute(one * cores * 4)  # imports and first touches
    match name:
        case "tiny":
            tasks = [Task("pi", 32, block, 1) for block in range(tiny_tasks)]
            return {"chunks_per_second": tiny_tasks / wall_seconds(lambda: compute(tasks))}
        case "latency":
            seconds = [wall_seconds(lambda: compute(one)) for _ in range(LATENCY_RUNS)]
            return {"median_seconds": statistics.median(seconds), "worst_seconds": max(seconds)}
        case _:
            tasks = half_second_tasks(cores)
            compute(tasks[:cores])
            with pool_peer.start(Place(cores)) as bare:
                bare(tasks[:cores])
                pairs = [
                    (wall_seconds(lambda: bare(tasks)), wall_seconds(lambda: compute(tasks)))
                    for _ in range(ROUNDS)
                ]
            bare_side, peer_side = zip(*pairs, strict=True)
            return {"ratio": statistics.median(bare_side) / statistics.median(peer_side)}


def _times(name: str, ours: dict[str, float], theirs: dict[str, float]) -> str:
    key = COMPARED[name]
    ratio = theirs[key] / ours[key] if name == "latency" else ours[key] / theirs[key]
    return f"{ratio:.3g} times as good"


def wall_seconds(work: Callable[[], object]) -> float:
    """Return the wall time of some work."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def job(content: dict[str, Any], samples: int) -> Submission:
    """Return a run of so many samples."""
    return submission(parse(content | {"stop": {"samples": samples}}, "bench"))


def _run(stack: Stack, job: Submission, chunk_blocks: int | None = None) -> Result:
    return asyncio.run(RunSession(stack.node.broker, job, chunk_blocks=chunk_blocks).result())


def figures_line(figures: dict[str, float]) -> str:
    """Return the figures as one line for people."""
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


if __name__ == "__main__":
    bench()
