"""Measures what a partial costs the aggregator to read and to merge, with and without histograms.

Run it as `python -m ops.bench.merging [--json]`. One core, no broker, no store.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click
import numpy as np

from ops.bench.direct import WORKER
from ops.bench.rivals import best_time
from protocol.histogram import Tally
from protocol.messages import Partial, decode, encode
from protocol.statistics import BlockMoments, Statistics, collect

PARTIALS = 64
OUTPUTS = 8
SAMPLES = 1 << 14
"""Of a partial, in one block."""

SPREADS = {"few bins": 0.1, "many bins": 4.0, "very many bins": 15.0}
"""Standard deviation of the samples' logarithms."""


@dataclass(frozen=True)
class Cost:
    """What one partial of so many outputs costs, in microseconds."""

    what: str
    bins: int
    read: float
    merge: float


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def bench(as_json: bool) -> None:
    """Measure reading and merging partials."""
    found = []
    for cost in costs():
        found.append(asdict(cost))
        if not as_json:
            click.echo(
                f"{OUTPUTS} outputs, {cost.what} ({cost.bins} each in all): read "
                f"{cost.read:.0f} us, merge {cost.merge:.0f} us per partial"
            )
    if as_json:
        click.echo(json.dumps({"costs": found}))


def costs() -> Iterator[Cost]:
    """Measure partials without histograms, then with more and more bins."""
    yield _cost("no histograms", None)
    for what, spread in SPREADS.items():
        yield _cost(what, spread)


def _cost(what: str, spread: float | None) -> Cost:
    rng = np.random.default_rng(1)
    bodies = [encode(_partial(number, rng, spread)) for number in range(PARTIALS)]

    def read() -> list[Partial]:
        return [decode(Partial.type, body, Partial) for body in bodies]

    first, *others = (partial.statistics for partial in read())

    def merge() -> Statistics:
        total = first
        for more in others:
            total = total.merge(more)
        return total

    histograms = merge().histograms
    bins = len(histograms[0].arrays()[0]) if histograms else 0
    return Cost(what, bins, *(best_time(work) / PARTIALS * 1e6 for work in (read, merge)))


def _partial(number: int, rng: np.random.Generator, spread: float | None) -> Partial:
    samples = np.exp(rng.standard_normal((OUTPUTS, SAMPLES)) * (spread or 1.0))
    tally = None if spread is None else Tally(OUTPUTS)
    if tally is not None:
        tally.add(samples)
    block = BlockMoments(
        sums=samples.sum(axis=1).tolist(),
        squares=(samples.var(axis=1) * SAMPLES).tolist(),
        minimum=samples.min(axis=1).tolist(),
        maximum=samples.max(axis=1).tolist(),
    )
    return Partial(
        run="bench",
        definition=bytes(32),
        attempt=number,
        cell=0,
        first_block=number,
        blocks=1,
        statistics=collect([block], SAMPLES, tally),
        consumer=WORKER.consumer,
        host=WORKER.host,
        cpu_seconds=0.0,
        engine="bench",
    )


if __name__ == "__main__":
    bench()
