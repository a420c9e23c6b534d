"""What a pilot predicts agrees with what runs then take, as often as the plan says.

A plan's low and high are two standard errors apart from what is expected; with eight replicates the
standard error itself is known to about a quarter, which makes 95 % some 92 % of plans. Of 40 fixed
pairs of a pilot and a run at least 32 must agree: with 92 % fewer come by chance of 0.6 %; that the
checkpoints round outwards makes it far less. Seeds are fixed.
"""

import math
from dataclasses import replace

import pytest

from aggregator.estimates import estimate
from aggregator.stopping import Target
from consumer.blocks import block_simulation
from consumer.models.asian import Asian
from consumer.models.pi import Pi
from producer.plan_cell import CellPilot, Range, Rule, Spread, plan_cell
from protocol.definition import Method, Sampling
from protocol.statistics import collect
from protocol.streams import BlockStream
from tests.support.stopped_runs import CONFIDENCE, Case, stopped

REPLICATES, BLOCKS, RUNS = 8, 16, 40

PAIRS = Sampling(method=Method.ANTITHETIC)
CONTROLLED = Sampling(control_variates=True)

# Of truths only the names count here: the outputs that runs stop at.
CASES = [
    (Case("pi", Pi(), {"pi": math.pi}), Target(standard_error=0.0031)),
    (Case("asian", Asian(fixings=1), {"price": 0.0}), Target(relative_error=0.0045)),
    (Case("asian-antithetic", Asian(fixings=1), {"price": 0.0}, PAIRS),
     Target(standard_error=0.03)),
    (Case("asian-controls", Asian(fixings=4), {"price": 0.0}, CONTROLLED),
     Target(standard_error=0.0009)),
]  # fmt: skip
PLAIN_PI, PI_TARGET = CASES[0]


def taken(case: Case, target: Target, seed: int) -> int:
    (ended,) = stopped(replace(case, target=target), seed + 1_000_000).values()
    return ended.samples


def pilot(case: Case, seed: int) -> CellPilot:
    """Return what eight replicates of a cell say, as a pilot run would have it."""
    definition = case.definition()
    simulate = block_simulation(case.cell, case.sampling, definition.outputs, {})
    found = []
    for cell in range(REPLICATES):
        streams = (BlockStream(seed, cell, block, case.block_size) for block in range(BLOCKS))
        statistics = collect(map(simulate, streams), case.block_size)
        found.append(estimate(statistics, 0, CONFIDENCE, case.sampling.method))
    samples = BLOCKS * case.block_size
    variances = [(one.standard_error or 0.0) ** 2 * samples for one in found]
    means = [one.mean or 0.0 for one in found]
    spread = Spread.of(means, variances, samples * REPLICATES)
    return CellPilot(samples * REPLICATES, 0.001, (spread,))


def rule(case: Case, target: Target) -> Rule:
    checkpoints = case.definition().checkpoints
    return Rule(case.block_size, checkpoints, target.standard_error, target.relative_error)


def planned(case: Case, target: Target, seed: int) -> Range:
    return plan_cell(pilot(case, seed), rule(case, target)).samples


@pytest.mark.parametrize(("case", "target"), CASES, ids=[case.name for case, _ in CASES])
def test_runs_take_as_many_samples_as_their_plans_say(case: Case, target: Target) -> None:
    inside, expected = 0, 0
    for seed in range(RUNS):
        plan, found = planned(case, target, seed), taken(case, target, seed)
        inside += plan.low <= found <= plan.high
        expected += plan.expected == found
    assert inside >= 32
    assert expected >= RUNS / 4  # neighbouring checkpoints where chance decides


def test_a_plan_is_no_wider_than_it_must_be() -> None:
    # 65,536 darts know their variance to about 0.2 %; three checkpoints at most are in doubt.
    for seed in range(10):
        plan = planned(PLAIN_PI, PI_TARGET, seed)
        assert plan.high / plan.low < 1.51**2


def test_a_plan_that_is_wrong_by_half_would_be_found_out() -> None:
    wrong = Target(standard_error=0.0031 * math.sqrt(2))
    for seed in range(5):
        plan = planned(PLAIN_PI, wrong, seed)
        assert not plan.low <= taken(PLAIN_PI, PI_TARGET, seed) <= plan.high
