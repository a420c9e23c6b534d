"""The demonstration: price an Asian call and estimate pi while a consumer dies."""

import asyncio
import json
import math
import time
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console

from ops.commands.options import interrupt_on_signals
from ops.exit_codes import exit_code
from ops.stack import Stack
from producer.progress import ProgressDisplay
from producer.run_sections import parse
from producer.runfile import submission
from producer.session import RunSession, Update
from protocol.result_texts import with_error
from protocol.results import Estimate, Result

CONSUMERS, SLOTS = 2, 1
KILL_AT = 0.4
"""Share of the samples after which a consumer is killed."""


@dataclass(frozen=True)
class Show:
    """One run of the demonstration and the truth to compare it with."""

    title: str
    output: str
    reference: float
    content: dict[str, Any]


SHOWS = (
    Show(
        "Arithmetic Asian call: spot 100, strike 100, rate 0.05, volatility 0.2, 252 fixings in a "
        "year; 1,048,576 paths",
        "price",
        5.781824408,
        {
            "run": {"model": "asian", "id": "demo-asian", "seed": 1},
            "params": {
                "spot": 100.0, "strike": 100.0, "rate": 0.05, "volatility": 0.2,
                "dividend_yield": 0.0, "maturity": 1.0, "fixings": 252,
            },
            "stop": {"samples": 1_048_576},
        },
    ),
    Show(
        "Pi by darts: 33,554,432 of them",
        "pi",
        math.pi,
        {"run": {"model": "pi", "id": "demo-pi", "seed": 1}, "stop": {"samples": 33_554_432}},
    ),
)  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print only the result objects, as a list.")
def demo(as_json: bool) -> None:
    """Start a private stack, run two models on it, kill a consumer on the way, stop everything."""
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    interrupt_on_signals()
    began = time.monotonic()
    with console.status(f"starting RabbitMQ, an aggregator and {CONSUMERS} consumers"):
        stack = Stack.start(consumers=CONSUMERS, slots=SLOTS, prefer_port=None, quiet=True)
    with stack:
        console.print(
            f"RabbitMQ, an aggregator and {CONSUMERS} consumers of {SLOTS} slot each are up after "
            f"{time.monotonic() - began:.1f} s"
        )
        results = [_perform(console, stack, show) for show in SHOWS]
        console.print("stopping everything")
    if as_json:
        click.echo(json.dumps([result.model_dump(mode="json") for result in results]))


def _perform(console: Console, stack: Stack, show: Show) -> Result:
    console.print(f"\n[bold]{show.title}[/bold]")
    job = submission(parse(show.content, "demo"))
    with ProgressDisplay(job.run, console) as display:
        accident = _Accident(stack, display, console)
        session = RunSession(stack.node.broker, job, accident)
        result = asyncio.run(session.result())
    estimate = result.cells[0].outputs[show.output]
    console.print(f"{show.output:<10} {with_error(estimate.mean, estimate.standard_error)}")
    console.print(f"reference  {show.reference:.10g}{_distance(estimate, show.reference)}")
    console.print(
        f"samples    {result.samples:,} in {result.elapsed_seconds:.1f} s "
        f"({result.cpu_seconds:.1f} s of CPU)"
    )
    console.print(f"digest     {result.digest}")
    return result


class _Accident:
    """Passes updates on, and once kills the oldest consumer and starts another."""

    def __init__(self, stack: Stack, display: ProgressDisplay, console: Console) -> None:
        self._stack = stack
        self._display = display
        self._console = console
        self._happened = False

    def __call__(self, update: Update) -> None:
        self._display(update)
        share = update.merged_samples / update.total_samples
        if not self._happened and share >= KILL_AT:
            self._happened = True
            victim = self._stack.consumers[0]
            self._stack.kill(victim)
            successor = self._stack.launch_consumer(SLOTS)
            self._console.print(
                f"{victim.name} was killed (SIGKILL) at {share:.0%}; "
                f"{successor.name} starts in its place"
            )


def _distance(estimate: Estimate, reference: float) -> str:
    if estimate.mean is None or not estimate.standard_error:
        return ""
    off = (estimate.mean - reference) / estimate.standard_error
    return f", off by {off:+.2f} standard errors"


def main() -> int:
    """Run the demonstration and return the exit code."""
    return exit_code("demo", lambda: demo.main(prog_name="./ops/demo", standalone_mode=False))


if __name__ == "__main__":
    raise SystemExit(main())
