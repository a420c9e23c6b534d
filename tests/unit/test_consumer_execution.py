from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import field_validator

from consumer.answers import Worker
from consumer.engine import engine
from consumer.execution import execute
from consumer.models.pi import Pi
from protocol.definition import Method, Sampling
from protocol.errors import UnsupportedError, UsageError
from protocol.messages import Chunk, Failure, FailureKind, Partial, decode, encode
from protocol.model import GeneratorModel, Model
from protocol.statistics import collect
from protocol.streams import BlockStream

WORKER = Worker("host-1", "host")


class Broken(GeneratorModel):
    name: ClassVar[str] = "broken"
    outputs: ClassVar[tuple[str, ...]] = ("x",)
    what: str = "raise"

    @field_validator("what")
    @classmethod
    def _is_here(cls, what: str) -> str:
        if what == "absent":
            raise UnsupportedError("the file of this run is not here")
        return what

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        values = rng.standard_normal((n, 1))
        if self.what == "vanish":
            raise UnsupportedError("the file of this run has gone")
        if self.what == "raise":
            raise KeyError("x" * 5000)
        if self.what == "shape":
            return values[1:]
        if self.what == "nan" and values[0, 0] > 0:  # in some blocks only
            values[0, 0] = np.nan
        return values


def load(name: str) -> type[Model]:
    models: dict[str, type[Model]] = {"pi": Pi, "broken": Broken}
    if name not in models:
        raise UsageError(f"model = {name!r} is not installed")
    return models[name]


def chunk(**changes: Any) -> Chunk:
    outputs = ("x",) if changes.get("model") == "broken" else ("pi",)
    fields: dict[str, Any] = {
        "run": "r", "definition": bytes(32), "attempt": 3, "cell": 2, "first_block": 5,
        "blocks": 4, "block_size": 64, "model": "pi", "model_version": 1, "params": {},
        "outputs": outputs, "sampling": Sampling(), "seed": 2**64 - 1,
    }  # fmt: skip
    return Chunk(**(fields | changes))


def failed(**changes: Any) -> Failure:
    answer = execute(chunk(**changes), WORKER, load)
    assert isinstance(answer, Failure)
    assert decode(answer.type, encode(answer), Failure) == answer
    return answer


def computed(**changes: Any) -> Partial:
    answer = execute(chunk(**changes), WORKER, load)
    assert isinstance(answer, Partial)
    return answer


def test_a_chunk_gives_the_exact_statistics_of_its_blocks() -> None:
    partial = computed()
    blocks = [
        Pi().simulate(BlockStream(2**64 - 1, 2, block, 64), Sampling(), ("pi",))
        for block in range(5, 9)
    ]
    assert partial.statistics == collect(blocks, 64)
    assert (partial.run, partial.attempt, partial.cell) == ("r", 3, 2)
    assert (partial.first_block, partial.blocks) == (5, 4)
    assert (partial.consumer, partial.host, partial.engine) == ("host-1", "host", "portable")
    assert decode(partial.type, encode(partial), Partial) == partial


def test_common_random_numbers_give_every_cell_the_same_stream() -> None:
    common = Sampling(common_random_numbers=True)
    first, second = (computed(cell=cell, sampling=common).statistics for cell in (0, 7))
    assert first == second
    assert computed(cell=0).statistics == first
    assert computed(cell=7).statistics != first


def test_a_model_on_numpy_names_the_engine_that_computed_it() -> None:
    partial = computed(model="broken", params={"what": "nothing"})
    assert partial.engine == engine(Broken)
    assert partial.engine.startswith(f"numpy-{np.__version__}-")


def test_a_model_that_raises_is_a_failure_of_that_block() -> None:
    failure = failed(model="broken")
    assert (failure.kind, failure.block) == (FailureKind.MODEL_ERROR, 5)
    assert failure.text.startswith("KeyError: 'xxx")
    assert len(failure.text) == 2048


def test_a_model_that_returns_the_wrong_shape_is_a_failure() -> None:
    failure = failed(model="broken", params={"what": "shape"})
    assert failure.kind is FailureKind.MODEL_ERROR
    assert "sample returned shape (63, 1), expected (64, 1)" in failure.text


def test_a_model_that_returns_nan_is_a_failure_that_names_the_block() -> None:
    failure = failed(model="broken", params={"what": "nan"}, blocks=20)
    assert failure.kind is FailureKind.NOT_FINITE
    model = Broken(what="nan")
    streams = {block: BlockStream(2**64 - 1, 2, block, 64) for block in range(5, 25)}
    sums = {
        block: model.simulate(streams[block], Sampling(), model.outputs).sums[0]
        for block in streams
    }
    assert failure.block == next(block for block in sums if np.isnan(sums[block]))


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"model": "unknown"}, FailureKind.UNSUPPORTED_MODEL, "model = 'unknown' is not installed"),
        (
            {"model_version": 2},
            FailureKind.UNSUPPORTED_MODEL,
            "model 'pi' has version 1 here, the run needs 2",
        ),
        (
            {"params": {"darts": 3}},
            FailureKind.INVALID_PARAMS,
            "params.darts is no parameter of model 'pi'; allowed are ",
        ),
        (
            {"outputs": ("pi", "tau")},
            FailureKind.INVALID_PARAMS,
            "model 'pi' has no output 'tau'",
        ),
        (
            {"block_size": 1},
            FailureKind.INVALID_PARAMS,
            "sampling.block_size = 1 is not allowed: it should be even",
        ),
        (
            {"sampling": Sampling(method=Method.SOBOL)},
            FailureKind.INVALID_PARAMS,
            "sampling.method = 'sobol' is not offered by model 'pi'; allowed are pseudo",
        ),
    ],
)
def test_what_cannot_be_computed_here_is_a_failure_that_says_why(
    changes: dict[str, Any], kind: FailureKind, text: str
) -> None:
    failure = failed(**changes)
    assert (failure.kind, failure.text) == (kind, text)


def test_what_needs_a_file_that_is_not_here_is_unsupported_here_not_the_models_error() -> None:
    for what, text in (("absent", "is not here"), ("vanish", "has gone")):
        failure = failed(model="broken", params={"what": what})
        assert failure.kind is FailureKind.UNSUPPORTED_MODEL
        assert failure.text == f"the file of this run {text}"
