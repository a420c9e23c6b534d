"""Runs stopped at their target cover the truth as often as their intervals say.

Each check counts the intervals of a nominal 95 % over many small independent runs through the
stopping rule. What is allowed, and the chance of a false alarm, is in `stopped_runs`; the seeds
are fixed.
"""

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.stopping import Target
from consumer.models.asian import Asian
from consumer.models.pi import Pi
from protocol.definition import Method, Sampling
from protocol.model import Model
from protocol.streams import BlockStream
from tests.support.stopped_runs import (
    ANY,
    FEW_RUNS,
    PLAIN,
    RUNS,
    Case,
    coverage,
    outside,
    stopped,
)


class Rare(Model):
    """A payoff of 1 hit once in 10,000, alone or on top of a number that is the control."""

    name: ClassVar[str] = "rare"
    outputs: ClassVar[tuple[str, ...]] = ("payoff",)
    methods: ClassVar[tuple[Method, ...]] = (Method.PSEUDO, Method.SOBOL)
    controls: ClassVar[tuple[str, ...]] = ("number",)
    weight: float = 0.0

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Draw."""
        assert outputs == self.outputs
        hit, number = _uniforms(stream, sampling)
        payoff = (hit < 1e-4) + self.weight * (number - 0.5)
        return np.stack((payoff, number - 0.5) if sampling.control_variates else (payoff,))


class Smooth(Model):
    """The sum of exponentials of two uniform numbers, with all methods and two controls."""

    name: ClassVar[str] = "smooth"
    outputs: ClassVar[tuple[str, ...]] = ("sum",)
    methods: ClassVar[tuple[Method, ...]] = tuple(Method)
    controls: ClassVar[tuple[str, ...]] = ("first", "second")

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Draw."""
        assert outputs == self.outputs
        uniform = _uniforms(stream, sampling)
        rows = self._rows(uniform)
        if sampling.method is Method.ANTITHETIC:
            rows = (rows + self._rows(1 - uniform)) / 2
        return rows if sampling.control_variates else np.ascontiguousarray(rows[:1])

    def _rows(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack((np.exp(u[0]) + np.exp(3 * u[1]), u[0] - 0.5, u[1] - 0.5))


def _uniforms(stream: BlockStream, sampling: Sampling) -> NDArray[np.float64]:
    """Return two dimensions; under Sobol one sample per stratum of each, in random order.

    In one dimension a scrambled net is exactly that.
    """
    rng = stream.generator(1)
    uniform = rng.random((2, stream.size))
    if sampling.method is Method.SOBOL:
        strata = rng.permuted(np.tile(np.arange(stream.size), (2, 1)), axis=1)
        uniform = (strata + uniform) / stream.size
    return uniform


EUROPEAN = 10.450583572186  # call, spot and strike 100, rate 0.05, volatility 0.2, 1 year
SMOOTH = math.e - 1 + (math.e**3 - 1) / 3
CONTROLLED = Sampling(control_variates=True)

SOBOL = Sampling(method=Method.SOBOL)
SOBOL_CONTROLLED = Sampling(method=Method.SOBOL, control_variates=True)
PAIRS = Sampling(method=Method.ANTITHETIC)
PAIRS_CONTROLLED = Sampling(method=Method.ANTITHETIC, control_variates=True)

CASES = [
    Case("pi-pseudo", Pi(), {"pi": math.pi}),
    Case("asian-pseudo", Asian(fixings=1), {"price": EUROPEAN},
         target=Target(relative_error=0.0073)),
    Case("smooth-pseudo", Smooth(), {"sum": SMOOTH}),
    Case("smooth-antithetic", Smooth(), {"sum": SMOOTH}, PAIRS),
    Case("smooth-controls", Smooth(), {"sum": SMOOTH}, CONTROLLED),
    Case("smooth-antithetic-controls", Smooth(), {"sum": SMOOTH}, PAIRS_CONTROLLED),
    Case("smooth-sobol", Smooth(), {"sum": SMOOTH}, SOBOL),
    Case("smooth-sobol-controls", Smooth(), {"sum": SMOOTH}, SOBOL_CONTROLLED),
]  # fmt: skip

RARE = [
    Case("rare-pseudo", Rare(), {"payoff": 1e-4}, PLAIN, ANY, 4096),
    Case("rare-controls", Rare(weight=0.5), {"payoff": 1e-4}, CONTROLLED, ANY, 4096),
    Case("rare-sobol", Rare(), {"payoff": 1e-4}, SOBOL, ANY, 4096),
    Case("rare-sobol-controls", Rare(weight=0.5), {"payoff": 1e-4}, SOBOL_CONTROLLED, ANY, 4096),
]


def name_of(case: Case) -> str:
    return case.name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES + RARE, ids=name_of)
def test_intervals_of_stopped_runs_cover_the_truth(case: Case) -> None:
    assert outside(case, RUNS) == {}


def test_intervals_of_fewer_stopped_runs_cover_pi() -> None:
    assert outside(CASES[0], FEW_RUNS) == {}


@pytest.mark.parametrize("case", RARE, ids=name_of)
def test_a_rare_payoff_is_sampled_until_its_error_is_believed(case: Case) -> None:
    # About 100 hits tell its variance to 10 %: a million samples, whatever was asked for.
    found = coverage(case, range(10))["payoff"]
    assert found.believed == 1.0
    assert found.samples > 500_000


def test_a_run_that_reaches_its_limit_first_says_that_its_error_is_not_to_be_believed() -> None:
    short = replace(RARE[0], samples=100_000)
    for seed in range(20):
        assert not stopped(short, seed)["payoff"].estimate.error_reliable
