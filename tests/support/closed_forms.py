"""Closed forms that the models are tested against, written with scipy and apart from the product.

Rates, yields and volatilities per year, times in years, prices at time 0.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm


@dataclass(frozen=True)
class Market:
    """A lognormal underlying, and a strike and a maturity on it."""

    spot: float = 100.0
    strike: float = 100.0
    rate: float = 0.05
    dividend_yield: float = 0.0
    volatility: float = 0.2
    maturity: float = 1.0

    @property
    def drift(self) -> float:
        """Of the logarithm, per year."""
        return self.rate - self.dividend_yield - self.volatility**2 / 2

    @property
    def deviation(self) -> float:
        """Of the logarithm at maturity."""
        return self.volatility * math.sqrt(self.maturity)

    @property
    def discount(self) -> float:
        """From maturity to time 0."""
        return math.exp(-self.rate * self.maturity)


def black_scholes(market: Market, call: bool) -> dict[str, float]:
    """Price, delta, vega, gamma of a European option; Black and Scholes 1973, Merton 1973."""
    sign = 1 if call else -1
    d2 = (math.log(market.spot / market.strike) + market.drift * market.maturity) / market.deviation
    d1 = d2 + market.deviation
    carried = math.exp(-market.dividend_yield * market.maturity)
    return {
        "price": sign
        * (
            market.spot * carried * norm.cdf(sign * d1)
            - market.strike * market.discount * norm.cdf(sign * d2)
        ),
        "delta": sign * carried * norm.cdf(sign * d1),
        "vega": market.spot * carried * norm.pdf(d1) * math.sqrt(market.maturity),
        "gamma": carried * norm.pdf(d1) / (market.spot * market.deviation),
    }


def geometric_average_price(market: Market, call: bool, times: np.ndarray) -> dict[str, float]:
    """Price of an option on the geometric average; its greeks by central differences."""

    def price(spot: float, volatility: float) -> float:
        moved = replace(market, spot=spot, volatility=volatility)
        # The covariance of Brownian motion at two times is the earlier one.
        variance = volatility**2 * np.minimum.outer(times, times).mean()
        mean = math.log(spot) + moved.drift * times.mean()
        forward = math.exp(mean + variance / 2)
        d1 = (math.log(forward / market.strike) + variance / 2) / math.sqrt(variance)
        sign = 1 if call else -1
        gain = forward * norm.cdf(sign * d1)
        paid = market.strike * norm.cdf(sign * (d1 - math.sqrt(variance)))
        return float(sign * market.discount * (gain - paid))

    return _greeks(price, market)


def geometric_average_strike(market: Market, call: bool, times: np.ndarray) -> dict[str, float]:
    """Price of the spot at maturity against the geometric average; Margrabe 1978."""

    def price(spot: float, volatility: float) -> float:
        moved = replace(market, spot=spot, volatility=volatility)
        average = volatility**2 * np.minimum.outer(times, times).mean()
        spread = volatility**2 * (market.maturity - 2 * times.mean()) + average
        first = spot * math.exp((market.rate - market.dividend_yield) * market.maturity)
        second = spot * math.exp(moved.drift * times.mean() + average / 2)
        d1 = (math.log(first / second) + spread / 2) / math.sqrt(spread)
        sign = 1 if call else -1
        gain = first * norm.cdf(sign * d1)
        paid = second * norm.cdf(sign * (d1 - math.sqrt(spread)))
        return float(sign * market.discount * (gain - paid))

    return _greeks(price, market)


def _greeks(price, market: Market) -> dict[str, float]:  # type: ignore[no-untyped-def]  # noqa: ANN001
    h, v = 1e-3 * market.spot, 1e-4 * market.volatility
    up, mid, down = (price(market.spot + k * h, market.volatility) for k in (1, 0, -1))
    high, low = (price(market.spot, market.volatility + k * v) for k in (1, -1))
    return {
        "price": mid,
        "delta": (up - down) / (2 * h),
        "vega": (high - low) / (2 * v),
        "gamma": (up - 2 * mid + down) / (h * h),
    }


def barrier_hit_probability(market: Market, barrier: float, up: bool) -> float:
    """Probability that the underlying touches the barrier before maturity; reflection principle."""
    eta = 1 if up else -1
    distance = math.log(market.spot / barrier)
    move = market.drift * market.maturity
    power = (barrier / market.spot) ** (2 * market.drift / market.volatility**2)
    direct = norm.cdf(eta * (distance + move) / market.deviation)
    reflected = norm.cdf(eta * (distance - move) / market.deviation)
    return float(direct + power * reflected)


def barrier_price(
    market: Market, barrier: float, barrier_type: str, call: bool, rebate: float = 0.0
) -> float:
    """Price of a continuously monitored barrier option with its rebate paid at maturity.

    Reiner and Rubinstein, "Breaking down the barriers", Risk 4 (1991); the letters are those of
    Haug, "The complete guide to option pricing formulas", 2nd edition, section 4.17.1.
    """
    phi = 1 if call else -1
    up = barrier_type.startswith("up")
    eta = -1 if up else 1
    s, k, h, dev = market.spot, market.strike, barrier, market.deviation
    mu = market.drift / market.volatility**2
    carried = math.exp(-market.dividend_yield * market.maturity)
    shift = (1 + mu) * dev

    def plain(x: float) -> float:
        return phi * s * carried * norm.cdf(phi * x) - phi * k * market.discount * norm.cdf(
            phi * (x - dev)
        )

    def mirrored(y: float) -> float:
        gain = s * carried * (h / s) ** (2 * (mu + 1)) * norm.cdf(eta * y)
        paid = k * market.discount * (h / s) ** (2 * mu) * norm.cdf(eta * (y - dev))
        return phi * (gain - paid)

    a = plain(math.log(s / k) / dev + shift)
    b = plain(math.log(s / h) / dev + shift)
    c = mirrored(math.log(h * h / (s * k)) / dev + shift)
    d = mirrored(math.log(h / s) / dev + shift)
    above = k > h
    if up == call:  # up call, down put
        knocked_in = a if above == up else b - c + d
    else:  # down call, up put
        knocked_in = c if above != up else a - b + d
    hit = barrier_hit_probability(market, barrier, up)
    if barrier_type.endswith("in"):
        return float(knocked_in + market.discount * rebate * (1 - hit))
    return float(a - knocked_in + market.discount * rebate * hit)
