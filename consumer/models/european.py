"""European calls and puts: the model with one dimension, whose every answer is also known."""

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from consumer.models.market import Market
from protocol.definition import Sampling
from protocol.streams import BlockStream

if TYPE_CHECKING:
    from consumer.kernels.european import EuropeanCell


class European(Market):
    """Call or put on the spot at maturity."""

    name: ClassVar[str] = "european"
    outputs: ClassVar[tuple[str, ...]] = ("price", "delta", "vega", "gamma")
    controls: ClassVar[tuple[str, ...]] = ("terminal_price",)
    block_size: ClassVar[int] = 4096
    source: ClassVar[str] = (
        "price = E[exp(-rate*maturity) * max(+-(S(maturity) - strike), 0)], Black and Scholes, "
        "Journal of Political Economy 81 (1973); delta and vega pathwise, gamma by likelihood "
        "ratio times pathwise, Glasserman, Monte Carlo Methods in Financial Engineering (2003), "
        "section 7.3"
    )

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Simulate the spot at maturity: dimension 0 drives it."""
        from consumer.kernels import european as kernel
        from consumer.kernels import payoff

        columns, samples = payoff.room(self, stream, sampling, outputs)
        cell = _cell(self)
        plan = payoff.plan(stream, sampling.method, cell.times)
        kernel.european(plan, cell.terms, columns, samples)
        return samples


@lru_cache(maxsize=64)
def _cell(model: European) -> "EuropeanCell":
    from consumer.kernels.european import prepare

    return prepare(model)
