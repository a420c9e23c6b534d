"""Asian options on an arithmetic or geometric average, under geometric Brownian motion.

The average is taken over a finite list of fixings; nothing here is a continuous average.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from consumer.models.fixings import Fixings
from consumer.models.market import MAX_FIXINGS, Market
from protocol.definition import Sampling
from protocol.streams import BlockStream

if TYPE_CHECKING:
    from consumer.kernels.asian_terms import AsianCell


LEAST_TIME = 1e-9
"""Years, and shares of the maturity, below which doubles do not tell times apart well."""


class Asian(Market):
    """Call or put on the average of the spot at the fixings, or on the spot against it."""

    name: ClassVar[str] = "asian"
    version: ClassVar[int] = 2
    outputs: ClassVar[tuple[str, ...]] = ("price", "delta", "vega", "gamma")
    controls: ClassVar[tuple[str, ...]] = ("geometric_price", "geometric_delta", "geometric_vega")
    block_size: ClassVar[int] = 1024
    source: ClassVar[str] = (
        "price = E[exp(-rate*maturity) * max(+-(A - strike), 0)], or max(+-(S(maturity) - A), 0) "
        "for average_strike, with A the mean of S at the fixings; control variates by Kemna and "
        "Vorst, Journal of Banking and Finance 14 (1990); delta and vega pathwise, Broadie and "
        "Glasserman, Management Science 42 (1996); gamma by likelihood ratio times pathwise in the "
        "direction of the geometric average, after Fournie et al., Finance and Stochastics 3 (1999)"
    )

    averaging: Annotated[
        Literal["arithmetic", "geometric"],
        Field(description="How the fixings are averaged", json_schema_extra={"unit": ""}),
    ] = "arithmetic"
    payoff: Annotated[
        Literal["average_price", "average_strike"],
        Field(
            description="What is paid: average_price is average against strike, average_strike "
            "the spot at maturity against average (the strike is not used)",
            json_schema_extra={"unit": ""},
        ),
    ] = "average_price"
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
        if times is not None:
            for earlier, later in pairwise(times):
                if later <= earlier:
                    raise ValueError(
                        f"fixing_times must increase, but {later!r} follows {earlier!r}"
                    )
            if 0.0 < (first := times[times[0] == 0.0 and len(times) > 1]) < LEAST_TIME:
                raise ValueError(
                    f"fixing_times begin at {first!r} after 0, allowed is {LEAST_TIME!r} or later"
                )
            if times[-1] > self.maturity:
                raise ValueError(
                    f"fixing_times end at {times[-1]!r}, after maturity {self.maturity!r}"
                )
        self._something_is_uncertain()
        return self

    def _something_is_uncertain(self) -> None:
        dates = self.dates()
        if self.payoff == "average_price" and not dates.times:
            raise ValueError(
                "fixing_times = (0.0,) fixes only the spot, which is known; "
                "payoff = 'average_price' needs a fixing after time 0"
            )
        if self.payoff == "average_price":
            return
        if dates.count == 1 and dates.times == (self.maturity,):
            raise ValueError(
                "payoff = 'average_strike' with its only fixing at maturity always pays 0; "
                "give a fixing before maturity"
            )
        # Of log(spot at maturity / average), by volatility**2: a difference, lost in its rounding.
        variance = self.maturity - 2.0 * dates.mean_time + dates.variance
        if variance < LEAST_TIME * self.maturity:
            raise ValueError(
                f"fixing_times = {self.fixing_times!r:.80} are all too close to maturity "
                f"{self.maturity!r} for payoff = 'average_strike'; give an earlier fixing"
            )

    def check_sampling(self, sampling: Sampling, block_size: int) -> None:
        """Refuse, besides, control variates where the average is their own."""
        super().check_sampling(sampling, block_size)
        if sampling.control_variates and self.averaging == "geometric":
            raise ValueError(
                "sampling.control_variates = true needs averaging = 'arithmetic': "
                "the geometric average is the control itself"
            )

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Simulate one path per sample: dimension i drives the step to the i-th time after 0.

        The last step ends at the last fixing, or at maturity for `average_strike`. With sobol
        the dimensions are those of a Brownian bridge over the same times.
        """
        from consumer.kernels import asian as kernel
        from consumer.kernels import asian_terms, payoff

        columns, samples = payoff.room(self, stream, sampling, outputs)
        cell = _cell(self)
        terms = cell.terms._replace(sums=asian_terms.sums(cell.terms, columns))
        plan = payoff.plan(stream, sampling.method, cell.times)
        kernel.asian(plan, terms, columns, cell.steps, cell.centres, samples)
        return samples

    def dates(self) -> Fixings:
        """Return when the price is fixed."""
        if self.fixing_times is None:
            count = self.fixings or 0
            grid = np.arange(1, count + 1) * self.maturity / count
            # Rounding can put the last one a bit beside the maturity that it stands for.
            return Fixings((*grid[:-1].tolist(), self.maturity), with_spot=False)
        with_spot = self.fixing_times[0] == 0.0
        return Fixings(self.fixing_times[int(with_spot) :], with_spot)


@lru_cache(maxsize=64)
def _cell(model: Asian) -> "AsianCell":
    from consumer.kernels.asian_terms import prepare

    return prepare(
        model,
        model.dates(),
        geometric=model.averaging == "geometric",
        against_spot=model.payoff == "average_strike",
    )
