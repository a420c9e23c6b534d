"""Runs that end at an error or a time: one answer whoever computes it, and honest where none."""

from typing import Any

import pytest

from aggregator.result import digest
from aggregator.stopping import Target, reached
from protocol.definition import Definition, Method
from tests.support.stack_jobs import Job, gate
from tests.support.stack_processes import Service, eventually
from tests.support.stack_site import Site

TARGET = """
[run]
model = "asian"
id = "{run}"
seed = 5
[sweep]
strike = [90.0, 130.0]
[outputs]
names = ["price"]
[stop]
{error} = {value}
"""


@pytest.fixture
def aggregator(site: Site) -> Service:
    """Return the aggregator of a site with one consumer."""
    started, consumer = site.aggregator(), site.consumer()
    started.ready()
    consumer.ready()
    return started


def job(run: str, error: str, value: float) -> Job:
    return Job(run, TARGET.format(run=run, error=error, value=value))


def assert_ended_by_the_rule(job: Job, target: Target, found: dict[str, Any]) -> None:
    """Check that each cell ended at the first checkpoint that allows it, from its blocks alone."""
    of, statistics = job.definition, []
    for number, cell in enumerate(found["cells"]):
        at = of.checkpoints.index(cell["checkpoint"])
        assert cell["ended_by"] == "error"
        assert cell["samples"] == cell["checkpoint"] * of.block_size
        params = of.cells[number]
        total, passed = None, []
        for start, stop in zip((0, *of.checkpoints), of.checkpoints[: at + 1], strict=False):
            place = {"cell": number, "first_block": start, "blocks": stop - start}
            segment = job.partial(params=params, **place).statistics
            total = segment if total is None else total.merge(segment)
            passed.append(reached(total, Method.PSEUDO, target))
        assert passed == [False] * at + [True]
        statistics.append(total)
    assert found["digest"] == digest(of.hash, statistics)


@pytest.mark.parametrize(("error", "value"), [("standard_error", 0.02), ("relative_error", 0.01)])
def test_a_target_gives_one_answer_whoever_computes_it(
    site: Site, aggregator: Service, error: str, value: float
) -> None:
    first, second = (job(run, error, value) for run in ("alone", "together"))
    found = site.run(first, "--chunk-blocks", "40").wait()
    assert found.code == 0, found.err
    assert_ended_by_the_rule(first, Target(**{error: value}), found.json)
    assert len({cell["checkpoint"] for cell in found.json["cells"]}) == 2
    more = [site.consumer(2) for _ in range(2)]
    for consumer in more:
        consumer.ready()
    again = site.run(second, "--chunk-blocks", "3").wait()
    assert again.json["digest"] == found.json["digest"]
    assert again.json["reproducible"]
    checkpoints = [[cell["checkpoint"] for cell in one.json["cells"]] for one in (found, again)]
    assert checkpoints[0] == checkpoints[1]
    assert aggregator.running


@pytest.mark.usefixtures("aggregator")
def test_options_set_a_target_and_people_are_told_how_it_ended(site: Site) -> None:
    options = ("--standard-error", "0.05", "--seed", "1", "--id", "by-option")
    run = site.command("run", "asian", *options)
    assert run.code == 0
    assert "target: standard error 0.05 of price" in run.out
    shown = site.command("results", "by-option", "--json").json
    [cell] = shown["cells"]
    assert (cell["ended_by"], shown["stop"]["outputs"]) == ("error", ["price"])
    assert 0 < cell["outputs"]["price"]["standard_error"] <= 0.05
    (status,) = site.command("status", "by-option", "--json").json["runs"]
    assert status["samples"] == status["total_samples"] == shown["samples"]


def test_a_time_limit_ends_a_run_with_what_there_is(site: Site, aggregator: Service) -> None:
    held = gate("timed", site.folder, closed_from=40)
    run = site.run(held, "--chunk-blocks", "1", "--seconds", "10")
    eventually(held.waiting, "a block waits")
    ended = run.wait(30)
    held.open()
    assert ended.code == 0, ended.err
    found = ended.json
    [cell] = found["cells"]
    assert (found["state"], found["reproducible"], cell["ended_by"]) == (
        "finished", False, "seconds",
    )  # fmt: skip
    assert (cell["checkpoint"], cell["samples"]) == (32, 32 * 512)
    # A slot may keep an answer until the chunk behind it is done as well, and that one waits.
    assert cell["overshoot"] in (7 * 512, 8 * 512)
    assert found["digest"] == digest(
        hash_with(held, seconds=10.0), [held.partial(blocks=32).statistics]
    )
    assert aggregator.metric('montemq_runs{state="finished"}') == 1


def hash_with(job: Job, **stop: Any) -> bytes:
    """Return the hash of a job's definition with a stopping rule that its file has not."""
    fields = job.definition.model_dump()
    return Definition.model_validate(fields | {"stop": fields["stop"] | stop}).hash


@pytest.mark.usefixtures("aggregator")
def test_a_payoff_that_is_never_hit_reaches_its_limit_and_says_so(site: Site) -> None:
    options = ("--set", "strike=100000", "--standard-error", "0.01", "--samples", "200000")
    run = site.command("run", "european", *options, "--seed", "1", "--id", "never")
    assert run.code == 0
    assert "1 of 1 cells reached 200,000 samples before their target" in run.out
    [cell] = site.command("results", "never", "--json").json["cells"]
    price = cell["outputs"]["price"]
    assert (cell["ended_by"], price["error_reliable"]) == ("samples", False)
    assert cell["samples"] >= 200_000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--standard-error", "-1"), "montemq: --standard-error = -1.0 is not allowed: "),
        (("--relative-error", "2"), "montemq: --relative-error = 2.0 is not allowed: "),
        (("--seconds", "0"), "montemq: --seconds = 0.0 is not allowed: "),
    ],
)
def test_a_wrong_rule_exits_2_before_anything_is_declared(
    site: Site, options: tuple[str, ...], sentence: str
) -> None:
    run = site.command("run", "asian", *options)
    assert run.code == 2
    assert run.err.startswith(sentence)
