"""Measures the kernels: cost of a step, and time to a given standard error; no broker involved.

Run it as `python -m ops.bench.kernels [--json] [--only cost|error]`. One core; least CPU time of
several repeats, because other load only adds to it.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from consumer.kernels.width import vector_environment
from consumer.models.asian import Asian
from consumer.models.barrier import Barrier
from consumer.models.european import European
from consumer.models.pi import Pi
from ops.bench import direct, rivals
from protocol.definition import Method, Sampling
from protocol.model import Model
from protocol.streams import BlockStream

BLOCK_SIZE = 4096
REPEATS = 7
STEPS = 2_000_000
"""Of a measurement of a kernel, about; a rival takes fewer, by how much slower it is."""

WAYS = {
    "plain": Sampling(),
    "antithetic": Sampling(method=Method.ANTITHETIC),
    "control variate": Sampling(control_variates=True),
    "sobol": Sampling(method=Method.SOBOL),
    "sobol + control variate": Sampling(method=Method.SOBOL, control_variates=True),
}

CONTRACTS: dict[str, Model] = {
    "asian call, 252 fixings": Asian(),
    "european call": European(),
    "down-and-out call, 252 dates": Barrier(),
    "down-and-out call, continuous": Barrier(monitoring="continuous"),
}
TARGETS = {"asian": 1e-4, "european": 1e-4, "barrier": 1e-3}
"""Standard errors of the price, in currency."""


@dataclass(frozen=True)
class Cost:
    """What one step of one path, or one dart, costs; an antithetic sample has two paths."""

    what: str
    who: str
    nanoseconds: float


@dataclass(frozen=True)
class Effort:
    """What a standard error costs; None where the way does not apply or tells no error."""

    what: str
    way: str
    target: float
    samples: float | None
    cpu_seconds: float | None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option("--only", type=click.Choice(["cost", "error"]))
def bench(as_json: bool, only: str | None) -> None:
    """Measure the kernels on one core."""
    # As a consumer's slots do; numba reads it when it is loaded.
    os.environ.update(vector_environment())
    costs = [] if only == "error" else [*kernel_costs(), *rival_costs()]
    efforts = [] if only == "cost" else list(all_efforts())
    if as_json:
        found = {"costs": [asdict(c) for c in costs], "efforts": [asdict(e) for e in efforts]}
        click.echo(json.dumps({"vectors": vectors(), **found}))
        return
    click.echo(vectors())
    if costs:
        _show_costs(costs)
    if efforts:
        _show_efforts(efforts)


def vectors() -> str:
    """Say which vector instructions the machine has, and what the kernels were compiled for."""
    from numba.core import config  # noqa: PLC0415 - the models choose its features first

    Asian().samples(BlockStream(1, 0, 0, 2), Sampling(), ("price",))
    simd = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    width = 512 if any("AVX512" in name for name in simd) else 256 if "AVX2" in simd else 128
    features = getattr(config, "CPU_FEATURES", None) or ""
    used = 512 if "-prefer-256-bit" in features else min(width, 256)
    return f"vector width: {width} bits in the machine, {used} preferred by the kernels"


def kernel_costs() -> Iterator[Cost]:
    """Measure each model with each method, price alone and with everything."""
    yield Cost("pi, per dart", "plain", _pi_cost())
    for what, model in CONTRACTS.items():
        for way, sampling in WAYS.items():
            yield Cost(f"{what}: price", way, _model_cost(model, sampling, ("price",)))
        controlled = WAYS["control variate"]
        everything = _model_cost(model, controlled, model.outputs)
        yield Cost(f"{what}: all outputs", "control variate", everything)


def rival_costs() -> Iterator[Cost]:
    """Measure numpy, plain Python and QuantLib on the same contracts."""
    steps = rivals.FIXINGS
    for what, work, size, per in (
        ("pi, per dart", rivals.numpy_pi, 1 << 20, 1),
        ("asian call, 252 fixings: price", rivals.numpy_asian, 1 << 14, steps),
        ("european call: price", rivals.numpy_european, 1 << 20, 1),
        ("down-and-out call, 252 dates: price", rivals.numpy_barrier, 1 << 14, steps),
    ):
        yield Cost(what, "numpy, in tiles", _rival(work, size) / per)
    yield Cost("pi, per dart", "Python loop", _rival(rivals.python_dart_loop, 50_000))
    asian = "asian call, 252 fixings: price"
    yield Cost(asian, "Python loop", _rival(rivals.python_path_loop, 300) / steps)
    if rivals.quantlib_asian(1024) is not None:
        yield Cost(asian, "QuantLib", _rival(rivals.quantlib_asian, 4096) / steps)


def all_efforts() -> Iterator[Effort]:
    """Measure what the price's target error costs, for each contract and way of sampling."""
    for what, model in CONTRACTS.items():
        for way, sampling in WAYS.items():
            yield effort(what, model, way, sampling)


def effort(what: str, model: Model, way: str, sampling: Sampling) -> Effort:
    """Scale the error and the cost of a smaller run: a variance falls as one over the blocks."""
    target = TARGETS[model.name]
    # Enough blocks to know the error, of sobol points too, to a tenth.
    blocks = max(64, math.ceil(STEPS * 4 / (_steps(model) * model.block_size)))
    direct.run(model, sampling, model.block_size, ("price",))
    answer = direct.run(model, sampling, blocks * model.block_size, ("price",))
    error = answer.outputs["price"].standard_error
    if error is None:
        return Effort(what, way, target, None, None)
    factor = (error / target) ** 2
    return Effort(what, way, target, answer.samples * factor, answer.cpu_seconds * factor)


def _steps(model: Model) -> int:
    return int(model.params().get("fixings", 1))  # type: ignore[arg-type]


def _pi_cost() -> float:
    pi = Pi()

    def darts(block: int) -> None:
        pi.simulate(BlockStream(1, 0, block, pi.block_size), Sampling(), pi.outputs)

    return _per_step(darts, pi.block_size)


def _model_cost(model: Model, sampling: Sampling, outputs: tuple[str, ...]) -> float:
    paths = 2 if sampling.method is Method.ANTITHETIC else 1

    def block(number: int) -> None:
        model.samples(BlockStream(1, 0, number, BLOCK_SIZE), sampling, outputs)

    return _per_step(block, _steps(model) * paths * BLOCK_SIZE)


def _per_step(work: Callable[[int], None], steps: int) -> float:
    """Return nanoseconds per step of work on one block, which takes so many steps."""
    count = max(1, STEPS // steps)
    work(0)

    def blocks() -> None:
        for block in range(count):
            work(block)

    return rivals.best_time(blocks, REPEATS) / (count * steps) * 1e9


def _rival(work: Callable[[int], object], size: int) -> float:
    work(size)
    return rivals.best_time(lambda: work(size)) / size * 1e9


def _show_costs(costs: Sequence[Cost]) -> None:
    best = {}
    for cost in costs:
        if cost.who == "plain":
            best[cost.what] = cost.nanoseconds
    table = Table("what", "how", "ns per step", "times plain", title="Cost of a step")
    for cost in sorted(costs, key=lambda cost: cost.what):
        times = cost.nanoseconds / best[cost.what] if cost.what in best else math.nan
        ratio = "" if math.isnan(times) else f"{times:.2f}"
        table.add_row(cost.what, cost.who, f"{cost.nanoseconds:.2f}", ratio)
    _print(table)


def _show_efforts(efforts: Sequence[Effort]) -> None:
    table = Table("contract", "error", *WAYS, title="CPU seconds to a standard error of the price")
    for what in dict.fromkeys(effort.what for effort in efforts):
        row = [effort for effort in efforts if effort.what == what]
        cells = ["-" if e.cpu_seconds is None else f"{e.cpu_seconds:.3g}" for e in row]
        table.add_row(what, f"{row[0].target:g}", *cells)
    _print(table)


def _print(table: Table) -> None:
    width = int(os.environ.get("COLUMNS", "120"))
    Console(width=width).print(table)


if __name__ == "__main__":
    bench()
