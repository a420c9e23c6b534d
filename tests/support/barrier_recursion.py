"""Barrier options monitored at discrete dates, priced by a backward recursion of quadratures.

The value between two dates is an integral against a normal density; it is taken by composite
Gauss-Legendre quadrature over the region where the option is alive, whose edge is a panel's edge,
so that the integrand is smooth in every panel.
"""

import math
from itertools import pairwise

import numpy as np

from tests.support.closed_forms import Market, black_scholes

NODES = 16
DEVIATIONS = 9.0


def _panels(edges: list[float], width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights over consecutive intervals, in panels no wider than `width`."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    nodes, weights = [], []
    for low, high in pairwise(edges):
        count = max(1, math.ceil((high - low) / width))
        ends = np.linspace(low, high, count + 1)
        half = (ends[1:] - ends[:-1])[:, np.newaxis] / 2
        nodes.append((ends[:-1, np.newaxis] + half * (1 + x)).ravel())
        weights.append((half * w).ravel())
    return np.concatenate(nodes), np.concatenate(weights)


def discrete_barrier(
    market: Market, barrier: float, barrier_type: str, call: bool, rebate: float, fixings: int
) -> tuple[float, float]:
    """Return price and hit probability; monitored at i * maturity / fixings, i = 1 ... fixings."""
    up = barrier_type.startswith("up")
    step = market.maturity / fixings
    deviation = market.volatility * math.sqrt(step)
    start = math.log(market.spot)
    reach = DEVIATIONS * market.deviation + abs(market.drift) * market.maturity
    edge = math.log(barrier)
    low, high = (start - reach, edge) if up else (edge, start + reach)
    kink = math.log(market.strike)
    edges = [low, kink, high] if low < kink < high else [low, high]
    x, w = _panels(edges, 2 * deviation)

    def density(from_x: np.ndarray) -> np.ndarray:
        z = (x[np.newaxis, :] - from_x[:, np.newaxis] - market.drift * step) / deviation
        return np.exp(-0.5 * z * z) * (w / (deviation * math.sqrt(2 * math.pi)))

    gain = np.exp(x) - market.strike
    values = np.stack([np.maximum(gain if call else -gain, 0.0), np.ones_like(x)], axis=1)
    if fixings > 1:
        transition = density(x)
        for _ in range(fixings - 1):
            values = transition @ values
    alive_payoff, alive = (density(np.array([start])) @ values)[0]
    knocked_out, hit = market.discount * float(alive_payoff), 1.0 - float(alive)
    if barrier_type.endswith("out"):
        return knocked_out + market.discount * rebate * hit, hit
    plain = black_scholes(market, call)["price"]
    return plain - knocked_out + market.discount * rebate * (1 - hit), hit
