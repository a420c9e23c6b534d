"""What a model is: parameters with a schema, named outputs, and blocks of samples.

A model is a pydantic class: its fields are the parameters, its class variables the rest. The
smallest one derives from `GeneratorModel` and defines `sample`. Importing a model must stay cheap
(producers load it only to validate): import compilers and scipy inside the methods. Nothing here
decides which samples are drawn.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from protocol.definition import DEFAULT_SAMPLES, Method, ParamValue, Sampling, check_net
from protocol.errors import UsageError
from protocol.sentences import rule
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream, generator_tag

PORTABLE_ENGINE = "portable"
"""The engine of models whose bits are the same on every CPU."""


class Model(BaseModel, abc.ABC):
    """Base of all models; an instance is one cell's parameters, and serves any of its blocks.

    Class variables
    ---------------
    name, version
        A change of any bit of any sample is a new version.
    outputs
        Names of all that a sample can give, the main one first; a run may ask for some of them.
    methods, controls
        The sampling methods it offers, and the names of its control columns.
    block_size
        Samples per block unless the run says otherwise; even.
    default_samples
        Samples of each cell where a run says nothing of when to stop.
    single_sample_blocks
        Whether blocks of one sample are allowed besides even sizes.
    resamples
        Whether samples are resampled histories, so that tables show their spread, and beside an
        output `x` what happened where there is an output `history_x`.
    source
        Where its formulas come from, for people.
    engine
        `portable` where the bits are the same on every CPU, None for the numpy fingerprint.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    name: ClassVar[str]
    version: ClassVar[int] = 1
    outputs: ClassVar[tuple[str, ...]]
    block_size: ClassVar[int] = 1024
    default_samples: ClassVar[int] = DEFAULT_SAMPLES
    single_sample_blocks: ClassVar[bool] = False
    resamples: ClassVar[bool] = False
    methods: ClassVar[tuple[Method, ...]] = (Method.PSEUDO,)
    controls: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""
    engine: ClassVar[str | None] = None

    @abc.abstractmethod
    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Return the samples of one block, shape (columns, m), in C order.

        Parameters
        ----------
        stream
            The block's random numbers and its size m.
        sampling
            How to draw; what `check_sampling` refuses never comes here.
        outputs
            Which outputs, in this order; each is one of `outputs`, none stands twice.

        Returns
        -------
            One row for each output asked for, then, under `sampling.control_variates`, one for
            each of `controls`, each of them centred: its expectation is 0.
        """

    def simulate(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> BlockMoments:
        """Simulate one block; parameters as in `samples`.

        Override it only where the moments are better had without samples; such a model cannot be
        bumped.
        """
        return moments(self.checked_samples(stream, sampling, outputs), len(outputs))

    def checked_samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Return what `samples` gives, once it has the right shape.

        Raises
        ------
        ValueError
            It has another one.
        """
        samples = self.samples(stream, sampling, outputs)
        columns = len(outputs) + (len(self.controls) if sampling.control_variates else 0)
        if np.shape(samples) != (columns, stream.size):
            raise ValueError(
                f"samples returned shape {np.shape(samples)}, expected {(columns, stream.size)}"
            )
        return samples

    def check_sampling(self, sampling: Sampling, block_size: int) -> None:
        """Refuse a way of sampling that these parameters or this model cannot have.

        A model that can tell more (dimensions, controls that some parameters lack) extends it.

        Raises
        ------
        ValueError
            One sentence that names the field, the value and what is allowed.
        """
        if sampling.method not in self.methods:
            raise ValueError(
                f"sampling.method = '{sampling.method}' is not offered by model '{self.name}'; "
                f"allowed are {', '.join(self.methods)}"
            )
        if sampling.control_variates and not self.controls:
            raise ValueError(f"sampling.control_variates = true: model '{self.name}' has none")
        check_net(sampling, block_size)
        if block_size % 2 and not (block_size == 1 and self.single_sample_blocks):
            also = " or 1" if self.single_sample_blocks else ""
            raise ValueError(
                f"sampling.block_size = {block_size} is not allowed: it should be even{also}"
            )

    @property
    def single_sample(self) -> bool:
        """Whether these parameters give one sample, always the same; a run then has just that."""
        return False

    def params(self) -> dict[str, ParamValue]:
        """Return the parameters, defaults included, as a run's definition holds them."""
        return self.model_dump(exclude_none=True)


class GeneratorModel(Model):
    """Base of models that draw from a numpy Generator; they offer `pseudo` sampling only."""

    @abc.abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return n independent samples, an array of shape (n, outputs)."""

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Return the samples of one block through `sample`."""
        del sampling  # pseudo is the only method offered
        drawn = self.sample(stream.generator(generator_tag(self.name)), stream.size)
        expected = (stream.size, len(self.outputs))
        if np.shape(drawn) != expected:
            raise ValueError(f"sample returned shape {np.shape(drawn)}, expected {expected}")
        rows = np.asarray(drawn, dtype=np.float64).T
        return np.ascontiguousarray(rows[[self.outputs.index(name) for name in outputs]])


def moments(samples: NDArray[np.float64], outputs: int) -> BlockMoments:
    """Return the moments of samples by a fixed order of operations.

    Parameters
    ----------
    samples
        Shape (columns, m): outputs first, then centred controls.
    outputs
        How many of the columns are outputs. Where controls follow, the second moments are the
        lower triangle of their matrix by rows, else its diagonal.
    """
    columns, size = samples.shape
    sums = tree_sum(samples)
    centred = samples - (sums / size)[:, np.newaxis]
    if columns == outputs:
        products = centred * centred
    else:
        row, column = np.tril_indices(columns)
        products = centred[row] * centred[column]
    return BlockMoments(
        sums=sums.tolist(),
        squares=tree_sum(products).tolist(),
        minimum=samples[:outputs].min(axis=1).tolist(),
        maximum=samples[:outputs].max(axis=1).tolist(),
    )


def tree_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over the last axis, halving it each time.

    numpy's own sum adds in an order that depends on the CPU; elementwise addition does not.
    """
    while (length := values.shape[-1]) > 1:
        half = length // 2
        folded = values[..., :half] + values[..., half : 2 * half]
        values = folded if length % 2 == 0 else np.concatenate((folded, values[..., -1:]), axis=-1)
    total: NDArray[np.float64] = values[..., 0]
    return total


def bumped(cell: Model, bump: Mapping[str, int | float]) -> Model:
    """Return a cell with its parameters changed by the amounts of a bump.

    Raises
    ------
    UsageError
        The model gives no samples to subtract, a parameter is no number, or its sum with the
        amount is not allowed.
    """
    if type(cell).simulate is not Model.simulate:
        raise UsageError(
            f"outputs.bump: model '{cell.name}' counts instead of giving samples, whose "
            "differences a bump needs"
        )
    params: dict[str, Any] = dict(cell.params())
    for name, amount in bump.items():
        value = params.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(
                f"outputs.bump.{name} = {amount!r}: the cell has no number as parameter '{name}'"
            )
        params[name] = value + amount
    return validated(type(cell), params, "outputs.bump: params", complete=True)


def validated(
    model: type[Model], params: Mapping[str, Any], where: str = "params", *, complete: bool = False
) -> Model:
    """Return the model with these parameters; a list (as TOML has them) stands for a tuple.

    Parameters
    ----------
    model
        Its class.
    params
        By name.
    where
        What a complaint begins with.
    complete
        Whether the parameters come from a chunk, which has to say all of them. Validators of the
        model find it as `info.context["complete"]`: what they would look up on this machine to
        fill a gap, they are to refuse instead.

    Raises
    ------
    UsageError
        One sentence that names the field, the value and what is allowed.
    """
    try:
        return model.model_validate(_with_tuples(params), context={"complete": complete})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise UsageError(_complaint(model, first, where)) from None


def check_known(
    model: type[Model], params: Mapping[str, Any], pending: frozenset[str], where: str = "params"
) -> None:
    """Refuse parameters that are wrong whatever numbers some of them will have.

    What only a validator of the model can tell is left for when all are known.

    Parameters
    ----------
    model, params, where
        As in `validated`.
    pending
        Names of the parameters that hold a number of the right type in the place of the right one.

    Raises
    ------
    UsageError
        One sentence that names the field, the value and what is allowed.
    """
    try:
        model.model_validate(_with_tuples(params))
    except ValidationError as error:
        for found in error.errors(include_url=False, include_context=False):
            kind, field = found["type"], found["loc"][0] if found["loc"] else None
            if field is None or kind in {"value_error", "assertion_error"}:
                continue
            if field not in pending or kind.endswith("_type") or kind == "extra_forbidden":
                raise UsageError(_complaint(model, found, where)) from None


def _with_tuples(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in params.items()}


def _complaint(model: type[Model], found: ErrorDetails, where: str) -> str:
    field = ".".join([where, *(str(part) for part in found["loc"])])
    if found["type"] == "extra_forbidden":
        names = ", ".join(model.model_fields)
        rest = f"; allowed are {names}" if names else ", which has none"
        return f"{field} is no parameter of model '{model.name}'{rest}"
    if found["type"] == "missing":
        return f"{field} is missing; model '{model.name}' needs it"
    if not found["loc"]:
        return f"{where}: {rule(found)}"
    if found["type"] == "value_error":
        return f"{field} = {found['input']!r:.80}: {rule(found)}"
    return f"{field} = {found['input']!r:.80} is not allowed: {rule(found)}"
