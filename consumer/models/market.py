"""What all option models share: a lognormal underlying, and a call or put on it.

The underlying follows S(t) = spot * exp((rate - dividend_yield - volatility**2/2)*t +
volatility*W(t)) under the pricing measure. Nothing here says what is paid, and how it is simulated.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from protocol.definition import Method
from protocol.model import PORTABLE_ENGINE, Model

MAX_FIXINGS = 4096


class Market(Model):
    """Base of the option models: parameters of the underlying, strike and maturity."""

    methods: ClassVar[tuple[Method, ...]] = (Method.PSEUDO, Method.ANTITHETIC, Method.SOBOL)
    engine: ClassVar[str | None] = PORTABLE_ENGINE

    option_type: Annotated[
        Literal["call", "put"],
        Field(
            description="call pays what the price is above the strike, put what it is below",
            json_schema_extra={"unit": ""},
        ),
    ] = "call"
    spot: Annotated[
        float,
        Field(
            ge=1e-9,
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
            description="Price that the underlying, or its average, is compared with",
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
            ge=1e-6,  # its square, and what is divided by it, must stay far from underflow
            le=5,
            description="Volatility of the underlying",
            json_schema_extra={"unit": "1/sqrt(year)"},
        ),
    ] = 0.2
    maturity: Annotated[
        float,
        Field(
            ge=1e-6,
            le=100,
            description="Time at which the option pays",
            json_schema_extra={"unit": "year"},
        ),
    ] = 1.0

    @property
    def sign(self) -> float:
        """Return 1 for a call and -1 for a put."""
        return 1.0 if self.option_type == "call" else -1.0

    @property
    def drift(self) -> float:
        """Return the drift of the logarithm, per year."""
        return self.rate - self.dividend_yield - 0.5 * self.volatility * self.volatility
