"""Campaigns on a real stack: chained, killed and gone on with, failed, cancelled, interrupted."""

import json
import signal
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from producer.campaign_file import read_campaign
from producer.runfile import Submission
from protocol.results import Result
from tests.support.stack_jobs import SIGMAS, Job
from tests.support.stack_processes import ROOT, Ended, Service, eventually
from tests.support.stack_site import Site

EXAMPLE = ROOT / "ops" / "examples" / "campaign.toml"


@pytest.fixture
def aggregator(site: Site) -> Service:
    """Return the aggregator of a site with one consumer of two slots."""
    started, consumer = site.aggregator(), site.consumer(2)
    started.ready()
    consumer.ready()
    return started


def campaign(site: Site, text: str) -> str:
    path = site.folder / "chain.toml"
    path.write_text(f'[campaign]\nid = "desk"\n{text}', encoding="utf-8")
    return str(path)


def states(ended: Ended) -> dict[str, str]:
    return {name: run["state"] for name, run in ended.json["runs"].items()}


def sentence(ended: Ended) -> str:
    line = [line for line in ended.err.splitlines() if line][-1]
    assert line.startswith("montemq: ")
    return line


def merged(aggregator: Service) -> float:
    return aggregator.metric('montemq_results_total{outcome="merged"}')


PILOT = '[runs.pilot]\nrun = { model = "pi" }\nstop = { samples = 65_536 }\n'


def gated(site: Site) -> str:
    """Return a chain whose second run waits until a file `open` stands in the folder."""
    return f"""{PILOT}
[runs.gate]
after = ["pilot"]
run = {{ model = "gate" }}
params = {{ folder = "{site.folder}", closed_from = 8 }}
stop = {{ samples = 32_768 }}
[runs.main]
run = {{ model = "european" }}
params = {{ strike = "{{pilot.outputs.pi.mean}}", volatility = "{{gate.outputs.mean.mean}}" }}
stop = {{ samples = 65_536 }}
"""


def waits_at_the_gate(site: Site) -> bool:
    return any(file.stat().st_size for file in site.folder.glob("waiting-*"))


@dataclass(frozen=True)
class Chained(Job):
    """A run of a campaign, as it is once the results that it refers to are known."""

    found: Submission

    @cached_property
    def submission(self) -> Submission:
        return self.found


def assert_answers(file: str, ended: Ended) -> None:
    """Check every run against the answer it must have, computed here from the runs before it."""
    assert ended.code == 0, ended.err
    assert ended.json["state"] == "finished"
    read = read_campaign(Path(file))
    results = {
        name: Result.model_validate_json(json.dumps(run["result"]))
        for name, run in ended.json["runs"].items()
    }
    for name, result in results.items():
        job = Chained(read.run_id(name), "", read.submission(name, results))
        assert (result.run, result.digest) == (job.run, job.digest)


@pytest.mark.usefixtures("aggregator")
def test_the_example_chains_prices_and_the_same_command_joins_its_results(site: Site) -> None:
    first = site.command("run", str(EXAMPLE), "--json")
    assert_answers(str(EXAMPLE), first)
    results = {name: run["result"] for name, run in first.json["runs"].items()}
    forward = results["forward"]["cells"][0]["outputs"]["price"]
    call, put = results["at_the_forward"]["cells"]
    # The parameter is the estimate to the last bit.
    assert call["params"]["strike"] == put["params"]["strike"] == forward["mean"]
    assert results["money_back"]["cells"][0]["params"]["rebate"] == call["outputs"]["price"]["mean"]
    # The same paths: what the call and the put differ by is the error of the forward and their own.
    errors = [one["outputs"]["price"]["standard_error"] for one in (call, put)]
    gap = call["outputs"]["price"]["mean"] - put["outputs"]["price"]["mean"]
    assert abs(gap) < SIGMAS * (sum(errors) + forward["standard_error"])
    again = site.command("run", str(EXAMPLE), "--json")
    assert again.json == first.json
    assert "price" in site.command("run", str(EXAMPLE)).out


def test_a_killed_campaign_goes_on_by_the_same_command_and_computes_nothing_twice(
    site: Site, aggregator: Service
) -> None:
    file = campaign(site, gated(site))
    command = ("run", file, "--json", "--chunk-blocks", "1")
    first = site.start(*command)
    eventually(lambda: waits_at_the_gate(site), "the second run waits")
    first.kill()
    done = merged(aggregator)
    (site.folder / "open").touch()
    ended = site.command(*command)
    assert_answers(file, ended)
    blocks = sum(
        result["samples"] // result["block_size"]
        for result in (run["result"] for run in ended.json["runs"].values())
    )
    assert (done > 0, merged(aggregator)) == (True, blocks)
    assert site.command(*command).json == ended.json
    assert merged(aggregator) == blocks


FAILING = f"""{PILOT}
[runs.wrong]
run = {{ model = "failing" }}
stop = {{ samples = 1024 }}
[runs.next]
after = ["wrong", "pilot"]
run = {{ model = "pi" }}
[runs.last]
after = ["next"]
run = {{ model = "pi" }}
[runs.other]
after = ["pilot"]
run = {{ model = "pi" }}
stop = {{ samples = 65_536 }}
"""


@pytest.mark.usefixtures("aggregator")
def test_a_failed_run_fails_those_that_wait_for_it_and_no_others(site: Site) -> None:
    ended = site.command("run", campaign(site, FAILING), "--json")
    assert ended.code == 5
    assert states(ended) == {
        "pilot": "finished", "wrong": "failed", "next": "not_started", "last": "not_started",
        "other": "finished",
    }  # fmt: skip
    assert "campaign 'desk' failed: run 'desk-wrong' failed: cell 0" in sentence(ended)
    assert "run 'desk-next' was not started: 'wrong' failed" in sentence(ended)
    assert "run 'desk-last' was not started: 'next' not started" in sentence(ended)
    known = {run["run"] for run in site.command("status", "--json").json["runs"]}
    assert known == {"desk-pilot", "desk-wrong", "desk-other"}


@pytest.mark.usefixtures("aggregator")
def test_a_number_that_the_model_does_not_take_fails_its_run_undeclared(site: Site) -> None:
    text = f"""{PILOT}
[runs.main]
run = {{ model = "european" }}
params = {{ rate = "{{pilot.outputs.pi.mean}}" }}
"""
    ended = site.command("run", campaign(site, text), "--json")
    assert ended.code == 5
    assert "run 'desk-main' was not declared: params.rate = 3.1" in sentence(ended)
    known = {run["run"] for run in site.command("status", "--json").json["runs"]}
    assert known == {"desk-pilot"}


@pytest.mark.usefixtures("aggregator")
def test_a_changed_file_exits_6_and_names_the_run(site: Site) -> None:
    assert site.command("run", campaign(site, PILOT)).code == 0
    changed = site.command("run", campaign(site, PILOT.replace("65_536", "131_072")), "--json")
    assert changed.code == 6
    assert "run 'pilot' has changed: run id 'desk-pilot' names another def" in sentence(changed)
    assert changed.out == ""


@pytest.mark.usefixtures("aggregator")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_campaign_says_how_to_go_on(site: Site, number: signal.Signals) -> None:
    file = campaign(site, gated(site))
    run = site.start("run", file, "--json")
    eventually(lambda: waits_at_the_gate(site), "the second run waits")
    run.send(number)
    stopped = run.wait()
    assert stopped.code == 130
    assert sentence(stopped).endswith(
        "campaign 'desk' keep what is merged: go on with the same command, which alone starts "
        "those that wait for others, or end each with `montemq cancel desk-NAME`; those under way "
        "go on by themselves where `montemq producer` is running"
    )
    assert "main: waiting for gate" in stopped.err
    assert stopped.out == ""
    (site.folder / "open").touch()
    assert_answers(file, site.command("run", file, "--json"))


@pytest.mark.usefixtures("aggregator")
def test_a_cancelled_run_cancels_what_waits_for_it_and_exits_7(site: Site) -> None:
    run = site.start("run", campaign(site, gated(site)), "--json")
    eventually(lambda: waits_at_the_gate(site), "the second run waits")
    assert site.command("cancel", "desk-gate").code == 0
    ended = run.wait()
    assert ended.code == 7
    assert states(ended) == {"pilot": "finished", "gate": "cancelled", "main": "not_started"}
    assert "run 'desk-main' was not started: 'gate' was cancelled" in sentence(ended)


@pytest.mark.usefixtures("aggregator")
def test_a_campaign_that_takes_too_long_exits_4_and_goes_on_later(site: Site) -> None:
    file = campaign(site, gated(site))
    late = site.command("run", file, "--timeout", "3")
    assert late.code == 4
    assert "campaign 'desk' is not finished after 3 s" in sentence(late)
    (site.folder / "open").touch()
    assert_answers(file, site.command("run", file, "--json"))


def test_a_campaign_that_no_aggregator_answers_in_time_says_so_and_exits_3(site: Site) -> None:
    alone = site.command("run", campaign(site, PILOT), "--timeout", "2")
    assert alone.code == 3
    assert f"no aggregator answered at {site.broker} within 2 s" in sentence(alone)
    assert "not finished" not in alone.err


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        (PILOT, ("--samples", "9"), "--samples is for one run, and "),
        (PILOT, ("--set", "a=1"), "--set is for one run, and "),
        (PILOT, ("--cancel-on-interrupt",), "is a campaign: Ctrl-C only stops following it, and "),
        (PILOT, ("--max-age", "6h"), "--max-age is for one run, and "),
        (PILOT, ("--id", "a.b"), "campaign.id = 'a.b' is not allowed"),
        (PILOT + 'after = ["pilot"]\n', (), "runs.pilot waits for itself"),
        ("[runs.a]\nx = 1\n", (), "runs.a.x is unknown; allowed are file, after, "),
    ],
)
def test_a_campaign_that_cannot_be_is_refused_without_a_broker(
    site: Site, text: str, words: tuple[str, ...], expected: str
) -> None:
    refused = site.command("run", campaign(site, text), *words)
    assert (refused.code, refused.out) == (2, "")
    assert expected in sentence(refused)
    assert refused.err.count("\n") == 1
