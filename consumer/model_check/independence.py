"""Checks of what the standard error stands on: samples, blocks and cells are independent."""

from collections.abc import Sequence

import numpy as np

from consumer.model_check import statistics
from consumer.model_check.blocks import Block
from consumer.model_check.findings import Check, Evidence, Outcome

SIGMAS = 4.5
FALSE_ALARM = 2e-5
"""Chance at most that one comparison of a sound model is beyond `SIGMAS`, found by simulation."""


def serial(name: str, blocks: Sequence[Block], columns: Sequence[str]) -> Check:
    """Test the means of blocks in this order for correlation of neighbours."""
    means = np.array([block.means for block in blocks]).T
    return _judged(
        name,
        [(column, statistics.serial_z(row)) for column, row in zip(columns, means, strict=True)],
        f"means of {len(blocks)} neighbours",
        "neighbours are correlated, so that the standard error cannot be believed",
    )


def dispersion(evidence: Evidence) -> Check:
    """Test whether block means vary as those of independent samples do."""
    means = np.array([block.means for block in evidence.blocks]).T
    variances = np.array([block.variances for block in evidence.blocks]).T
    found = [
        (column, statistics.dispersion(mean, variance, evidence.size))
        for column, mean, variance in zip(evidence.loaded.columns, means, variances, strict=True)
    ]
    tests = [test for _, test in found if test is not None]
    ratio = f"{max(tests, key=lambda test: abs(test[0]))[1]:.3g} times" if tests else ""
    return _judged(
        "samples independent",
        [(column, test[0] if test else None) for column, test in found],
        f"the variance of block means is {ratio} that of independent samples",
        f"the variance of block means is {ratio} that of independent samples; is something drawn, "
        "or balanced, once per call instead of once per sample?",
    )


def centred(evidence: Evidence) -> Check:
    """Test whether the controls have expectation 0."""
    means = np.array([block.means for block in evidence.blocks]).T
    columns = [*zip(evidence.loaded.columns, means, strict=True)]
    controls = columns[len(evidence.loaded.outputs) :]
    return _judged(
        "controls centred",
        [(column, statistics.centred_z(row)) for column, row in controls],
        "means of controls against 0",
        "a control's expectation is not 0, so that estimates are biased",
    )


def _judged(name: str, found: Sequence[tuple[str, float | None]], what: str, wrong: str) -> Check:
    known = [(column, z) for column, z in found if z is not None]
    if not known:
        return Check(name, Outcome.UNKNOWN, "the block means vary too little or too wildly to tell")
    column, z = max(known, key=lambda pair: abs(pair[1]))
    if abs(z) > SIGMAS:
        text = f"{column} is off by {z:+.1f} sigma (allowed are {SIGMAS}): {wrong}"
        return Check(name, Outcome.FAILED, text)
    one = f"off by {z:+.1f} sigma at most ({column}), allowed are {SIGMAS}"
    return Check(name, Outcome.OK, f"{what}; {one}")
