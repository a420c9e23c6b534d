"""Run in a fresh process by the tests of portability: prints what this processor computes, as JSON.

`bits`: a hash of every built-in model's blocks, by model and method, and of functions' values.
`scan`: what the compiled code of all kernels contains.
"""

import hashlib
import importlib
import json
import pkgutil
import re
import sys
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

import consumer.kernels
from consumer.kernels import draws, elementary
from consumer.warm_up import built_in_models, warm_up
from protocol.definition import Sampling
from protocol.model import Model, validated
from protocol.streams import BlockStream

VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "asian": (
        {},
        {"averaging": "geometric", "fixings": 5},
        {"payoff": "average_strike", "fixing_times": (0.0, 0.3, 0.7), "option_type": "put"},
        {"volatility": 5.0, "maturity": 100.0, "fixings": 9},
    ),
    "barrier": (
        {"fixings": 9},
        {"monitoring": "continuous", "rebate": 3.0},
        {"monitoring": "continuous", "fixings": 5, "barrier_type": "up_and_in", "barrier": 130.0},
    ),
}
"""Parameters that lead through other parts of a kernel; all defaults where a model has none."""

FUNCTIONS = (
    elementary.exp,
    elementary.log,
    elementary.normal_cdf,
    elementary.normal_quantile,
    elementary.cos_sin_turns,
)


def bits() -> dict[str, str]:
    """Return a hash of everything portable, by name."""
    found = {}
    rng = np.random.default_rng(1)
    patterns = rng.integers(0, 0x7FF << 52, 2000, dtype=np.uint64).view(np.float64)
    x = np.concatenate((rng.uniform(-40, 40, 2000), rng.random(2000), patterns, -patterns))
    for function in FUNCTIONS:
        values = np.array([function(value) for value in x.tolist()])
        values[np.isnan(values)] = np.nan  # its sign and payload mean nothing
        found[function.__name__] = hashlib.sha256(values.tobytes()).hexdigest()
    rows = np.empty((2, 3000))
    draws.fill_normals(draws.counters(BlockStream(9, 1, 2, 6000)), 5, 0, rows[0], rows[1])
    found["normals"] = hashlib.sha256(rows.tobytes()).hexdigest()
    for model in built_in_models():
        for number, params in enumerate(VARIANTS.get(model.name, ({},))):
            cell = validated(model, params)
            for method in model.methods:
                for control_variates in {False, bool(model.controls)}:
                    sampling = Sampling(method=method, control_variates=control_variates)
                    name = f"{model.name} {number} {method} {control_variates}"
                    if allowed(cell, sampling):
                        found[name] = hash_of_blocks(cell, sampling)
    return found


def allowed(cell: Model, sampling: Sampling) -> bool:
    """Whether the cell can be sampled so."""
    try:
        cell.check_sampling(sampling, 2)
    except ValueError:
        return False
    return True


def hash_of_blocks(cell: Model, sampling: Sampling) -> str:
    """Return a hash of a few blocks of several sizes."""
    blocks = [
        cell.simulate(BlockStream(9, 1, number, size), sampling, cell.outputs)
        for number, size in ((0, 2), (1, 64), (2, 256))
    ]
    return hashlib.sha256(repr(blocks).encode()).hexdigest()


FLAGS = r"\b(?:fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b"
OPERATIONS = r"\b(?:fadd|fsub|fmul|fdiv|frem|fneg|fcmp|select|phi|call)\b"


def scan() -> dict[str, Any]:
    """Return which flags and which functions occur in the code of all kernels."""
    warm_up()
    called, flags, kernels = set(), set(), 0
    for module in pkgutil.iter_modules(consumer.kernels.__path__):
        names = vars(importlib.import_module(f"consumer.kernels.{module.name}"))
        for kernel in (value for value in names.values() if isinstance(value, Dispatcher)):
            for signature in kernel.signatures:
                code = kernel.inspect_llvm(signature)
                kernels += 1
                called |= set(
                    re.findall(r"^declare .*?@([\w.$]+|\"[^\"]+\")\(", code, re.MULTILINE)
                )
                flags |= set(re.findall(rf"^.* = .*{OPERATIONS} {FLAGS}.*$", code, re.MULTILINE))
    return {"called": sorted(called), "flags": sorted(flags), "kernels": kernels}


if __name__ == "__main__":
    json.dump({"bits": bits, "scan": scan}[sys.argv[1]](), sys.stdout)
