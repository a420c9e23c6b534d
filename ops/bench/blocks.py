"""The work that pipeline and peers share: blocks of a model, simulated as a slot does it."""

import functools
from typing import NamedTuple

from consumer.blocks import block_simulation
from protocol.definition import Sampling
from protocol.exact import Exact
from protocol.model import Model, validated
from protocol.registry import load_model
from protocol.statistics import collect
from protocol.streams import BlockStream


class Task(NamedTuple):
    """A chunk without its messages: blocks of a model with its defaults."""

    model: str
    block_size: int
    first: int
    blocks: int


def simulate(task: tuple[str, int, int, int]) -> tuple[int, float]:
    """Return how many samples a task has, and the sum of their first output."""
    name, block_size, first, blocks = task
    model = _model(name)
    compute = block_simulation(model, Sampling(), model.outputs, bump={})
    streams = (BlockStream(1, 0, first + i, block_size) for i in range(blocks))
    statistics = collect(map(compute, streams), block_size)
    return statistics.samples, _rounded(statistics.sums[0])


def total(results: list[tuple[int, float]]) -> tuple[int, float]:
    """Return samples and sum of all tasks."""
    return sum(samples for samples, _ in results), sum(value for _, value in results)


@functools.cache
def _model(name: str) -> Model:
    return validated(load_model(name), {})


def _rounded(number: Exact) -> float:
    return float(number.fraction())
