"""Runs of the option models, stopped at their target, cover the truth as often as they say.

The counting and the bounds are those of `test_honest_stops`: a right interval fails with a chance
of 4e-5 per check; the seeds are fixed.
"""

from dataclasses import replace

import pytest

from aggregator.stopping import Target
from consumer.models.asian import Asian
from consumer.models.barrier import Barrier
from consumer.models.european import European
from protocol.definition import Method, Sampling
from protocol.model import Model
from tests.support.barrier_recursion import discrete_barrier
from tests.support.closed_forms import Market
from tests.support.stopped_runs import Case, coverage

RUNS, FEW_RUNS = 2_000, 100

EUROPEAN = 10.450583572186
ASIAN = 6.1560407664
CONTINUOUS = 9.949270308634219
DISCRETE, _ = discrete_barrier(Market(), 85.0, "down_and_out", call=True, rebate=0.0, fixings=12)

WAYS = [(method, controlled) for method in Method for controlled in (False, True)]

CONTRACTS: list[tuple[str, Model, float, tuple[float, ...]]] = [
    # Errors at the second checkpoint that can end a run, in the order of WAYS: chance decides.
    ("european", European(), EUROPEAN, (0.093, 0.036, 0.047, 0.0123, 0.00243, 0.00069)),
    ("asian", Asian(fixings=12), ASIAN, (0.054, 0.00145, 0.0266, 0.00105, 0.00193, 0.000193)),
    ("discrete", Barrier(fixings=12), DISCRETE, (0.0927, 0.0119, 0.0475, 0.0083, 0.0055, 0.00485)),
    (
        "continuous",
        Barrier(monitoring="continuous"),
        CONTINUOUS,
        (0.0915, 0.00286, 0.0475, 0.000335, 0.00244, 1.4e-5),
    ),
]

CASES = [
    Case(
        f"{name}-{method}{'-controls' * controlled}",
        cell,
        truth,
        Target(standard_error=target),
        Sampling(method=method, control_variates=controlled),
        block_size=256,
    )
    for name, cell, truth, targets in CONTRACTS
    for (method, controlled), target in zip(WAYS, targets, strict=True)
]
SAMPLE = {
    "european-antithetic", "european-sobol-controls", "asian-pseudo-controls", "asian-sobol",
    "asian-sobol-controls", "discrete-pseudo", "continuous-antithetic-controls",
}  # fmt: skip


def name_of(case: Case) -> str:
    return case.name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_intervals_of_stopped_runs_cover_the_truth(case: Case) -> None:
    found = coverage(case, range(RUNS))
    assert found["believed"] == 1.0
    assert 0.93 <= found["share"] <= 0.97


@pytest.mark.parametrize("case", [case for case in CASES if case.name in SAMPLE], ids=name_of)
def test_intervals_of_a_few_stopped_runs_cover_the_truth(case: Case) -> None:
    # 4.1 standard deviations of 100 runs are 8.9 %.
    found = coverage(case, range(FEW_RUNS))
    assert found["believed"] == 1.0
    assert found["share"] >= 0.861


def test_intervals_around_a_wrong_truth_do_not_cover_it() -> None:
    [case] = [case for case in CASES if case.name == "asian-sobol-controls"]
    assert coverage(replace(case, truth=ASIAN + 0.001), range(FEW_RUNS))["share"] < 0.8
