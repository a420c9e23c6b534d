"""The aggregator's page in a real browser, on a real stack."""

import asyncio
import csv
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from protocol import topology
from protocol.amqp_aio import Link
from protocol.definition import Definition, Stop
from protocol.result_texts import with_error
from protocol.rpc_messages import Missing
from protocol.settings import Broker
from tests.support.browser import Watched, chromium, watched
from tests.support.run_values import (
    BLOCK_SIZE,
    RUN,
    declare,
    definition,
    failure,
    partial,
    telemetry,
)
from tests.support.stack_jobs import gate, pi
from tests.support.stack_processes import eventually
from tests.support.stack_site import Site

GONE = "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"
"""What a browser itself says while an aggregator is down."""

HOSTILE = "=cmd|'<img src=x onerror=\"document.title='taken'\"></script>'!A1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def seen(browser: Browser) -> Iterator[Watched]:
    with watched(browser) as opened:
        yield opened


def cell(page: Page, output: str) -> str:
    """Return the estimate of an output, as the page's table has it."""
    row = page.get_by_role("region", name="Estimates").get_by_role("row", name=output)
    return row.locator("td").nth(1).inner_text()


def test_the_page_of_a_run_goes_on_without_a_reload_over_a_restart_to_the_final_estimate(
    site: Site, seen: Watched
) -> None:
    aggregator = site.aggregator()
    site.consumer().ready()
    url, page = aggregator.ready()["http_url"], seen.page
    job = gate("stuck", site.folder, closed_from=8)
    run = site.run(job, "--chunk-blocks", "1")
    site.reached(job, 8 / 64)
    page.goto(f"{url}/runs/{job.run}")
    page.evaluate("window.notReloaded = true")
    expect(page.get_by_text("12.5%")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("live")
    expect(page.get_by_role("img", name="Estimate of mean")).to_be_visible()
    early = cell(page, "mean")

    aggregator.kill()
    expect(page.get_by_role("status")).to_have_text("not connected: trying again")
    again = site.aggregator("--http", url.removeprefix("http://"))
    again.ready()
    expect(page.get_by_role("status")).to_have_text("live")
    job.open()
    expect(page.get_by_text("finished", exact=True)).to_be_visible()
    expect(page.get_by_text("100.0%")).to_be_visible()

    result = run.wait().json
    final = result["cells"][0]["outputs"]["mean"]
    text = with_error(final["mean"], final["standard_error"])
    assert text in site.command("results", job.run).out
    assert cell(page, "mean") == text != early
    expect(page.get_by_text(f"digest {result['digest']}")).to_be_visible()
    expect(page.get_by_role("img", name=f"mean is {text} after 32,768 samples")).to_be_visible()
    assert page.evaluate("window.notReloaded") is True
    seen.assert_well_behaved(url, *GONE)


def test_runs_are_searched_and_opened_with_the_keyboard_alone(site: Site, browser: Browser) -> None:
    aggregator = site.aggregator()
    site.consumer(2).ready()
    url = aggregator.ready()["http_url"]
    for name in ("nightly-1", "nightly-2", "other"):
        assert site.run(pi(name, blocks=40)).wait().code == 0
    with watched(browser, "dark") as seen:
        page = seen.page
        page.goto(url)
        expect(page.get_by_text("3 runs")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        for name in ("montemq", "Runs", "Fleet"):
            page.keyboard.press("Tab")
            expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.type("NIGHTLY-2")
        expect(page.get_by_text("1 run", exact=True)).to_be_visible()
        for _ in range(3):  # the state, the table, the first run in it
            page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="nightly-2")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("nightly-2")
        expect(page.get_by_role("img", name="Estimate of pi")).to_be_visible()
        reached = set()
        for _ in range(14):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.textContent.slice(0, 30)"))
        assert {"output", "estimate", "samples", "Result as JSON", "Estimates as CSV",
                "Report as HTML"} <= reached  # fmt: skip
        page.get_by_role("button", name="estimate").press("Enter")
        heading = page.get_by_role("columnheader", name="estimate")
        expect(heading).to_have_attribute("aria-sort", "ascending")
        page.go_back()
        expect(page.get_by_text("1 run", exact=True)).to_be_visible()
        page.get_by_role("link", name="Fleet").press("Enter")
        expect(page.get_by_text("1 live consumer with 2 slots")).to_be_visible()
        seen.assert_well_behaved(url)


async def run_of_many_cells(broker: Broker) -> None:
    """Declare a run of 2,500 cells and give the last one an estimate."""
    of = definition(blocks=64, cells=2500)
    told = partial(of, 0, 32, cell=2499)
    async with await Link.open(broker, "test") as link:
        assert isinstance(await link.call(declare(of), Missing, 20.0), Missing)
        await link.publish(topology.RESULTS, topology.partial_key(broker.user), told)


def test_the_plots_of_every_cell_of_very_many_can_be_found(site: Site, seen: Watched) -> None:
    url, page = site.aggregator().ready()["http_url"], seen.page
    with ThreadPoolExecutor(1) as aside:
        aside.submit(lambda: asyncio.run(run_of_many_cells(site.broker))).result()
    eventually(lambda: site.samples(RUN) == 32 * BLOCK_SIZE, "the last cell has an estimate")
    estimate = site.command("results", RUN, "--json").json["cells"][2499]["outputs"]["x"]
    text = with_error(estimate["mean"], estimate["standard_error"])
    page.goto(f"{url}/runs/{RUN}")
    plot = page.get_by_role("img", name="Estimate of x")
    expect(page.get_by_text("the first 200 of 2,500 are listed")).to_be_visible()
    expect(page.get_by_text("Nothing of it is merged.")).to_be_visible()
    expect(plot).to_be_hidden()
    search = page.get_by_role("searchbox", name="Find a cell")
    held: list[Route] = []
    with page.expect_request("**/view"):
        page.route("**/view", lambda route: held.append(route))  # noqa: PLW0108 - not a builtin
    search.fill("CELL 2499")  # whose plots wait for nothing else
    expect(plot).to_have_accessible_name(re.compile(f"x is {text} after 32,768 samples"))
    expect(page.get_by_role("combobox", name="Cell")).to_have_value("2499")
    expect(page.locator("path.yerror")).to_have_count(1)  # of one point there is no band
    held.pop().continue_()
    page.unroute("**/view")
    search.fill("24")
    expect(page.get_by_text("154 found")).to_be_visible()
    expect(page.get_by_role("combobox", name="Cell")).to_have_value("24")
    search.fill("nothing")
    expect(page.get_by_text("none has this in its name")).to_be_visible()
    search.fill("2345")
    expect(page.get_by_role("combobox", name="Cell")).to_have_value("2345")
    search.fill("")
    expect(page.get_by_text("the first 200 of 2,500 are listed")).to_be_visible()
    expect(page.get_by_role("combobox", name="Cell")).to_have_value("2345")
    waits = page.get_by_text("no consumer is live in this run's pool")
    expect(waits).to_be_visible()
    page.get_by_role("link", name="Runs").click()
    expect(waits).to_be_visible()
    site.consumer().ready()
    expect(waits).to_be_hidden()
    page.go_back()
    expect(plot).to_be_hidden()
    expect(waits).to_be_hidden()
    seen.assert_well_behaved(url)


def test_what_the_server_could_not_tell_is_asked_for_again(site: Site, seen: Watched) -> None:
    aggregator = site.aggregator()
    site.consumer().ready()
    url, page = aggregator.ready()["http_url"], seen.page
    assert site.run(pi("done", blocks=40)).wait().code == 0
    refusals = iter(["the store cannot be read"] * 2)

    def answer(route: Route) -> None:
        reason = next(refusals, None)
        route.fulfill(status=503, body=reason) if reason else route.continue_()

    page.route("**/view", answer)
    page.goto(f"{url}/runs/done")  # which has ended: nothing new will be told of it
    expect(page.get_by_role("status").first).to_have_text("the store cannot be read")
    expect(page.get_by_role("img", name="Estimate of pi")).to_be_visible()
    expect(page.get_by_role("status").first).to_have_text("live")
    assert next(refusals, None) is None
    seen.assert_well_behaved(url, "503 (Service Unavailable)")


def test_a_run_that_there_cannot_be_is_said_not_to_be(site: Site, seen: Watched) -> None:
    url = site.aggregator().ready()["http_url"]
    seen.page.goto(f"{url}/runs/%E0%A4%A")
    expect(seen.page.get_by_role("alert")).to_have_text("no such run")
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("%E0%A4%A")
    seen.assert_well_behaved(url, "404 (Not Found)")


def test_what_made_a_run_fail_stands_on_its_page_once(site: Site, seen: Watched) -> None:
    aggregator = site.aggregator()
    site.consumer().ready()
    url, page = aggregator.ready()["http_url"], seen.page
    assert site.command("run", "failing", "--id", "fails", "--samples", "1024").code == 5
    page.goto(f"{url}/runs/fails")
    expect(page.get_by_text("failed", exact=True)).to_be_visible()
    error = site.command("results", "fails", "--json").json["error"]
    expect(page.get_by_text(error)).to_have_count(1)
    seen.assert_well_behaved(url)


async def hostile_run(broker: Broker) -> Definition:
    """Declare a run whose parameters and failure are markup and a formula, and a lost consumer."""
    of = Definition(
        model="nobodys",
        model_version=1,
        outputs=("x",),
        cells=({"name": HOSTILE}, {"name": "plain"}),
        seed=1,
        block_size=1024,
        stop=Stop(samples=1024),
    )
    async with await Link.open(broker, "test") as link:
        assert isinstance(await link.call(declare(of, "Hostile"), Missing, 20.0), Missing)
        failed = failure(of, 0, 1, run="Hostile", text=HOSTILE)
        await link.publish(topology.RESULTS, topology.failure_key(broker.user), failed)
        word = telemetry("host-a.1", slots=0)
        await link.publish(topology.TELEMETRY, broker.user, word)
    return of


def test_what_users_and_messages_name_is_text_wherever_it_is_shown(
    site: Site, seen: Watched, tmp_path: Path
) -> None:
    url, page = site.aggregator().ready()["http_url"], seen.page
    with ThreadPoolExecutor(1) as aside:  # the browser's driver has a loop in this thread
        aside.submit(lambda: asyncio.run(hostile_run(site.broker))).result()
    eventually(lambda: site.rows("SELECT 1 FROM failures"), "the failure is kept")

    page.goto(f"{url}/runs/Hostile")
    expect(page.get_by_role("region", name="Failures").get_by_text(HOSTILE)).to_be_visible()
    expect(page.get_by_role("region", name="Estimates").get_by_text(HOSTILE)).to_be_visible()
    assert HOSTILE in page.get_by_role("option", name="cell 0").inner_text()
    with page.expect_download() as csv_file:
        page.get_by_role("link", name="Estimates as CSV").click()
    with page.expect_download() as report_file:
        page.get_by_role("link", name="Report as HTML").click()
    assert (page.locator("img").count(), page.title()) == (0, "Hostile · montemq")
    seen.assert_well_behaved(url)

    text = Path(csv_file.value.path()).read_text(encoding="utf-8")
    assert next(csv.DictReader(io.StringIO(text)))["param_name"] == f"'{HOSTILE}"

    said = site.command("report", "Hostile", "-o", str(tmp_path / "said.html"))
    assert (said.code, said.out) == (0, "")
    made = r"made [^<]* by|\d+\.\d s, |<dd>\d\d:\d\d</dd>"
    told, loaded = (
        re.sub(made, "", Path(path).read_text(encoding="utf-8"))
        for path in (tmp_path / "said.html", report_file.value.path())
    )
    assert told == loaded

    page.goto(f"{url}/runs/{'%3Cimg src=x onerror=alert(1)%3E'}")
    expect(page.get_by_role("heading", level=1)).to_have_text("<img src=x onerror=alert(1)>")
    expect(page.get_by_role("alert")).to_have_text("no such run")
    page.goto(f"{url}/fleet")
    expect(page.get_by_role("row", name="host-a.1").get_by_text("lost")).to_be_visible()
    page.goto(f"{url}/runbook#noconsumers")
    section = page.get_by_role("heading", name="NoConsumers")
    expect(section).to_be_in_viewport()
    expect(section).to_have_css("border-left-style", "solid")  # it has the page's rules
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    seen.assert_well_behaved(url, "404 (Not Found)")


def test_a_report_shows_its_plots_offline(site: Site, seen: Watched, tmp_path: Path) -> None:
    site.aggregator().ready()
    site.consumer().ready()
    assert site.run(pi("done", blocks=200)).wait().code == 0
    file = tmp_path / "report.html"
    file.write_text("an older one", encoding="utf-8")
    assert site.command("report", "done", "-o", str(file)).code == 0
    page = seen.page
    page.context.set_offline(True)
    page.goto(file.as_uri())
    expect(page.get_by_role("img", name="Estimate of pi")).to_be_visible()
    expect(page.get_by_role("img", name="Relative error of pi")).to_be_visible()
    assert page.locator("svg.main-svg").count() >= 2
    assert page.locator("figure:visible").count() == 2
    shown = site.command("results", "done").out
    estimate = page.get_by_role("row", name="pi").locator("td").nth(1).inner_text()
    assert estimate in shown
    seen.assert_well_behaved("file://")


def test_a_report_that_cannot_be_written_is_said_in_a_sentence_and_loses_nothing(
    site: Site,
) -> None:
    site.aggregator().ready()
    missing = site.command("report", "nobody")
    assert (missing.code, missing.out) == (2, "")
    assert "run 'nobody' is not known" in missing.err
    assert not list(site.folder.glob("*.html"))
