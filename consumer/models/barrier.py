"""Barrier options under geometric Brownian motion, monitored at dates or continuously.

One barrier; its rebate is paid at maturity. No pathwise greeks: they are wrong where the payoff
jumps.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from consumer.models.market import MAX_FIXINGS, Market
from protocol.definition import Sampling
from protocol.streams import BlockStream

if TYPE_CHECKING:
    from consumer.kernels.barrier import BarrierCell

CONTINUOUS = "continuous"
DEFAULT_DATES = 252


class Barrier(Market):
    """Call or put that comes to life, or ends, when the spot touches a barrier."""

    name: ClassVar[str] = "barrier"
    outputs: ClassVar[tuple[str, ...]] = ("price", "hit_probability")
    controls: ClassVar[tuple[str, ...]] = ("vanilla_price",)
    block_size: ClassVar[int] = 1024
    source: ClassVar[str] = (
        "price = E[exp(-rate*maturity) * (payoff where alive, else rebate)]; continuous monitoring "
        "by the crossing probability of the Brownian bridge, exp(-2*(h-x)*(h-y)/(volatility**2*dt))"
        ", Glasserman, Monte Carlo Methods in Financial Engineering (2003), section 6.4; closed "
        "forms by Reiner and Rubinstein, Risk 4 (1991)"
    )

    barrier_type: Annotated[
        Literal["up_and_out", "up_and_in", "down_and_out", "down_and_in"],
        Field(
            description="Where the barrier is, and whether touching it ends the option or "
            "starts it",
            json_schema_extra={"unit": ""},
        ),
    ] = "down_and_out"
    barrier: Annotated[
        float,
        Field(
            ge=1e-12,
            le=1e9,
            description="Price that is watched: above the spot for up, below it for down",
            json_schema_extra={"unit": "currency"},
        ),
    ] = 85.0
    rebate: Annotated[
        float,
        Field(
            ge=0,
            le=1e9,
            description="Paid at maturity instead: by out when the barrier was touched, by in when "
            "it was not",
            json_schema_extra={"unit": "currency"},
        ),
    ] = 0.0
    monitoring: Annotated[
        Literal["discrete", "continuous"],
        Field(
            description="Whether the barrier is watched at the fixings only, or all the time",
            json_schema_extra={"unit": ""},
        ),
    ] = "discrete"
    fixings: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_FIXINGS,
            description="Number of equally spaced dates, the last one at maturity; 1 unless given "
            "where monitoring is continuous, which is exact for any number",
            json_schema_extra={"unit": "1"},
        ),
    ] = DEFAULT_DATES

    @model_validator(mode="before")
    @classmethod
    def _continuous_needs_one_date(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("monitoring") == CONTINUOUS:
            return {"fixings": 1, **data}
        return data

    @model_validator(mode="after")
    def _spot_is_before_the_barrier(self) -> Self:
        if self.is_up and self.barrier <= self.spot:
            raise ValueError(
                f"barrier = {self.barrier!r} must be above spot = {self.spot!r} "
                f"for barrier_type = '{self.barrier_type}'"
            )
        if not self.is_up and self.barrier >= self.spot:
            raise ValueError(
                f"barrier = {self.barrier!r} must be below spot = {self.spot!r} "
                f"for barrier_type = '{self.barrier_type}'"
            )
        return self

    @property
    def is_up(self) -> bool:
        """Whether the barrier is above the spot."""
        return self.barrier_type in {"up_and_out", "up_and_in"}

    @property
    def is_out(self) -> bool:
        """Whether touching the barrier ends the option."""
        return self.barrier_type in {"up_and_out", "down_and_out"}

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Simulate one path per sample: dimension i drives the step to date i + 1.

        With sobol the dimensions are those of a Brownian bridge over the dates.
        """
        from consumer.kernels import barrier as kernel
        from consumer.kernels import payoff

        asked = (*outputs, *(self.controls if sampling.control_variates else ()))
        samples = np.empty((len(asked), stream.size))
        columns = kernel.Columns(
            *(
                asked.index(name) if name in asked else -1
                for name in (*self.outputs, *self.controls)
            )
        )
        cell = _cell(self)
        plan = payoff.plan(stream, sampling.method, cell.times)
        kernel.barrier(plan, cell.terms, columns, cell.steps, cell.vanilla, samples)
        return samples


@lru_cache(maxsize=64)
def _cell(model: Barrier) -> "BarrierCell":
    from consumer.kernels.barrier import prepare

    return prepare(
        model,
        model.barrier,
        model.rebate,
        model.fixings,
        out=model.is_out,
        continuous=model.monitoring == CONTINUOUS,
    )
