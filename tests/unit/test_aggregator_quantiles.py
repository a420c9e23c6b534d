"""Quantiles from histograms: against exact ones, against DDSketch, and their binomial ranks."""

import math

import numpy as np
import pytest
import scipy.stats
from ddsketch import DDSketch
from numpy.typing import NDArray

from aggregator.binomial import enclosing_ranks
from aggregator.estimates import estimates
from aggregator.quantiles import quantiles
from protocol.definition import Method
from protocol.histogram import Tally
from protocol.model import moments
from protocol.results import Quantile
from protocol.statistics import Statistics, collect

PROBABILITIES = (0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999)

DRAWS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "lognormal": lambda rng, n: np.exp(2 * rng.standard_normal(n)),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "payoff": lambda rng, n: np.maximum(100 * np.exp(0.2 * rng.standard_normal(n)) - 105, 0),
    "tiny": lambda rng, n: 1e-300 * rng.exponential(size=n),
}


def found(
    samples: NDArray[np.float64],
    probabilities: tuple[float, ...] = PROBABILITIES,
    confidence: float | None = 0.95,
) -> tuple[Quantile, ...]:
    tally = Tally(1)
    tally.add(samples[np.newaxis])
    extremes = float(samples.min()), float(samples.max())
    return quantiles(tally.histograms()[0], extremes, probabilities, confidence)


@pytest.mark.parametrize("law", DRAWS)
def test_a_quantile_is_within_one_percent_of_the_exact_one(law: str) -> None:
    samples = DRAWS[law](np.random.default_rng(2), 40_001)
    exact = np.quantile(samples, PROBABILITIES, method="inverted_cdf")
    for quantile, expected in zip(found(samples), exact, strict=True):
        assert quantile.value == pytest.approx(expected, rel=0.01, abs=0.0)


@pytest.mark.parametrize("law", ["normal", "lognormal", "cauchy", "payoff"])
def test_quantiles_agree_with_ddsketch_of_the_same_accuracy(law: str) -> None:
    samples = DRAWS[law](np.random.default_rng(3), 20_001)
    sketch = DDSketch(relative_accuracy=0.01)
    for value in samples:
        sketch.add(float(value))
    for quantile in found(samples):
        # It counts ranks from 0 and rounds down: take the same sample.
        rank = max(1, math.ceil(len(samples) * quantile.probability)) - 1
        theirs = sketch.get_quantile_value((rank + 0.5) / (len(samples) - 1))
        assert theirs is not None
        assert quantile.value == pytest.approx(theirs, rel=0.02, abs=1e-12)


def test_a_constant_has_itself_as_every_quantile() -> None:
    for quantile in found(np.full(100, 3.3), (0.01, 0.5, 0.99)):
        assert quantile.value == pytest.approx(3.3, rel=1e-15)


def test_no_quantile_lies_beyond_the_extremes() -> None:
    samples = np.array([1.001, 1.002, 7.77])
    for quantile in found(samples, (0.001, 0.999)):
        assert 1.001 <= quantile.value <= 7.77


def test_the_interval_is_open_where_too_few_samples_lie_outside() -> None:
    low, middle, high = found(np.arange(1.0, 101.0), (0.01, 0.5, 0.99))
    assert (low.ci_low, high.ci_high) == (None, None)
    assert low.ci_high is not None
    assert high.ci_low is not None
    # Ranks 40 and 61 of 100 enclose the median (tables of the sign test).
    assert middle.ci_low == pytest.approx(40, rel=0.01)
    assert middle.ci_high == pytest.approx(61, rel=0.01)


@pytest.mark.parametrize(
    ("n", "p"),
    [(1, 0.5), (2, 0.01), (10, 0.5), (100, 0.01), (100, 0.99), (1000, 0.3), (39_000, 0.5),
     (10**6, 0.001), (10**6, 0.9999), (10**9, 1e-6)],
)  # fmt: skip
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.9999])
def test_ranks_are_the_tightest_that_the_binomial_law_allows(
    n: int, p: float, confidence: float
) -> None:
    lower, upper = enclosing_ranks(n, p, confidence)
    law, outside = scipy.stats.binom(n, p), (1 - confidence) / 2
    assert law.cdf(lower - 1) <= outside * (1 + 1e-9)
    assert law.cdf(lower) > outside * (1 - 1e-9)
    assert law.sf(upper - 1) <= outside * (1 + 1e-9)
    assert law.sf(upper - 2) > outside * (1 - 1e-9)


@pytest.mark.parametrize(("n", "p"), [(10**5, 0.5), (10**6, 0.02), (10**9, 0.3), (10**12, 0.999)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999999])
def test_ranks_of_very_many_samples_are_safe_and_at_most_three_wider(
    n: int, p: float, confidence: float
) -> None:
    lower, upper = enclosing_ranks(n, p, confidence)
    law, outside = scipy.stats.binom(n, p), (1 - confidence) / 2
    assert law.cdf(lower - 1) <= outside
    assert law.sf(upper - 1) <= outside
    assert law.cdf(lower + 3) > outside
    assert law.sf(upper - 5) > outside


def test_intervals_cover_the_true_quantile() -> None:
    # At least nominal, because ranks are whole and edges lie outside; 1,000 runs of a nominal 95 %
    # fall below 93 % with a chance of 0.3 %.
    truth = {p: scipy.stats.norm.ppf(p) for p in (0.05, 0.5, 0.9)}
    hits = dict.fromkeys(truth, 0)
    for seed in range(1000):
        for quantile in found(np.random.default_rng(seed).standard_normal(200), tuple(truth)):
            low = -math.inf if quantile.ci_low is None else quantile.ci_low
            high = math.inf if quantile.ci_high is None else quantile.ci_high
            hits[quantile.probability] += low <= truth[quantile.probability] <= high
    assert min(hits.values()) >= 930
    assert max(hits.values()) <= 995


def merged() -> Statistics:
    tally, blocks = Tally(2), np.random.default_rng(6).standard_normal((8, 2, 32))
    for block in blocks:
        tally.add(block)
    return collect((moments(block, 2) for block in blocks), 32, tally)


def test_estimates_have_the_quantiles_asked_for_and_an_interval_under_pseudo_only() -> None:
    for method, interval in ((Method.PSEUDO, True), (Method.SOBOL, False)):
        for answer in estimates(merged(), method, 0.9, (0.25, 0.5)):
            assert [quantile.probability for quantile in answer.quantiles] == [0.25, 0.5]
            assert all((q.ci_low is not None) is interval for q in answer.quantiles)
    assert estimates(merged(), Method.PSEUDO, 0.9)[0].quantiles == ()
