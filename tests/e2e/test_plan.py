"""`montemq plan` on a real stack: a small pilot, a plan with its terms, nothing else declared."""

import pytest

from tests.support.stack_processes import Ended
from tests.support.stack_site import Site


@pytest.fixture
def stack(site: Site) -> Site:
    """Return a site with an aggregator and a consumer of two slots."""
    aggregator, consumer = site.aggregator(), site.consumer(2)
    aggregator.ready()
    consumer.ready()
    return site


def runs(site: Site) -> list[str]:
    return [run["run"] for run in site.command("status", "--json").json["runs"]]


def test_a_plan_says_what_a_run_then_takes(stack: Site) -> None:
    words = ("european", "--standard-error", "0.01", "--seed", "1")
    planned = stack.command("plan", *words, "--json")
    assert planned.code == 0, planned.err
    plan = planned.json["plan"]
    assert planned.json["runs"] == sorted(runs(stack))
    assert all(run.startswith("european-plan-") for run in runs(stack))
    taken = stack.command("run", *words, "--json").json
    assert plan["samples"]["low"] <= taken["samples"] <= plan["samples"]["high"]
    assert plan["live"]["slots"] == 2
    assert [row["slots"] for row in plan["slots"]] == [2**power for power in range(9)]
    assert plan["latency"] > 0
    serial = plan["latency"] + plan["chunks"] * plan["seconds_per_chunk"]
    assert plan["serial_seconds"] == pytest.approx(serial)
    one = plan["slots"][0]["seconds"]["expected"]
    assert plan["stretch"] >= 1
    assert one == pytest.approx(serial + plan["stretch"] * plan["core_seconds"]["expected"])


def test_a_plan_for_people_has_the_formula_with_its_terms_and_a_verdict(stack: Site) -> None:
    ended = stack.command("plan", "pi", "--samples", "100000", "--seed", "1")
    assert ended.code == 0, ended.err
    assert (
        "seconds(n) = latency + chunks(n) * seconds_per_chunk + stretch * core_seconds / n"
        in ended.out
    )
    assert "samples       131,072, at the checkpoints of the definition" in ended.out
    assert "live now: 2 slots take " in ended.out
    assert ended.out.rstrip().endswith("do not distribute")


def test_a_plan_of_cells_adds_them_up(stack: Site) -> None:
    file = stack.folder / "sweep.toml"
    file.write_text(
        '[run]\nmodel = "european"\n[sweep]\nstrike = [90.0, 100.0, 110.0]\n'
        "[sampling]\ncommon_random_numbers = true\n"
        '[stop]\nrelative_error = 0.01\nsamples = 16384\noutputs = ["price", "delta"]\n',
        encoding="utf-8",
    )
    planned = stack.command("plan", str(file), "--json").json
    cells = planned["plan"]["cells"]
    assert (len(cells), planned["cells"]) == (3, 3)
    total = sum(cell["samples"]["expected"] for cell in cells)
    assert planned["plan"]["samples"]["expected"] == total == 3 * 16_384


def sentence(ended: Ended) -> str:
    assert ended.out == ""
    return ended.err.splitlines()[-1]


def test_a_plan_without_consumers_gives_up_and_leaves_nothing_to_compute(site: Site) -> None:
    site.aggregator().ready()
    ended = site.command("plan", "pi", "--timeout", "2")
    assert ended.code == 4
    assert "no consumer is live in this run's pool, or one is still loading" in ended.err
    assert "the pilot was not done after 2 s: no consumer is live in" in sentence(ended)
    (run,) = site.command("status", "--json").json["runs"]
    assert run["state"] == "cancelled"


def test_a_plan_of_a_failing_model_says_why(stack: Site) -> None:
    ended = stack.command("plan", "failing")
    assert ended.code == 5
    assert "ValueError: the market is closed" in sentence(ended)


def test_a_campaign_has_no_plan(site: Site) -> None:
    file = site.folder / "chain.toml"
    file.write_text('[runs.a]\nrun = { model = "pi" }\n', encoding="utf-8")
    ended = site.command("plan", str(file))
    assert ended.code == 2
    assert sentence(ended).endswith("is a campaign; a plan is of one run")
