"""Measures `montemq status` on a store of 10,000 finished runs, one of them with 1,000 cells.

Run it as `python -m ops.bench.status [--json]`. The store is filled in its own rows; a real
aggregator then starts on it.
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import click

from aggregator.changes import Changes
from aggregator.ledger import Ledger
from aggregator.store.sqlite import Store
from ops.bench.aggregator import partial as partial_of
from ops.bench.pipeline import TINY, job, wall_seconds
from ops.bench.processor_time import resident_bytes
from ops.commands.queries import SHOWN_RUNS
from ops.stack import STOP_SECONDS, Stack
from producer.rpc import ask
from producer.run_sections import parse
from producer.runfile import submission
from protocol.amqp_aio import Link
from protocol.messages import Message, RunState
from protocol.rpc_messages import (
    MAX_STATUS_RUNS,
    Declare,
    Results,
    ResultsRequest,
    Status,
    StatusRequest,
)
from protocol.settings import Broker

RUNS = 10_000
CELLS = 1_000
LARGE = "large"
REPEATS = 5
BATCH = 2_500


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def bench(as_json: bool) -> None:
    """Fill a store, start a stack on it, and ask."""
    with tempfile.TemporaryDirectory(prefix="montemq-status-") as folder:
        store = Path(folder) / "store.sqlite"
        fill(store)
        figures = {"load_seconds": _load(store)}
        with Stack.start(consumers=0, data_dir=Path(folder), prefer_port=None, quiet=True) as stack:
            figures |= _restart(stack)
            figures |= asyncio.run(_answers(stack.node.broker))
            figures |= _commands(stack.amqp_url)
            pid = stack.description()["pids"]["aggregator"]
            figures["aggregator_resident_mb"] = resident_bytes(pid) / 1e6
    if as_json:
        click.echo(json.dumps({"status": figures}))
        return
    for name, figure in figures.items():
        click.echo(f"{name}: {figure:.4g}")


def fill(path: Path) -> None:
    """Write the runs: one large one, and copies of a small one under other names and times."""
    content: dict[str, Any] = TINY | {"cells": [{}] * CELLS, "stop": {"samples": 32}}
    with Store(path) as store:
        ledger = Ledger(store.take_over())
        large = submission(parse(content, "bench")).declaration
        store.commit(_finished(ledger, large, LARGE, float(RUNS)), ledger.epoch)
        small = _finished(ledger, job(TINY, 32).declaration, "small", 0.0)
        for first in range(0, RUNS, BATCH):
            numbers = range(first, min(first + BATCH, RUNS))
            store.commit(_copies(small, "small", numbers), ledger.epoch)


def _finished(ledger: Ledger, declared: Declare, run: str, now: float) -> Changes:
    """Return what a run changes that the partials of all its blocks finish."""
    definition = declared.definition
    ledger.declare(declared.model_copy(update={"run": run}), now)
    for cell in range(len(definition.cells)):
        ledger.partial(partial_of(run, definition.hash, 0, cell), now)
    assert ledger.ended[run].status.state is RunState.FINISHED  # noqa: S101 - what is measured
    return ledger.take_changes()


def _copies(changes: Changes, run: str, numbers: range) -> Changes:
    """Return what runs change that are like one, each created and ended a second after another."""
    copies, result = Changes(), changes.results[run]
    for number in numbers:
        name, when = f"run-{number}", float(number)
        books = copy(changes.runs[run])
        books.run, books.created, books.opened, books.ended = name, when, when, when
        copies.runs[name] = books
        copies.results[name] = result.model_copy(update={"run": name})
        copies.cells |= {(name, cell) for _, cell in changes.cells}
        copies.segments |= {(name, cell, segment) for _, cell, segment in changes.segments}
        copies.ended_cells |= {(name, cell) for _, cell in changes.ended_cells}
    copies.declared = set(copies.runs)
    return copies


def _load(path: Path) -> float:
    """Return how long reading what an aggregator starts with takes."""
    with Store(path) as store:
        return wall_seconds(lambda: (store.active_runs(), store.ended_runs()))


def _restart(stack: Stack) -> dict[str, float]:
    """Start the aggregator once more, because the broker's start hides what the first one took."""
    aggregator = stack.aggregator
    assert aggregator is not None  # noqa: S101 - a started stack has one
    aggregator.signal(signal.SIGTERM)
    aggregator.stop(STOP_SECONDS)
    began = time.perf_counter()
    aggregator.start()
    aggregator.connect(stack.amqp_url)
    aggregator.wait_until_ready()
    return {
        "aggregator_start_seconds": time.perf_counter() - began,
        "aggregator_resident_mb_at_start": resident_bytes(aggregator.process.pid) / 1e6,
    }


async def _answers(broker: Broker) -> dict[str, float]:
    """Return the median of an answer's time over a connection that is open."""
    questions: dict[str, tuple[Message, type[Message]]] = {
        "status": (StatusRequest(newest=SHOWN_RUNS), Status),
        "status_of_1000_runs": (StatusRequest(newest=MAX_STATUS_RUNS), Status),
        "status_of_run": (StatusRequest(run=LARGE), Status),
        "results_of_run": (ResultsRequest(run=LARGE), Results),
    }
    figures = {}
    async with await Link.open(broker, "montemq bench") as link:
        for name, (question, answer) in questions.items():
            times = []
            for _ in range(REPEATS):
                began = time.perf_counter()
                await ask(link, question, answer)
                times.append(time.perf_counter() - began)
            figures[f"answer.{name}_seconds"] = statistics.median(times)
    return figures


def _commands(amqp_url: str) -> dict[str, float]:
    """Return each command's median wall time, and its processor time, Python's start included."""
    environment = os.environ | {"MONTEMQ_AMQP_URL": amqp_url}
    figures = {}
    for name, words in {
        "help": ["--help"],  # what Python and the program's start take
        "status": ["status"],
        "status_json": ["status", "--json"],
        "status_of_1000_runs": ["status", "--limit", str(MAX_STATUS_RUNS)],
        "status_of_run": ["status", LARGE],
        "results_of_run": ["results", LARGE],
        "results_of_run_json": ["results", LARGE, "--json"],
    }.items():
        command = [sys.executable, "-m", "ops.cli", *words]
        run = partial(
            subprocess.run, command, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        before = _children_seconds()
        figures[f"command.{name}_seconds"] = statistics.median(
            wall_seconds(run) for _ in range(REPEATS)
        )
        figures[f"command.{name}_cpu_seconds"] = (_children_seconds() - before) / REPEATS
    return figures


def _children_seconds() -> float:
    """Return the processor time of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    bench()
