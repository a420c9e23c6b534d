from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import field_validator

from consumer.answers import Worker
from consumer.execution import Executor, execute
from consumer.preparation import REMEMBERED, ChunkError, Preparations
from protocol.definition import Sampling
from protocol.errors import UnsupportedError
from protocol.messages import Chunk, FailureKind, Partial
from protocol.model import GeneratorModel, Model

WORKER = Worker("host-1", "host")


class Shifted(GeneratorModel):
    name: ClassVar[str] = "shifted"
    outputs: ClassVar[tuple[str, ...]] = ("x",)
    validated: ClassVar[list[int]] = []
    absent: ClassVar[bool] = False
    steps: int = 3

    @field_validator("steps")
    @classmethod
    def _is_here(cls, steps: int) -> int:
        if cls.absent:
            raise UnsupportedError("the file of this run is not here")
        cls.validated.append(steps)
        return steps

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return self.steps + rng.standard_normal((n, 1))


@pytest.fixture(autouse=True)
def _nothing_validated() -> Iterator[None]:
    Shifted.validated.clear()
    yield
    Shifted.absent = False


def load(name: str) -> type[Model]:
    assert name == "shifted"
    return Shifted


def chunk(first_block: int = 0, steps: Any = 3, **changes: Any) -> Chunk:
    fields: dict[str, Any] = {
        "run": "r", "definition": bytes(32), "attempt": first_block, "cell": 2,
        "first_block": first_block, "blocks": 4, "block_size": 64, "model": "shifted",
        "model_version": 1, "params": {"steps": steps}, "outputs": ("x",),
        "sampling": Sampling(), "seed": 7,
    }  # fmt: skip
    return Chunk(**(fields | changes))


def test_parameters_are_validated_once_for_all_chunks_of_a_cell() -> None:
    executor = Executor(WORKER, load)
    for first_block in range(0, 20, 4):
        assert isinstance(executor.execute(chunk(first_block)), Partial)
    assert Shifted.validated == [3]


def test_chunks_that_take_turns_are_answered_as_each_is_alone() -> None:
    executor = Executor(WORKER, load)
    chunks = [
        chunk(first_block, steps, block_size=block_size, histograms=histograms)
        for first_block in (0, 4)
        for steps in (3, 4)
        for block_size in (32, 64)
        for histograms in (False, True)
    ]
    for one in chunks:
        answer, alone = executor.execute(one), execute(one, WORKER, load)
        assert isinstance(answer, Partial)
        assert isinstance(alone, Partial)
        assert answer.model_copy(update={"cpu_seconds": alone.cpu_seconds}) == alone


@pytest.mark.parametrize("value", [True, 1.0])
def test_a_parameter_that_only_python_takes_for_the_same_is_refused(value: object) -> None:
    preparations = Preparations(load)
    preparations.of(chunk(steps=1))
    with pytest.raises(ChunkError) as refused:
        preparations.of(chunk(steps=value))
    assert refused.value.kind is FailureKind.INVALID_PARAMS


def test_a_refusal_is_not_remembered() -> None:
    preparations = Preparations(load)
    Shifted.absent = True
    with pytest.raises(ChunkError, match="not here"):
        preparations.of(chunk())
    Shifted.absent = False
    assert preparations.of(chunk()) is preparations.of(chunk())


def test_the_cell_that_has_not_come_for_longest_is_forgotten() -> None:
    preparations = Preparations(load)
    for steps in range(REMEMBERED):
        preparations.of(chunk(steps=steps))
    preparations.of(chunk(steps=0))
    preparations.of(chunk(steps=REMEMBERED))
    Shifted.validated.clear()
    for steps in (0, 1):
        preparations.of(chunk(steps=steps))
    assert Shifted.validated == [1]
