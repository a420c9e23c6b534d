"""Back-tests of trading rules on daily prices, of one pair or a portfolio, with their uncertainty.

The parameters and what is allowed; files and prices are in `consumer.backtest`, the loops in
`consumer.kernels`. Nothing here chooses a rule, or says that one will earn what it earned.
"""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from consumer.backtest.files import ECB, check_hash, content_hash, price_table
from protocol.definition import Sampling
from protocol.model import PORTABLE_ENGINE, Model
from protocol.sentences import counted
from protocol.streams import BlockStream

FIGURES = ("annual_return", "volatility", "sharpe", "max_drawdown")
MAX_LOOK_BACK = 5000
MAX_LEGS = 200
LEAST_DAYS = 20
"""Fewest days that a rule must trade: figures of fewer would say nothing."""

_RULES: dict[str, dict[str, int]] = {
    "crossover": {"fast": 50, "slow": 200},
    "momentum": {"look_back": 250},
}
_TARGETING: dict[str, float] = {"volatility_look_back": 60, "max_leverage": 3.0}

LookBack = Annotated[int, Field(ge=1, le=MAX_LOOK_BACK, json_schema_extra={"unit": "day"})]
Instrument = Annotated[str, Field(min_length=1, max_length=40)]
Weight = Annotated[float, Field(ge=-10, le=10)]


class Backtest(Model):
    """A trading rule's figures over a history of prices, or over many resampled histories."""

    name: ClassVar[str] = "backtest"
    outputs: ClassVar[tuple[str, ...]] = (
        *FIGURES,
        *(f"history_{name}" for name in FIGURES),
        "block_length",
    )
    block_size: ClassVar[int] = 256
    default_samples: ClassVar[int] = 4096
    single_sample_blocks: ClassVar[bool] = True
    resamples: ClassVar[bool] = True
    source: ClassVar[str] = (
        "prices: euro foreign exchange reference rates of the European Central Bank, or a file; "
        "stationary bootstrap of the daily net returns: Politis and Romano, Journal of the "
        "American Statistical Association 89 (1994); mean block length: Politis and White, "
        "Econometric Reviews 23 (2004), corrected by Patton, Politis and White, 28 (2009)"
    )
    engine: ClassVar[str | None] = PORTABLE_ENGINE

    mode: Annotated[
        Literal["bootstrap", "history"],
        Field(description="history is what happened, bootstrap many resampled histories"),
    ] = "bootstrap"
    data: Annotated[
        str,
        Field(
            max_length=200,
            description="ecb for the central bank's reference rates, or the absolute path of a "
            "CSV file on every consumer: a date, then one price per instrument",
        ),
    ] = ECB
    data_hash: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-f]{64}$",
            description="SHA-256 of the data; what the submitting machine has, unless given",
        ),
    ] = None
    pair: Annotated[
        Instrument | None,
        Field(description="What is traded: two currency codes, or a column of the file"),
    ] = "EURUSD"
    legs: Annotated[
        tuple[Instrument, ...] | None,
        Field(min_length=1, max_length=MAX_LEGS, description="Instead of pair: a portfolio"),
    ] = None
    weights: Annotated[
        tuple[Weight, ...] | None,
        Field(
            max_length=MAX_LEGS,
            description="Of the legs; equal ones that add up to 1 if none",
            json_schema_extra={"unit": "1"},
        ),
    ] = None
    first_date: Annotated[
        str | None, Field(description="First day whose price is used, as 2005-01-31")
    ] = None
    last_date: Annotated[str | None, Field(description="Last day whose price is used")] = None
    strategy: Annotated[
        Literal["crossover", "momentum"],
        Field(description="crossover of two moving averages, or time-series momentum"),
    ] = "crossover"
    fast: Annotated[
        LookBack | None, Field(description="Days of the short average of a crossover; 50 if none")
    ] = None
    slow: Annotated[
        LookBack | None, Field(description="Days of the long average of a crossover; 200 if none")
    ] = None
    look_back: Annotated[
        LookBack | None, Field(description="Days over which momentum compares prices; 250 if none")
    ] = None
    cost: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Of changing a position by its full size once",
            json_schema_extra={"unit": "basis point"},
        ),
    ] = 1.0
    volatility_target: Annotated[
        float | None,
        Field(
            gt=0,
            le=5,
            description="Volatility that every position is scaled to; not scaled if none",
            json_schema_extra={"unit": "1/sqrt(year)"},
        ),
    ] = None
    volatility_look_back: Annotated[
        int | None,
        Field(
            ge=2,
            le=MAX_LOOK_BACK,
            description="Days that the volatility is measured over; 60 if none",
            json_schema_extra={"unit": "day"},
        ),
    ] = None
    max_leverage: Annotated[
        float | None,
        Field(
            gt=0,
            le=100,
            description="Largest position under a volatility target; 3 if none",
            json_schema_extra={"unit": "1"},
        ),
    ] = None
    days_per_year: Annotated[
        float,
        Field(
            ge=1,
            le=366,
            description="Days with a price in a year; the central bank publishes on 256",
            json_schema_extra={"unit": "1/year"},
        ),
    ] = 256.0
    mean_block_length: Annotated[
        float | None,
        Field(
            ge=1,
            le=10_000,
            description="Of the bootstrap; chosen by Politis and White's rule if none",
            json_schema_extra={"unit": "day"},
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_depend(cls, data: Any) -> Any:
        """Fill in what other parameters decide, so that a run's definition says all of it."""
        if not isinstance(data, Mapping):
            return data
        filled: dict[str, Any] = {}
        if data.get("legs") is not None:
            filled["pair"] = None
        strategy = data.get("strategy", "crossover")
        filled |= _RULES.get(strategy, {}) if isinstance(strategy, str) else {}
        if data.get("volatility_target") is not None:
            filled |= _TARGETING
        return filled | {name: value for name, value in data.items() if value is not None}

    @field_validator("first_date", "last_date", mode="before")
    @classmethod
    def _a_day(cls, value: Any) -> Any:
        if isinstance(value, date):  # as TOML writes it
            return value.isoformat()[:10]
        if isinstance(value, str):
            try:
                return date.fromisoformat(value).isoformat()
            except ValueError:
                raise ValueError("it should be a date as 2005-01-31") from None
        return value

    @field_validator("data")
    @classmethod
    def _a_place(cls, value: str) -> str:
        if value != ECB and not value.startswith("/"):
            raise ValueError(f"it should be '{ECB}' or an absolute path, which starts with /")
        return value

    @model_validator(mode="after")
    def _parameters_agree(self) -> Self:
        self._check_legs()
        self._check_rule()
        if self.mode == "history" and self.mean_block_length is not None:
            raise ValueError("mean_block_length is of mode = 'bootstrap' only")
        if self.first_date and self.last_date and self.first_date > self.last_date:
            raise ValueError(f"first_date {self.first_date} is after last_date {self.last_date}")
        return self

    @model_validator(mode="after")
    def _data_suffice(self, info: ValidationInfo) -> Self:
        if (info.context or {}).get("complete"):
            # Whoever published a chunk has to know the data: nothing is looked up for them.
            if self.data_hash is None:
                raise ValueError("data_hash is missing; a chunk has all parameters")
        elif self.data_hash is None:
            # Frozen for everybody else; the definition is to say which data its answer is of.
            object.__setattr__(self, "data_hash", content_hash(self.data))
        else:
            check_hash(self.data, self.data_hash)
        traded = len(self.prices()[0]) - 1 - self.warm_up
        if traded < LEAST_DAYS:
            raise ValueError(
                f"the data leave {max(0, traded)} days to trade after the {self.warm_up} that the "
                f"rule looks back, allowed are {LEAST_DAYS} or more"
            )
        return self

    def _check_legs(self) -> None:
        if (self.pair is None) == (self.legs is None):
            raise ValueError("give either pair or legs; they exclude each other")
        if self.weights is not None and len(self.weights) != len(self.legs or ()):
            raise ValueError(
                f"weights has {counted(len(self.weights), 'number')} "
                f"for {counted(len(self.legs or ()), 'leg')}"
            )

    def _check_rule(self) -> None:
        for strategy, names in _RULES.items():
            for name in names:
                if strategy != self.strategy and getattr(self, name) is not None:
                    raise ValueError(f"{name} is of strategy = '{strategy}' only")
        for name in _TARGETING:
            if self.volatility_target is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is of use only with volatility_target")
        if self.fast is not None and self.slow is not None and self.fast >= self.slow:
            raise ValueError(f"fast = {self.fast} should be below slow = {self.slow}")

    @property
    def warm_up(self) -> int:
        """Days before the first one at whose end the position is known."""
        rule = self.slow - 1 if self.slow is not None else self.look_back or 0
        return max(rule, self.volatility_look_back or 0)

    @property
    def single_sample(self) -> bool:
        """What happened is one sample, whatever the random numbers."""
        return self.mode == "history"

    def prices(self) -> list[NDArray[np.float64]]:
        """Return the prices of each leg on the days that are used.

        Raises
        ------
        UnsupportedError
            The data are not here, or are others.
        ValueError
            They are no prices, or do not have what is asked for.
        """
        table = price_table(self.data, self.data_hash or "")
        days = table.days(_day(self.first_date), _day(self.last_date))
        try:
            return [table.prices(leg, days) for leg in self.legs or (self.pair or "",)]
        except ValueError as error:
            raise ValueError(f"{'legs' if self.legs else 'pair'}: {error}") from None

    def check_sampling(self, sampling: Sampling, block_size: int) -> None:
        """Refuse, besides what no model can have, more than one sample of what happened."""
        super().check_sampling(sampling, block_size)
        if self.single_sample != (block_size == 1):
            rule = "it should be 1" if self.single_sample else "it should be even"
            raise ValueError(
                f"sampling.block_size = {block_size} is not allowed with mode = '{self.mode}': "
                f"{rule}, and cells of both modes cannot share a run"
            )

    def samples(
        self, stream: BlockStream, sampling: Sampling, outputs: tuple[str, ...]
    ) -> NDArray[np.float64]:
        """Return the figures of what happened, or of one resampled history per sample."""
        from consumer.backtest.history import figures

        del sampling  # pseudo is the only method offered
        rows = figures(self, stream)
        return np.ascontiguousarray([rows[self.outputs.index(name)] for name in outputs])


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
