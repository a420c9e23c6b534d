"""Asian options on the arithmetic average price, under geometric Brownian motion.

The average is taken over a finite list of fixings; nothing here is a continuous average.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from consumer import numerics
from consumer.numerics import Doubles
from protocol.definition import Sampling
from protocol.model import PORTABLE_ENGINE, Model
from protocol.streams import BlockStream

MAX_FIXINGS = 4096


class Asian(Model):
    """Call or put on the average of the spot at the fixings, discounted from the maturity."""

    name: ClassVar[str] = "asian"
    outputs: ClassVar[tuple[str, ...]] = ("price",)
    block_size: ClassVar[int] = 1024
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
        del sampling, outputs  # pseudo is the only method offered, price the only output
        times = self._times()
        steps = times - np.concatenate(([0.0], times[:-1]))
        drift = (self.rate - self.dividend_yield - 0.5 * self.volatility * self.volatility) * steps
        diffusion = self.volatility * np.sqrt(steps)
        # With a fixing at 0 its step has length 0: skipped, so that no dimension is wasted on it.
        skipped = int(times[0] == 0.0)
        total = _relative_prices(stream, drift[skipped:], diffusion[skipped:]) + skipped
        gain = self.spot * (total / len(times)) - self.strike
        payoff = np.maximum(gain if self.option_type == "call" else -gain, 0.0)
        discount = numerics.exp(np.array([-self.rate * self.maturity]))
        return (discount * payoff)[np.newaxis]

    def _times(self) -> Doubles:
        if self.fixings is None:
            return np.array(self.fixing_times)
        return np.arange(1, self.fixings + 1) * self.maturity / self.fixings


def _relative_prices(stream: BlockStream, drift: Doubles, diffusion: Doubles) -> Doubles:
    """Return, per sample, the sum over the steps of S(t_i) / spot; even samples stand first."""
    half = stream.size // 2
    total = np.zeros((2, half))
    for pairs, rows in numerics.tiles(len(drift), half):
        level = np.zeros((2, pairs[1] - pairs[0]))
        for dimensions in rows:
            steps = slice(*dimensions)
            scale, shift = diffusion[steps, np.newaxis], drift[steps, np.newaxis]
            for parity, normal in enumerate(numerics.normals(stream, dimensions, pairs)):
                prices = numerics.exp(_levels(normal * scale + shift, level[parity]))
                for row in prices:
                    total[parity, slice(*pairs)] += row
    return total.reshape(-1)


def _levels(increments: Doubles, level: Doubles) -> Doubles:
    """Turn increments into running sums that start from, and move on, `level`; both in place."""
    for row in increments:
        level += row
        row[:] = level
    return increments
