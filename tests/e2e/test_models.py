"""The option models through the whole pipeline: known prices."""

from collections.abc import Mapping

import pytest

from tests.support.stack_jobs import SIGMAS, Job
from tests.support.stack_site import Site

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
