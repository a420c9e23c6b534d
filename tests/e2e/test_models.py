"""The built-in models through the whole pipeline: known prices, and bits that no CPU changes."""

from collections.abc import Mapping

import pytest

from tests.support.stack_jobs import SIGMAS, Job
from tests.support.stack_site import Site

PLAIN_CPU = {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
"""A processor without the wide vectors that this one may have."""

REFERENCES: Mapping[str, tuple[str, tuple[float, ...]]] = {
    # Rows of tests/data/asian_options.csv and european_options.csv.
    "asian": (
        f"""
[params]
spot = 90.0
strike = 87.0
rate = 0.025
dividend_yield = 0.06
volatility = 0.13
maturity = {330 / 360}
option_type = "put"
[[cells]]
fixing_times = {[0.0, 330 / 360]}
[[cells]]
fixing_times = {[day / 360 for day in (0, 47, 94, 141, 189, 236, 283, 330)]}
""",
        (1.3939809367, 1.6711089666),
    ),
    "european": (
        """
[params]
spot = 60.0
strike = 65.0
rate = 0.08
volatility = 0.3
maturity = 0.25
""",
        (2.133368444916,),
    ),
}


def job_of(run: str, model: str, sections: str, sampling: str, blocks: int, size: int) -> Job:
    return Job(
        run,
        f"""
[run]
model = "{model}"
id = "{run}"
seed = 20260101
{sections}
[sampling]
block_size = {size}
{sampling}
[stop]
samples = {blocks * size}
""",
    )


@pytest.mark.parametrize("model", REFERENCES)
def test_known_prices_come_out_of_the_whole_pipeline(site: Site, model: str) -> None:
    # With 256 blocks a right price is off by more than 4.5 standard errors once in 100,000 seeds.
    sections, truths = REFERENCES[model]
    site.aggregator().ready()
    site.consumer(2).ready()
    sampling = 'method = "sobol"\ncontrol_variates = true'
    job = job_of(f"known-{model}", model, sections, sampling, blocks=256, size=256)
    result = site.assert_answer(job, site.run(job).wait())
    for cell, truth in zip(result["cells"], truths, strict=True):
        price = cell["outputs"]["price"]
        assert price["error_reliable"]
        assert price["standard_error"] < 2e-4 * truth
        assert abs(price["mean"] - truth) < SIGMAS * price["standard_error"]


WAYS = (
    ("pi", "", ""),
    ("european", "", 'method = "antithetic"\ncontrol_variates = true'),
    ("asian", "[params]\nfixings = 20", 'method = "sobol"\ncontrol_variates = true'),
    ("barrier", "[params]\nfixings = 20", 'method = "sobol"'),
    ("backtest", '[params]\npair = "EURUSD"', ""),
)


@pytest.mark.timeout(600)
def test_consumers_of_different_instruction_sets_arrive_at_one_answer(site: Site) -> None:
    site.aggregator().ready()
    plain = site.consumer(1, environment=PLAIN_CPU)
    plain.ready()
    # The plain processor alone, then both; what must come out is computed here, on this one.
    for model, sections, sampling in WAYS:
        job = job_of(f"plain-{model}", model, sections, sampling, blocks=16, size=64)
        site.assert_answer(job, site.run(job, "--chunk-blocks", "1").wait())
    site.consumer(1).ready()
    job = job_of("mixed", "asian", "", 'method = "antithetic"', blocks=600, size=1024)
    site.assert_answer(job, site.run(job, "--chunk-blocks", "5").wait())
