"""Golden chunks: small chunks of the built-in models whose exact statistics are on record.

A consumer computes them before it joins: where a single bit differs, its numbers would break the
promise of one answer, and it stays away. `python -m consumer.golden` checks a machine, and with
`--record` makes the record from it.
"""

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from consumer.answers import Worker
from consumer.execution import execute
from protocol.codec import canonical
from protocol.definition import Definition, Sampling
from protocol.errors import OtherBitsError, UsageError
from protocol.messages import Chunk, Failure
from protocol.model import Model, validated
from protocol.registry import load_model

RECORD = Path(__file__).with_name("golden.json")
SEED = 0x9E3779B97F4A7C15
BLOCKS = 2
BLOCK_SIZES = (1034, 2048, 1)
"""Of which a chunk has the first that its model allows.

All but the last take several tiles, whatever the way of sampling; of 1,034 samples the last tile
is not full, and its rows are no multiple of any vector. Sobol needs the power of two.
"""

PRICES = Path(__file__).with_name("golden_prices.csv")
"""Made up, so that a back-test is checked whichever rates this machine has."""

_PRICES = {
    "data": str(PRICES),
    "data_hash": "e701ffa60206d3c3defe94c9314c2021c20eb5e804e11db5cbc68ff55b1b245b",
}

PARAMS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "pi": ({},),
    "european": ({}, {"option_type": "put", "dividend_yield": 0.03}),
    "asian": (
        {"fixings": 13},
        {"fixing_times": [0.0, 0.2, 0.7], "option_type": "put"},
        {"fixings": 13, "averaging": "geometric"},
        {"fixings": 13, "payoff": "average_strike"},
        {"fixings": 7, "maturity": 30.0, "volatility": 4.5, "strike": 0.0},
    ),
    "barrier": (
        {"fixings": 13, "rebate": 2.0},
        {"barrier_type": "up_and_in", "barrier": 120.0, "option_type": "put"},
        {"monitoring": "continuous", "fixings": 3},
    ),
    "backtest": (
        _PRICES | {"pair": "wave", "fast": 5, "slow": 20},
        _PRICES | {"pair": "peg", "fast": 5, "slow": 20, "mode": "history"},
        _PRICES
        | {
            "legs": ["wave", "peg"],
            "weights": [0.7, -0.4],
            "strategy": "momentum",
            "look_back": 30,
            "volatility_target": 0.1,
            "volatility_look_back": 20,
            "mean_block_length": 8.0,
        },
    ),
}
"""The built-in models, and parameters that between them reach all of each kernel."""

_VECTOR_FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512vl", "avx10.1")


class NotComputedError(OtherBitsError):
    """A golden chunk could not be computed at all: something is broken, if not the arithmetic."""


@dataclass(frozen=True)
class Case:
    """One golden chunk."""

    name: str
    chunk: Chunk


def cases() -> Iterator[Case]:
    """Yield every golden chunk: all models, parameters and ways of sampling.

    Raises
    ------
    NotComputedError
        A file that belongs to this package is missing or not as it was.
    """
    for name, cells in PARAMS.items():
        model = load_model(name)
        for number, given in enumerate(cells):
            try:
                cell = validated(model, given)
            except UsageError as error:
                raise NotComputedError(f"golden chunks of model '{name}' failed: {error}") from None
            for sampling, block_size in _samplings(cell):
                yield Case(_label(name, number, sampling), _chunk(cell, sampling, block_size))


def digest(case: Case) -> str:
    """Compute a golden chunk and return SHA-256 of its canonical statistics, 64 hex digits.

    Raises
    ------
    NotComputedError
        It could not be computed at all.
    """
    answer = execute(case.chunk, Worker("golden", "golden"))
    if isinstance(answer, Failure):
        raise NotComputedError(f"golden chunk '{case.name}' failed: {answer.text}")
    return hashlib.sha256(canonical(answer.statistics.model_dump())).hexdigest()


def check() -> None:
    """Compute every golden chunk and compare it with the record.

    Raises
    ------
    OtherBitsError
        Names the model, what it was asked for, and the CPU.
    """
    for case in cases():
        if digest(case) != recorded().get(case.name):
            raise OtherBitsError(
                f"model '{case.chunk.model}' gives other bits on this machine than on record "
                f"(golden chunk '{case.name}'): its numbers must not be mixed with those of other "
                f"machines, so this consumer does not join; {_machine()}"
            )


@cache
def recorded() -> dict[str, str]:
    """Return the digests on record by the names of their chunks."""
    record: dict[str, str] = json.loads(RECORD.read_text(encoding="ascii"))
    return record


def _samplings(cell: Model) -> Iterator[tuple[Sampling, int]]:
    for method, controls in itertools.product(cell.methods, (False, True)):
        sampling = Sampling(method=method, control_variates=controls)
        for size in BLOCK_SIZES:
            try:
                cell.check_sampling(sampling, size)
            except ValueError:
                continue  # not with these parameters
            yield sampling, size
            break


def _chunk(cell: Model, sampling: Sampling, block_size: int) -> Chunk:
    definition = Definition(
        model=cell.name,
        model_version=cell.version,
        outputs=cell.outputs,
        controls=cell.controls if sampling.control_variates else (),
        cells=(cell.params(),),
        seed=SEED,
        block_size=block_size,
        sampling=sampling,
    )
    blocks = min(BLOCKS, definition.blocks)
    return Chunk.of("golden", definition, cell=0, span=(0, blocks), attempt=0)


def _label(name: str, number: int, sampling: Sampling) -> str:
    controls = " with controls" if sampling.control_variates else ""
    return f"{name} {number} {sampling.method.value}{controls}"


def _machine() -> str:
    """Name what the machine code was made for."""
    # Imported here because loading the models must not need the compiler.
    import numba  # noqa: PLC0415
    from llvmlite import binding  # noqa: PLC0415

    config: Any = numba.config
    name = config.CPU_NAME or binding.get_host_cpu_name()
    features = config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    present = {part[1:] for part in features.split(",") if part.startswith("+")}
    known = ", ".join(feature for feature in _VECTOR_FEATURES if feature in present)
    return f"numba {numba.__version__}, CPU {name} with {known or 'no vector features'}"


def main(arguments: list[str]) -> int:
    """Check this machine, or with `--record` make the record from it; return the exit code."""
    if arguments == ["--record"]:
        record = {case.name: digest(case) for case in cases()}
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="ascii")
        sys.stdout.write(f"{len(record)} golden chunks recorded in {RECORD}\n")
        return 0
    try:
        check()
    except OtherBitsError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{len(recorded())} golden chunks have the bits on record; {_machine()}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
