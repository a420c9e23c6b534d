"""What a back-test's parameters come to: its net returns, their figures, and resampled ones."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from consumer.kernels import bootstrap, strategy
from consumer.kernels.block_length import automatic_block_length
from consumer.kernels.draws import counters
from consumer.models.backtest import Backtest
from protocol.streams import BlockStream

Doubles = NDArray[np.float64]

BASIS_POINT = 1e-4


@dataclass(frozen=True)
class History:
    """What happened.

    Attributes
    ----------
    returns
        The portfolio's net return of each day that was traded.
    figures
        Its annual return, volatility, Sharpe ratio and maximum drawdown.
    block_length
        Mean length of the bootstrap's runs of days, given or chosen.
    """

    returns: Doubles
    figures: Doubles
    block_length: float


def figures(model: Backtest, stream: BlockStream) -> Doubles:
    """Return every output of a block's samples, shape (outputs, m)."""
    history = _history(model)
    known = np.concatenate((history.figures, [history.block_length]))
    constant = np.broadcast_to(known[:, np.newaxis], (len(known), stream.size))
    if model.single_sample:
        return np.concatenate((constant[:-1], constant))
    resampled = bootstrap.bootstrap(
        counters(stream),
        stream.size,
        history.returns,
        history.block_length,
        model.days_per_year,
    )
    return np.concatenate((resampled, constant))


@lru_cache(maxsize=8)
def _history(model: Backtest) -> History:
    """Work it out once for all blocks of a cell: the parameters hold the hash of the data."""
    returns = net_returns(model)
    given = model.mean_block_length
    return History(
        returns=returns,
        figures=bootstrap.history_figures(returns, model.days_per_year)[:, 0],
        block_length=automatic_block_length(returns) if given is None else given,
    )


def net_returns(model: Backtest) -> Doubles:
    """Return the weighted sum of the legs' net returns on each day that is traded."""
    legs = model.prices()
    weights = model.weights or (1.0 / len(legs),) * len(legs)
    total = np.zeros(len(legs[0]) - 1 - model.warm_up)
    for prices, weight in zip(legs, weights, strict=True):
        returns = strategy.daily_returns(prices)
        held = positions(model, prices, returns)
        strategy.add_net_returns(total, weight, held, returns, model.cost * BASIS_POINT)
    return total


def positions(model: Backtest, prices: Doubles, returns: Doubles) -> Doubles:
    """Return the position at the end of each day, 0 before all that the rule looks back on."""
    if model.fast is not None and model.slow is not None:
        held = strategy.crossover(prices, model.fast, model.slow)
    else:
        held = strategy.momentum(prices, model.look_back or 0)
    if model.volatility_target is None:
        return held
    return strategy.at_volatility(
        held,
        returns,
        model.volatility_look_back or 0,
        model.volatility_target,
        model.max_leverage or 0.0,
        model.days_per_year,
    )
