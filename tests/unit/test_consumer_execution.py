from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field, field_validator

from consumer.answers import Worker
from consumer.engine import engine
from consumer.execution import execute
from consumer.models.pi import Pi
from protocol.definition import Method, Sampling
from protocol.errors import UnsupportedError, UsageError
from protocol.histogram import Tally
from protocol.messages import Chunk, Failure, FailureKind, Partial, decode, encode
from protocol.model import GeneratorModel, Model, moments
from protocol.statistics import collect
from protocol.streams import BlockStream, generator_tag

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
        if what == "unvalidated":
            raise KeyError("in a validator")
        return what

    def check_sampling(self, sampling: Sampling, block_size: int) -> None:
        super().check_sampling(sampling, block_size)
        if self.what == "unchecked":
            raise ZeroDivisionError("in check_sampling")

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


class Linear(GeneratorModel):
    """A normal variable with this mean and width, and its square; the draw is the control."""

    name: ClassVar[str] = "linear"
    outputs: ClassVar[tuple[str, ...]] = ("x", "square")
    controls: ClassVar[tuple[str, ...]] = ("draw",)
    mean: float = 1.0
    width: Annotated[float, Field(gt=0, le=3)] = 2.0
    steps: int = 3
    label: str = "a"

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        x = self.mean + self.width * rng.standard_normal(n)
        return np.stack((x, x * x), axis=1)

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        rows = super().samples(stream, sampling, outputs)
        if not sampling.control_variates:
            return rows
        draw = stream.generator(generator_tag(self.name)).standard_normal(stream.size)
        return np.vstack((rows, draw))


def load(name: str) -> type[Model]:
    models: dict[str, type[Model]] = {"pi": Pi, "broken": Broken, "linear": Linear}
    if name == "unloadable":
        raise SyntaxError("in its module")
    if name not in models:
        raise UsageError(f"model = {name!r} is not installed")
    return models[name]


def chunk(**changes: Any) -> Chunk:
    model = changes.get("model", "pi")
    outputs = ("pi",) if model == "pi" else ("x",)
    complete: dict[str, dict[str, Any]] = {
        "broken": Broken().params(), "linear": Linear().params(),
    }  # fmt: skip
    changes["params"] = complete.get(model, {}) | changes.get("params", {})
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


def test_a_bump_gives_the_differences_of_every_output_with_the_same_random_numbers() -> None:
    found = computed(model="linear", outputs=("square", "x"), bump={"mean": 0.5, "width": 0.25})
    base, other = Linear(), Linear(mean=1.5, width=2.25)
    blocks = []
    for block in range(5, 9):
        stream = BlockStream(2**64 - 1, 2, block, 64)
        rows, changed = (
            model.samples(stream, Sampling(), ("square", "x")) for model in (base, other)
        )
        blocks.append(moments(np.vstack((rows, changed - rows)), 4))
    assert found.statistics == collect(blocks, 64)
    # x moves by 0.5 + 0.25 draw: far less than x itself varies.
    spread = [number.fraction() for number in found.statistics.squares]
    assert spread[3] < spread[1] / 50


def test_the_controls_of_the_base_case_serve_its_differences_too() -> None:
    sampling = Sampling(control_variates=True)
    found = computed(model="linear", bump={"width": 0.25}, sampling=sampling).statistics
    assert (found.outputs, len(found.sums)) == (2, 3)
    # Both x and its difference are linear in the control, which leaves nothing of them.
    for square, residual in zip((0, 2), found.residuals, strict=True):
        assert residual.fraction() < found.squares[square].fraction() / 10**12


def test_histograms_count_the_samples_of_every_reported_output() -> None:
    found = computed(model="linear", bump={"mean": 0.5}, histograms=True).statistics
    tally = Tally(2)
    for block in range(5, 9):
        x = Linear().samples(BlockStream(2**64 - 1, 2, block, 64), Sampling(), ("x",))
        changed = Linear(mean=1.5).samples(BlockStream(2**64 - 1, 2, block, 64), Sampling(), ("x",))
        tally.add(np.vstack((x, changed - x)))
    assert found.histograms == tally.histograms()


def test_a_model_that_counts_keeps_its_moments_beside_a_histogram() -> None:
    plain, with_histogram = (
        computed(block_size=1002, histograms=asked).statistics for asked in (False, True)
    )
    streams = [BlockStream(2**64 - 1, 2, block, 1002) for block in range(5, 9)]
    summed = [moments(Pi().samples(stream, Sampling(), ("pi",)), 1) for stream in streams]
    assert plain.squares != collect(summed, 1002).squares  # counts are exact, sums are not
    assert with_histogram.model_copy(update={"histograms": ()}) == plain
    (histogram,) = with_histogram.histograms
    assert histogram.total == 4008
    assert len(histogram.arrays()[0]) == 2


def test_a_histogram_of_what_is_not_finite_is_a_failure_that_names_the_block() -> None:
    changes = {"model": "broken", "params": {"what": "nan"}, "blocks": 20}
    plain, with_histogram = failed(**changes), failed(**changes, histograms=True)
    assert with_histogram.kind is FailureKind.NOT_FINITE
    assert with_histogram.block == plain.block


def test_a_model_on_numpy_names_the_engine_that_computed_it() -> None:
    partial = computed(model="broken", params={"what": "nothing"})
    assert partial.engine == engine(Broken)
    assert partial.engine.startswith(f"numpy-{np.__version__}-")


def test_a_model_that_raises_is_a_failure_of_that_block() -> None:
    failure = failed(model="broken")
    assert (failure.kind, failure.block) == (FailureKind.MODEL_ERROR, 5)
    assert failure.text.startswith("KeyError: 'xxx")
    assert len(failure.text) == 2048


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "unloadable"}, "SyntaxError: in its module"),
        ({"model": "broken", "params": {"what": "unvalidated"}}, "KeyError: 'in a validator'"),
        (
            {"model": "broken", "params": {"what": "unchecked"}},
            "ZeroDivisionError: in check_sampling",
        ),
    ],
)
def test_whatever_a_model_raises_before_its_first_block_is_a_failure(
    changes: dict[str, Any], text: str
) -> None:
    failure = failed(**changes)
    assert (failure.kind, failure.text, failure.block) == (FailureKind.MODEL_ERROR, text, None)


def test_a_model_that_returns_no_moments_is_a_failure() -> None:
    class Mute(Pi):
        def simulate(self, *_: object) -> Any:
            return None

    answer = execute(chunk(), WORKER, lambda _: Mute)
    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.MODEL_ERROR
    assert answer.text.startswith("the model's block moments cannot be summed")


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
            "params.darts is no parameter of model 'pi', which has none",
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
            {"bump": {"darts": 1}},
            FailureKind.INVALID_PARAMS,
            (
                "outputs.bump: model 'pi' counts instead of giving samples, whose differences a "
                "bump needs"
            ),
        ),
        (
            {"model": "linear", "bump": {"width": 2.0}},
            FailureKind.INVALID_PARAMS,
            "outputs.bump: params.width = 4.0 is not allowed: it should be less than or equal to 3",
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


def test_a_chunk_that_leaves_a_parameter_to_the_consumer_is_refused() -> None:
    params = Linear().params()
    del params["width"]
    plain = chunk(model="linear")
    assert isinstance(execute(plain, WORKER, load), Partial)
    answer = execute(plain.model_copy(update={"params": params}), WORKER, load)
    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.INVALID_PARAMS
    assert answer.text == "params.width is missing; a chunk has all parameters"


def test_what_needs_a_file_that_is_not_here_is_unsupported_here_not_the_models_error() -> None:
    for what, text in (("absent", "is not here"), ("vanish", "has gone")):
        failure = failed(model="broken", params={"what": what})
        assert failure.kind is FailureKind.UNSUPPORTED_MODEL
        assert failure.text == f"the file of this run {text}"
