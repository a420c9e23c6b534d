"""What a model is: parameters with a schema, named outputs, and blocks of samples.

A model is a pydantic class: its fields are the parameters, its class variables the rest. The
smallest one derives from `GeneratorModel` and defines `sample`. Importing a model must stay cheap
(producers load it only to validate): import compilers and scipy inside the methods.
"""

import abc
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.definition import Method, ParamValue, Sampling
from protocol.errors import UsageError
from protocol.statistics import BlockMoments
from protocol.streams import BlockStream, generator_tag

PORTABLE_ENGINE = "portable"
"""The engine of models whose bits are the same on every CPU."""


class Model(BaseModel, abc.ABC):
    """Base of all models; an instance is one cell's parameters.

    Class variables
    ---------------
    name, version
        A change of any bit of any sample is a new version.
    outputs
        Names of what a sample gives, the main one first.
    block_size
        Samples per block unless the run says otherwise; even.

    Methods
    -------
        The sampling methods it offers.
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
    methods: ClassVar[tuple[Method, ...]] = (Method.PSEUDO,)
    controls: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""
    engine: ClassVar[str | None] = None

    @abc.abstractmethod
    def simulate(self, stream: BlockStream, sampling: Sampling) -> BlockMoments:
        """Simulate one block.

        Parameters
        ----------
        stream
            The block's random numbers and its size m.
        sampling
            How to draw; the method is one of `methods`.
        """

    def params(self) -> dict[str, ParamValue]:
        """Return the parameters, defaults included, as a run's definition holds them."""
        return self.model_dump(exclude_none=True)


class GeneratorModel(Model):
    """Base of models that draw from a numpy Generator; they offer `pseudo` sampling only."""

    @abc.abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return n independent samples, an array of shape (n, outputs)."""

    def simulate(self, stream: BlockStream, sampling: Sampling) -> BlockMoments:
        """Simulate one block through `sample`."""
        del sampling  # pseudo is the only method offered
        samples = self.sample(stream.generator(generator_tag(self.name)), stream.size)
        expected = (stream.size, len(self.outputs))
        if np.shape(samples) != expected:
            raise ValueError(f"sample returned shape {np.shape(samples)}, expected {expected}")
        return moments(np.asarray(samples, dtype=np.float64))


def moments(samples: NDArray[np.float64]) -> BlockMoments:
    """Return the moments of an array (m, outputs), by a fixed order of operations."""
    sums = tree_sum(samples)
    centred = samples - sums / samples.shape[0]
    return BlockMoments(
        sums=sums.tolist(),
        squares=tree_sum(centred * centred).tolist(),
        minimum=samples.min(axis=0).tolist(),
        maximum=samples.max(axis=0).tolist(),
    )


def tree_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over the first axis, halving it each time.

    numpy's own sum adds in an order that depends on the CPU; elementwise addition does not.
    """
    while (length := values.shape[0]) > 1:
        half = length // 2
        folded = values[:half] + values[half : 2 * half]
        values = folded if length % 2 == 0 else np.concatenate((folded, values[-1:]))
    total: NDArray[np.float64] = values[0]
    return total


def validated(model: type[Model], params: Mapping[str, Any], where: str = "params") -> Model:
    """Return the model with these parameters; a list (as TOML has them) stands for a tuple.

    Raises
    ------
    UsageError
        One sentence that names the field, the value and what is allowed.
    """
    try:
        return model.model_validate(
            {name: tuple(v) if isinstance(v, list) else v for name, v in params.items()}
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join([where, *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            allowed = ", ".join(model.model_fields)
            text = f"{field} is no parameter of model '{model.name}'; allowed are {allowed}"
        elif first["type"] == "missing":
            text = f"{field} is missing; model '{model.name}' needs it"
        elif not first["loc"]:
            text = f"{where}: {first['msg'].removeprefix('Value error, ')}"
        elif first["type"] == "value_error":
            text = f"{field} = {first['input']!r:.80}: {first['msg'].removeprefix('Value error, ')}"
        else:
            rule = re.sub(r"^[A-Z][a-z]+ should ", "it should ", first["msg"])
            text = f"{field} = {first['input']!r:.80} is not allowed: {rule}"
        raise UsageError(text) from None
