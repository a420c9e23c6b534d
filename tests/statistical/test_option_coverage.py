"""Runs of the option models, stopped at their target, cover the truth as often as they say.

Every output is counted: prices, greeks and hit probabilities, with each sampling method, with and
without control variates. What is allowed, and the chance of a false alarm, is in `stopped_runs`;
the seeds are fixed. Truths are closed forms, a recursion written for the tests, and reference
values whose last digit is far below the errors that runs stop at.
"""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from consumer.models.asian import Asian
from consumer.models.barrier import Barrier
from consumer.models.european import European
from protocol.definition import Method, Sampling
from protocol.model import Model
from tests.support.barrier_recursion import discrete_barrier
from tests.support.closed_forms import (
    Market,
    barrier_hit_probability,
    barrier_price,
    black_scholes,
)
from tests.support.stopped_runs import ANY, FEW_RUNS, RUNS, Case, coverage, outside

MARKET = Market()
LEVEL = 85.0
RARE_LEVEL = 48.9714
"""Of one date at maturity: one path in 10,000 ends below it."""

ASIAN = {"price": 6.1560407664, "delta": 0.59385393, "vega": 23.0341505, "gamma": 0.03057798}
CONTINUOUS = {
    "price": barrier_price(MARKET, LEVEL, "down_and_out", call=True),
    "hit_probability": barrier_hit_probability(MARKET, LEVEL, up=False),
}


def watched(level: float, fixings: int) -> dict[str, float]:
    found = discrete_barrier(MARKET, level, "down_and_out", call=True, rebate=0.0, fixings=fixings)
    return dict(zip(Barrier.outputs, found, strict=True))


def all_ways(name: str, cell: Model, truths: Mapping[str, float]) -> list[Case]:
    """Return a case of each sampling method, without and with control variates."""
    return [
        Case(
            f"{name}-{method}{'-controls' * controlled}",
            cell,
            truths,
            Sampling(method=method, control_variates=controlled),
            block_size=256,
        )
        for method in Method
        for controlled in (False, True)
    ]


CASES = [
    *all_ways("european", European(), black_scholes(MARKET, call=True)),
    *all_ways("asian", Asian(fixings=12), ASIAN),
    *all_ways("discrete", Barrier(fixings=12), watched(LEVEL, 12)),
    *all_ways("continuous", Barrier(monitoring="continuous"), CONTINUOUS),
]
RARE = [
    Case(
        f"rare-{method}{'-controls' * controlled}",
        Barrier(fixings=1, barrier=RARE_LEVEL),
        {"hit_probability": watched(RARE_LEVEL, 1)["hit_probability"]},
        Sampling(method=method, control_variates=controlled),
        ANY,
        block_size=4096,
    )
    for method in Method
    for controlled in (False, True)
]
IN_SAMPLE = {
    "european-antithetic-controls", "asian-pseudo", "discrete-pseudo", "continuous-sobol-controls",
}  # fmt: skip
SAMPLE = [case for case in CASES if case.name in IN_SAMPLE]


def name_of(case: Case) -> str:
    return case.name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES + RARE, ids=name_of)
def test_intervals_of_stopped_runs_cover_the_truth(case: Case) -> None:
    assert outside(case, RUNS) == {}


@pytest.mark.parametrize("case", SAMPLE, ids=name_of)
def test_intervals_of_fewer_stopped_runs_cover_the_truth(case: Case) -> None:
    assert outside(case, FEW_RUNS) == {}


@pytest.mark.parametrize("scale", [0.8, 1.25])
@pytest.mark.parametrize("case", SAMPLE, ids=name_of)
def test_fewer_runs_would_show_intervals_that_are_too_narrow_or_too_wide(
    case: Case, scale: float
) -> None:
    # The same runs as above; of right intervals, scaled, one output in 90 would not show.
    assert outside(case, FEW_RUNS, scale).keys() == case.truths.keys()


@pytest.mark.parametrize("case", RARE, ids=name_of)
def test_a_rare_hit_is_sampled_until_its_error_is_believed(case: Case) -> None:
    # About 100 hits tell its variance to 10 %; a pair has two chances of one.
    found = coverage(case, range(5))["hit_probability"]
    assert found.believed == 1.0
    assert found.samples > 300_000


def test_intervals_around_a_wrong_truth_do_not_cover_it() -> None:
    [case] = [case for case in SAMPLE if case.name == "european-antithetic-controls"]
    moved = {name: 1.01 * truth for name, truth in case.truths.items()}
    found = coverage(replace(case, truths=moved), range(50))
    assert all(one.share() < 0.5 for one in found.values())
