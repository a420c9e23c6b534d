"""Measures a consumer: from its start to ready for chunks with cached kernels; memory of a slot.

Run it as `python -m ops.bench.consumers [--json] [--only start|memory]`.
"""

import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ops.bench.pipeline import figures_line
from ops.child_process import descendants
from ops.service import Service
from ops.stack import Stack, start_broker
from producer.run_sections import parse
from producer.runfile import submission
from producer.session import RunSession

STARTS = 7
STOP_SECONDS = 20.0
MEGABYTE = 1e6

FEW_SLOTS, MANY_SLOTS = 1, 5
WORK: tuple[dict[str, Any], ...] = (
    {"run": {"model": "pi"}, "stop": {"samples": 2**24}},
    {"run": {"model": "european"}, "stop": {"samples": 2**20}},
    {"run": {"model": "asian"}, "sampling": {"method": "sobol"}, "stop": {"samples": 2**16}},
    {"run": {"model": "barrier"}, "stop": {"samples": 2**16}},
    {"run": {"model": "backtest"}, "stop": {"samples": 2**13}},
)
"""A run of each model, in so many chunks of one block that all slots take part."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option("--only", type=click.Choice(["start", "memory"]))
def bench(as_json: bool, only: str | None) -> None:
    """Start consumers on a private broker and measure them."""
    measures: dict[str, Callable[[], dict[str, float]]] = {"start": start, "memory": memory}
    found = {}
    for name, measure in measures.items():
        if only in (None, name):
            found[name] = {"montemq": measure()}
            if not as_json:
                click.echo(f"{name}: {figures_line(found[name]['montemq'])}")
    if as_json:
        click.echo(json.dumps(found))


def start() -> dict[str, float]:
    """Measure a consumer with a slot per core, from its start until chunks can arrive.

    CPU time is of all its processes. The first start fills the cache and does not count.
    """
    seconds, cpu = [], []
    with tempfile.TemporaryDirectory(prefix="mc-") as folder, start_broker(None, None) as node:
        environment = os.environ | {"TMPDIR": folder}
        # Bytecode is part of what is cached; without it, Python's compiler takes seconds.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        service = Service("consumer", ["consumer"], Path(folder), environment, quiet=True)
        for _ in range(STARTS + 1):
            began = time.perf_counter()
            service.start()
            service.connect(node.url)
            service.wait_until_ready()
            seconds.append(time.perf_counter() - began)
            cpu.append(sum(map(_cpu_seconds, _family(service))))
            service.signal(signal.SIGTERM)
            service.stop(STOP_SECONDS)
            service.wait_for_family(STOP_SECONDS)
    return {
        "median_seconds": statistics.median(seconds[1:]),
        "worst_seconds": max(seconds[1:]),
        "median_cpu_seconds": statistics.median(cpu[1:]),
    }


def memory() -> dict[str, float]:
    """Measure by how much a slot that has computed each model adds to the proportional set size.

    That is memory of its own, and its share of what several processes use.
    """
    with Stack.start(consumers=0, prefer_port=None, quiet=True) as stack:
        few, many = (_worked(stack, slots) for slots in (FEW_SLOTS, MANY_SLOTS))
    return {
        "megabytes_of_a_consumer_with_one_slot": few,
        "megabytes_per_added_slot": (many - few) / (MANY_SLOTS - FEW_SLOTS),
    }


def _worked(stack: Stack, slots: int) -> float:
    """Return the megabytes of a consumer all of whose slots have computed every model."""
    service = stack.launch_consumer(slots)
    service.wait_until_ready()
    for number, content in enumerate(WORK):
        job = submission(parse(content | {"run": {**content["run"], "seed": number}}, "bench"))
        asyncio.run(RunSession(stack.node.broker, job, chunk_blocks=1).result())
    found = sum(map(_proportional_bytes, _family(service))) / MEGABYTE
    stack.kill(service)
    return found


def _family(service: Service) -> list[int]:
    pid = service.process.pid
    return [pid, *(child.pid for child in descendants(pid))]


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _proportional_bytes(pid: int) -> int:
    """Return the proportional set size of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    bench()
