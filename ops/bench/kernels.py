"""Measures the kernels: cost of a step, and time to a given standard error; no broker involved.

Run it as `python -m ops.bench.kernels [--json] [--only cost|error]`. One core; least CPU time of
several repeats, because other load only adds to it. QuantLib has a row where it is installed
(`pip install QuantLib`).
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.table import Table

from consumer.kernels.width import vector_environment
from consumer.models.asian import Asian
from consumer.models.backtest import Backtest
from consumer.models.barrier import Barrier
from consumer.models.european import European
from consumer.models.pi import Pi
from ops.bench import rivals
from ops.bench.efforts import LONGEST_SECONDS, Effort, effort
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
BACKTEST = "back-test of EURUSD, per resampled day"
TARGETS = {"asian": 1e-4, "european": 1e-4, "barrier": 1e-3}
"""Standard errors of the price, in currency."""


@dataclass(frozen=True)
class Cost:
    """What one step of one path, or one dart, costs; an antithetic sample has two paths."""

    what: str
    who: str
    nanoseconds: float


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option("--only", type=click.Choice(["cost", "error"]))
def bench(as_json: bool, only: str | None) -> None:
    """Measure the kernels on one core."""
    # As a consumer's slots do; numba reads it when it is loaded.
    os.environ.update(vector_environment())
    costs = [] if only == "error" else [*kernel_costs(), *rival_costs(), *_backtest_costs()]
    missing = rivals.missing() if costs else []
    efforts = [] if only == "cost" else list(all_efforts())
    if as_json:
        found = {"costs": [asdict(c) for c in costs], "efforts": [asdict(e) for e in efforts]}
        click.echo(json.dumps({"vectors": vectors(), "missing": missing, **found}))
        return
    click.echo(vectors())
    if costs:
        _show_costs(costs)
    for sentence in missing:
        click.echo(sentence)
    if efforts:
        _show_efforts(efforts)


def vectors() -> str:
    """Say which vector instructions the machine has, and what the kernels were compiled for."""
    from llvmlite import binding  # noqa: PLC0415 - the models choose numba's features first
    from numba.core import config  # noqa: PLC0415

    Asian().samples(BlockStream(1, 0, 0, 2), Sampling(), ("price",))
    width = vector_bits(binding.get_host_cpu_features())
    chosen = getattr(config, "CPU_FEATURES", None)
    features = chosen or binding.get_host_cpu_features().flatten()
    compiled = vector_bits({part[1:]: part[0] == "+" for part in features.split(",") if part})
    used = compiled if "-prefer-256-bit" in features else min(compiled, 256)
    return f"vector width: {width} bits in the machine, {used} preferred by the kernels"


def vector_bits(features: Mapping[str, bool]) -> int:
    """Return the width of the widest vectors of doubles, in bits, among LLVM's features."""
    if features.get("avx512f", False):
        return 512
    return 256 if features.get("avx2", False) or features.get("avx", False) else 128


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
    if not rivals.missing():
        yield Cost(asian, "QuantLib", _rival(rivals.quantlib_asian, 4096) / steps)


def all_efforts() -> Iterator[Effort]:
    """Measure what the price's target error costs, for each contract and way of sampling."""
    for what, model in CONTRACTS.items():
        for way, sampling in WAYS.items():
            yield effort(what, model, way, sampling, TARGETS[model.name])


def _steps(model: Model) -> int:
    return int(model.params().get("fixings", 1))  # type: ignore[arg-type]


def _pi_cost() -> float:
    pi = Pi()

    def darts(block: int) -> None:
        pi.simulate(BlockStream(1, 0, block, pi.block_size), Sampling(), pi.outputs)

    return _per_step(darts, pi.block_size)


def _backtest_costs() -> Iterator[Cost]:
    """Measure a day of a resampled history, by the kernels and by numpy."""
    # Here, not above: numba reads the width of vectors when it is loaded.
    from consumer.backtest.history import net_returns  # noqa: PLC0415
    from consumer.kernels.block_length import automatic_block_length  # noqa: PLC0415

    model = Backtest()
    returns = net_returns(model)
    length = automatic_block_length(returns)

    def block(number: int) -> None:
        model.samples(BlockStream(1, 0, number, model.block_size), Sampling(), model.outputs)

    def histories(size: int) -> object:
        return rivals.numpy_backtest(size, returns, length, model.days_per_year)

    yield Cost(BACKTEST, "plain", _per_step(block, len(returns) * model.block_size))
    yield Cost(BACKTEST, "numpy, in tiles", _rival(histories, rivals.WIDE_TILE) / len(returns))


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
    table = Table(
        "contract",
        "error",
        *WAYS,
        title="CPU seconds to a standard error of the price",
        caption="A run ends at a checkpoint, the first one where its error is believed and small "
        f"enough. ~ would take longer than {LONGEST_SECONDS:g} s: extrapolated, and rounded up to "
        "the checkpoint. * ends as soon as its error is believed, far below what was asked.",
    )
    for what in dict.fromkeys(found.what for found in efforts):
        row = [found for found in efforts if found.what == what]
        table.add_row(what, f"{row[0].target:g}", *map(_seconds, row))
    _print(table)


def _seconds(found: Effort) -> str:
    if found.cpu_seconds is None or found.standard_error is None:
        return "-"
    mark = "~" if found.extrapolated else ""
    # Errors at neighbouring checkpoints differ by less than a factor of two.
    early = "*" if found.standard_error < found.target / 2 else ""
    return f"{mark}{found.cpu_seconds:.3g}{early}"


def _print(table: Table) -> None:
    width = int(os.environ.get("COLUMNS", "120"))
    Console(width=width).print(table)


if __name__ == "__main__":
    bench()
