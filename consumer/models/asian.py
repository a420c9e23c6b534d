"""Asian options on the arithmetic average price, under geometric Brownian motion.

The average is taken over a finite list of fixings; nothing here is a continuous average.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from protocol.definition import Method, Sampling
from protocol.model import PORTABLE_ENGINE, Model
from protocol.streams import BlockStream

if TYPE_CHECKING:
    from consumer.kernels.paths import Times

Doubles = NDArray[np.float64]

MAX_FIXINGS = 4096

MAX_LOGARITHM = 700.0
"""Up to here the exponential needs no care."""


class Asian(Model):
    """Call or put on the average of the spot at the fixings, discounted from the maturity."""

    name: ClassVar[str] = "asian"
    outputs: ClassVar[tuple[str, ...]] = ("price",)
    block_size: ClassVar[int] = 1024
    methods: ClassVar[tuple[Method, ...]] = (Method.PSEUDO, Method.ANTITHETIC)
    source: ClassVar[str] = (
        "price = E[exp(-rate*maturity) * max(+-(mean of S(t_i) - strike), 0)], "
        "S(t) = spot * exp((rate - dividend_yield - volatility**2/2)*t + volatility*W(t)); "
        "Kemna and Vorst, Journal of Banking and Finance 14 (1990)"
    )
    engine: ClassVar[str | None] = PORTABLE_ENGINE

    averaging: Annotated[
        Literal["arithmetic"],
        Field(description="How the fixings are averaged", json_schema_extra={"unit": ""}),
    ] = "arithmetic"
    payoff: Annotated[
        Literal["average_price"],
        Field(
            description="What is paid: average_price is average against strike",
            json_schema_extra={"unit": ""},
        ),
    ] = "average_price"
    option_type: Annotated[
        Literal["call", "put"],
        Field(
            description="call pays average above strike, put below it",
            json_schema_extra={"unit": ""},
        ),
    ] = "call"
    spot: Annotated[
        float,
        Field(
            gt=0,
            le=1e9,
            description="Price of the underlying at time 0",
            json_schema_extra={"unit": "currency"},
        ),
    ] = 100.0
    strike: Annotated[
        float,
        Field(
            ge=0,
            le=1e9,
            description="Price that the average is compared with",
            json_schema_extra={"unit": "currency"},
        ),
    ] = 100.0
    rate: Annotated[
        float,
        Field(
            ge=-1,
            le=1,
            description="Risk-free rate, continuously compounded",
            json_schema_extra={"unit": "1/year"},
        ),
    ] = 0.05
    dividend_yield: Annotated[
        float,
        Field(
            ge=-1,
            le=1,
            description="Dividend yield, continuously compounded",
            json_schema_extra={"unit": "1/year"},
        ),
    ] = 0.0
    volatility: Annotated[
        float,
        Field(
            gt=0,
            le=5,
            description="Volatility of the underlying",
            json_schema_extra={"unit": "1/sqrt(year)"},
        ),
    ] = 0.2
    maturity: Annotated[
        float,
        Field(
            gt=0,
            le=100,
            description="Time at which the option pays",
            json_schema_extra={"unit": "year"},
        ),
    ] = 1.0
    fixings: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_FIXINGS,
            description="Number of equally spaced fixings, the last one at maturity",
            json_schema_extra={"unit": "1"},
        ),
    ] = 252
    fixing_times: Annotated[
        tuple[Annotated[float, Field(ge=0, le=100)], ...] | None,
        Field(
            strict=False,
            min_length=1,
            max_length=MAX_FIXINGS,
            description="Times of the fixings instead of their number: increasing, none after "
            "maturity; 0 makes the spot a fixing",
            json_schema_extra={"unit": "year"},
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _times_replace_the_default(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("fixing_times") is not None:
            return {"fixings": None, **data}
        return data

    @model_validator(mode="after")
    def _fixings_are_clear(self) -> Self:
        times = self.fixing_times
        if (self.fixings is None) == (times is None):
            raise ValueError("give either fixings or fixing_times; they exclude each other")
        if times is None:
            return self
        for earlier, later in pairwise(times):
            if later <= earlier:
                raise ValueError(f"fixing_times must increase, but {later!r} follows {earlier!r}")
        if times[-1] > self.maturity:
            raise ValueError(f"fixing_times end at {times[-1]!r}, after maturity {self.maturity!r}")
        return self

    def samples(self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]) -> Doubles:
        """Simulate one path per sample: dimension i drives the step to the i-th fixing after 0."""
        from consumer.kernels import asian, paths

        del outputs  # price is the only one
        setup = _setup(self)
        out = np.empty((1, stream.size))
        plan = paths.plan(stream, sampling.method, setup.times)
        asian.arithmetic_price(plan, setup.drift, setup.diffusion, setup.bounded, setup.terms, out)
        return out


@dataclass(frozen=True)
class _Setup:
    """What every block of a cell has in common, as the kernel takes it."""

    times: "Times"
    drift: Doubles
    diffusion: Doubles
    bounded: bool
    terms: Doubles


@lru_cache(maxsize=64)
def _setup(model: Asian) -> _Setup:
    from consumer.kernels import elementary, paths

    if model.fixings is None:
        fixings = np.array(model.fixing_times)
    else:
        fixings = np.arange(1, model.fixings + 1) * model.maturity / model.fixings
    # A fixing at 0 has no step: it adds a price of 1 to the sum.
    known = float(fixings[0] == 0.0)
    times = paths.times(fixings[int(known) :])
    drift = model.rate - model.dividend_yield - 0.5 * model.volatility * model.volatility
    sign = 1.0 if model.option_type == "call" else -1.0
    discount = sign * elementary.exp(-model.rate * model.maturity)
    factor = discount * model.spot / len(fixings)
    return _Setup(
        times=times,
        drift=drift * times.lengths,
        diffusion=model.volatility * times.roots,
        bounded=abs(drift) * fixings[-1] + model.volatility * times.reach < MAX_LOGARITHM,
        terms=np.array([factor * known - discount * model.strike, factor]),
    )
