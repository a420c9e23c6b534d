"""What a pilot computes, and what it finds: which cells, how often, at what cost, by which rule."""

from typing import Any

import pytest

from producer.pilot import (
    MAX_CELLS,
    MAX_PILOT_BLOCKS,
    Shape,
    cell_pilots,
    measured_cells,
    pilot_shape,
    rule_of,
)
from producer.run_sections import parse
from producer.runfile import submission
from protocol.definition import Definition
from protocol.results import CellResult, Estimate, Result


def definition(**sections: Any) -> Definition:
    content = {"run": {"model": "asian", "seed": 1}} | sections
    return submission(parse(content, "test")).definition


def cell(mean: float, error: float, samples: int = 2_048) -> CellResult:
    estimate = Estimate(
        mean=mean, standard_error=error, ci_low=None, ci_high=None, confidence=0.95,
        error_reliable=True,
    )  # fmt: skip
    return CellResult(params={}, state="finished", samples=samples, outputs={"price": estimate})


def result(*cells: CellResult, cpu_seconds: float = 1.0) -> Result:
    return Result(
        run="p", state="finished", model="asian", model_version=1, seed=1, sampling="pseudo",
        block_size=1_024, digest=None, reproducible=True, elapsed_seconds=1.0,
        cpu_seconds=cpu_seconds, samples=0, cells=cells, engines=(), error=None,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 3, MAX_CELLS, MAX_CELLS + 1, 1_000, 10_000])
def test_measured_cells_are_evenly_spaced_and_each_cell_has_one_at_or_before_it(
    count: int,
) -> None:
    numbers = measured_cells(count)
    assert len(numbers) == min(count, MAX_CELLS)
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1] < count) == (0, True)
    for number in range(count):
        nearest = numbers[number * len(numbers) // count]
        assert number - count / len(numbers) < nearest <= number


@pytest.mark.parametrize(
    ("cells", "block_seconds", "slots", "shape"),
    [
        (1, 1e-6, 2, Shape(8, 64)),  # as much as is ever computed
        (1, 0.01, 2, Shape(8, 25)),  # 1 s on 2 slots: 200 blocks
        (1, 0.25, 2, Shape(4, 2)),
        (1, 60.0, 2, Shape(2, 2)),  # the least that tells a variance and how well it is known
        (100, 0.02, 2, Shape(2, 2)),
    ],
)
def test_a_pilot_takes_about_a_second_and_tells_each_replicates_error(
    cells: int, block_seconds: float, slots: int, shape: Shape
) -> None:
    found = pilot_shape(definition(), cells, block_seconds, slots)
    assert found == shape
    assert cells == 100 or found.replicates * found.blocks <= MAX_PILOT_BLOCKS


def test_sobol_with_controls_needs_blocks_for_each_of_them() -> None:
    sampled = definition(sampling={"method": "sobol", "control_variates": True})
    assert pilot_shape(sampled, 1, 60.0, 1) == Shape(2, 2 + len(sampled.controls))


def test_cells_have_their_own_costs_and_the_average_where_none_was_told() -> None:
    of_price = definition(stop={"standard_error": 0.1})
    replicates = [cell(1.0, 0.1), cell(3.0, 0.3), cell(5.0, 0.2), cell(5.0, 0.2)]
    first, second = cell_pilots(of_price, result(*replicates), Shape(2, 2), {0: 0.2, 1: 0.4})
    assert first.block_seconds == pytest.approx(0.3)
    assert second.block_seconds == pytest.approx(1.0 / 8)
    assert first.samples == 4_096
    (price,) = first.outputs
    assert price.mean == 2.0
    # Variances of one sample: 0.01·2048 and 0.09·2048.
    assert price.variance == pytest.approx(0.05 * 2_048)
    (still,) = second.outputs
    assert still.variance_error == 0.0


def test_without_a_target_no_output_is_looked_at() -> None:
    (found,) = cell_pilots(definition(), result(cell(1.0, 0.1), cell(1.0, 0.1)), Shape(2, 2), {})
    assert found.outputs == ()


def test_the_rule_is_that_of_the_definition() -> None:
    plain = definition(stop={"relative_error": 0.01, "samples": 100_000})
    rule = rule_of(plain)
    assert (rule.standard_error, rule.relative_error) == (None, 0.01)
    assert rule.checkpoints == plain.checkpoints
    assert rule.checkpoints[-1] == 98
    # Sobol's errors come from block means, and are believed from 200 degrees of freedom.
    sobol = rule_of(definition(sampling={"method": "sobol"}, stop={"standard_error": 0.1}))
    assert sobol.least_blocks == 201
