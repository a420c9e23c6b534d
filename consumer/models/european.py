"""European calls and puts: the model with one dimension, whose every answer is also known."""

from typing import ClassVar

from consumer.models.market import Market


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
