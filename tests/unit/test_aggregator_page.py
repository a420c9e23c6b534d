"""What the page and programs read over HTTP, with a ledger and a store behind it and no broker."""

import csv
import io
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from aggregator.watch import MAX_WATCHERS
from aggregator.web import static_files
from aggregator.web.results import MAX_KEPT, Results
from aggregator.web.views import plot_data
from protocol.audit_odds import odds_text
from protocol.definition import Definition, Method
from protocol.messages import RunState, Suspension
from protocol.result_texts import with_error
from protocol.results import Result
from protocol.rpc_messages import History, HistoryPoint
from tests.support.run_values import RUN, declare, definition, failure, partial, telemetry
from tests.support.served_ledger import NOW, Served, serving

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


def finished(site: Served, of: Definition, run: str = RUN) -> None:
    """Let a run of 32 blocks finish, with a point on the way."""
    site.ledger.declare(declare(of, run), NOW)
    site.ledger.partial(partial(of, 0, 16, run=run), NOW)
    site.ledger.record(NOW + 1)
    site.commit()
    site.ledger.partial(partial(of, 16, 32, run=run), NOW + 2)
    site.commit()


# The list of runs


async def test_runs_are_found_by_id_model_and_state_page_by_page(site: Served) -> None:
    for number in range(25):
        site.ledger.declare(declare(definition(), f"Nightly-{number:02}"), NOW + number)
    site.ledger.declare(declare(definition(), "other"), NOW)
    site.ledger.cancel("Nightly-07", NOW)

    async def found(query: str) -> tuple[list[str], int, int]:
        status, answer = await site.json(f"/api/runs?{query}")
        assert status == 200
        return [run["run"] for run in answer["runs"]], answer["total"], answer["pages"]

    assert await found("search=nightly&limit=10&page=3") == (
        [f"Nightly-{number:02}" for number in (4, 3, 2, 1, 0)], 25, 3,
    )  # fmt: skip
    assert (await found("search=DEMO"))[1] == 26
    assert await found("state=cancelled") == (["Nightly-07"], 1, 1)
    assert await found("search=nowhere") == ([], 0, 1)
    assert await found("page=9") == ([], 26, 1)


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=x", "page=1e9", "limit=0", "limit=1001", "limit=-1", "page=%D9%A3",
     "state=gone", f"search={'a' * 101}"],
)  # fmt: skip
async def test_a_query_that_says_what_is_not_allowed_is_400_in_one_sentence(
    site: Served, query: str
) -> None:
    status, text = await site.get(f"/api/runs?{query}")
    assert status == 400
    assert text.startswith(query.partition("=")[0])
    assert "allowed" in text


async def test_a_line_of_the_list_has_estimate_rate_and_time_left(site: Served) -> None:
    of = definition()
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    watch = site.session.watch
    for later, samples in ((0, 0), (1, 1024)):
        [status], _ = site.ledger.newest(NOW)
        watch.look([status.model_copy(update={"samples": samples})], NOW + later)
    [line] = (await site.json("/api/runs"))[1]["runs"]
    estimate = (await site.json(f"/api/runs/{RUN}"))[1]["cells"][0]["outputs"]["x"]
    said = with_error(estimate["mean"], estimate["standard_error"])
    assert line["estimate"] == f"x {said}"
    assert line["samples_per_second"] == 1024
    assert line["seconds_left"] == 76
    assert line["texts"]["left"] == "01:16"
    assert line["share"] == 32 / 108


async def test_rates_are_known_to_who_asks_once_while_nobody_watches(site: Served) -> None:
    of = definition()
    site.ledger.declare(declare(of), NOW)
    for second in range(2):
        site.ledger.partial(partial(of, 4 * second, 4 * second + 4), NOW)
        site.session.clock = lambda now=NOW + second: now
        site.session._apply(None)  # the tick of a second
    [line] = (await site.json("/api/runs"))[1]["runs"]
    assert line["samples_per_second"] == 4 * 1024


async def test_the_estimate_of_an_ended_run_is_in_the_list_also_after_a_restart(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as site:
        finished(site, definition(32))
        [before] = (await site.json("/api/runs"))[1]["runs"]
    async with serving(tmp_path) as site:
        [after] = (await site.json("/api/runs"))[1]["runs"]
    assert after["estimate"].startswith("x ")
    assert after == before


# One run


async def test_the_view_of_a_run_has_the_texts_of_the_command_line(site: Served) -> None:
    of = definition(32, cells=2, outputs=("x", "y"))
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    site.ledger.failure(failure(of, 3, 5, 1, text=HOSTILE), NOW)
    site.commit()
    status, view = await site.json(f"/api/runs/{RUN}/view")
    result = Result.model_validate_json((await site.get(f"/api/runs/{RUN}"))[1], strict=False)
    assert status == 200
    assert [column["name"] for column in view["columns"]][:3] == ["cell", "output", "estimate"]
    y = result.cells[0].outputs["y"]
    assert view["rows"][1]["texts"][:3] == ["0", "y", with_error(y.mean, y.standard_error)]
    assert view["outputs"] == ["x", "y"]
    assert view["cells"] == ["cell 0 · cell 0", "cell 1 · cell 1"]
    assert view["ended"] == "of 2 cells, 1 reached the limit of samples"
    [failed] = view["failures"]
    assert (failed["text"], failed["host"], failed["cell"]) == (HOSTILE, "host-a", 1)
    assert ["model", "demo, version 1"] in view["definition"]


async def test_results_are_not_kept_for_longer_than_they_are_told(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1000))
    monkeypatch.setattr("aggregator.web.results.time.monotonic", lambda: 100.0 * next(times))
    results = Results()
    for number in range(60):
        site.ledger.declare(declare(definition(), f"run-{number}"), NOW)
        assert await results.get(site.session, f"run-{number}") is not None
    assert len(results._kept) < 20 < MAX_KEPT


async def test_a_history_ends_with_where_the_run_is_now(site: Served) -> None:
    of = definition(32, stop={"relative_error": 0.5, "outputs": ("x",), "confidence": 0.9})
    finished(site, of)
    status, history = await site.json(f"/api/runs/{RUN}/history?cell=0&output=x")
    cell = (await site.json(f"/api/runs/{RUN}"))[1]["cells"][0]
    assert status == 200
    assert history["samples"] == [16 * 1024, 32 * 1024]
    assert history["seconds"] == [1.0, 2.0]
    assert history["mean"][-1] == cell["outputs"]["x"]["mean"]
    error = cell["outputs"]["x"]["standard_error"]
    assert history["standard_error"][-1] == error
    ends = cell["outputs"]["x"]["ci_low"], cell["outputs"]["x"]["ci_high"]
    assert (history["low"][-1], history["high"][-1]) == ends
    assert history["target"] == {"standard_error": None, "relative_error": 0.5}
    assert history["bars"] is None


async def test_the_band_of_a_few_sobol_blocks_is_as_wide_as_students_interval(site: Served) -> None:
    finished(site, definition(32))
    result = Result.model_validate_json((await site.get(f"/api/runs/{RUN}"))[1], strict=False)
    estimate = result.cells[0].outputs["x"]
    points = (HistoryPoint(samples=32 * 1024, at=NOW, estimates=((1.0, 0.5),)),)
    told = History(run=RUN, cell=0, created=NOW, outputs=("x",), points=points, bars=(None,))
    sobol = result.model_copy(update={"sampling": Method.SOBOL})
    assert estimate.confidence == 0.95
    assert plot_data(sobol, told, "x")["high"] == [pytest.approx(1.0 + 2.0395 * 0.5, rel=1e-4)]


@pytest.mark.parametrize("query", ["cell=1", "cell=-1", "cell=x", "output=y", "output=__class__"])
async def test_a_history_of_what_the_run_does_not_have_is_400(site: Served, query: str) -> None:
    finished(site, definition(32))
    status, text = await site.get(f"/api/runs/{RUN}/history?{query}")
    assert (status, "not allowed" in text) == (400, True)


@pytest.mark.parametrize("page", ["view", "history", "result.csv", "report.html"])
async def test_every_page_of_an_unknown_run_is_404_and_of_a_standby_503(
    site: Served, page: str
) -> None:
    assert await site.get(f"/api/runs/nobody/{page}") == (404, "no such run")
    site.aggregator.session = None
    assert await site.get(f"/api/runs/nobody/{page}") == (503, "this aggregator stands by")


# Downloads


async def test_the_csv_has_all_numbers_in_full(site: Served) -> None:
    of = definition(32, cells=2, outputs=("x", "y"))
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    site.commit()
    found = (await site.json(f"/api/runs/{RUN}"))[1]
    rows = list(csv.DictReader(io.StringIO((await site.get(f"/api/runs/{RUN}/result.csv"))[1])))
    assert [(row["cell"], row["output"]) for row in rows] == [
        ("0", "x"), ("0", "y"), ("1", "x"), ("1", "y"),
    ]  # fmt: skip
    assert float(rows[1]["mean"]) == found["cells"][0]["outputs"]["y"]["mean"]
    assert (rows[0]["ended_by"], rows[2]["ended_by"], rows[2]["mean"]) == ("samples", "", "")
    assert rows[0]["param_cell"] == "0"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
async def test_no_text_of_a_csv_is_a_formula(site: Served, text: str) -> None:
    of = definition(32).model_copy(update={"cells": ({"name": text, "number": -1.5},)})
    finished(site, of)
    [row] = csv.DictReader(
        io.StringIO((await site.get(f"/api/runs/{RUN}/result.csv"))[1], newline="")
    )
    assert row["param_name"] == f"'{text}"
    assert row["param_number"] == "-1.5"


class Markup(HTMLParser):
    """The elements of a page, and the text outside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts += data


async def test_the_report_needs_nothing_else_and_takes_nothing_for_markup(site: Served) -> None:
    hostile = f"</script>{HOSTILE}"
    of = definition(32).model_copy(update={"cells": ({"name": hostile}, {"name": "b"})})
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    site.ledger.failure(failure(of, 3, 5, 1, text=hostile), NOW)
    site.commit()
    status, report = await site.get(f"/api/runs/{RUN}/report.html")
    page = Markup(report)
    assert status == 200
    tags = [tag for tag, _ in page.found]
    assert "img" not in tags
    assert "link" not in tags
    assert tags.count("script") == 3
    assert not [a for _, a in page.found if {"src", "href", "onerror", "style"} & set(a)]
    assert page.texts.count(HOSTILE) == 3  # in the table, above its plots, among failures
    policy = next(a["content"] for tag, a in page.found if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


async def test_downloads_are_named_after_the_run(site: Served) -> None:
    finished(site, definition(32))
    for page, kind in (("result.csv", "text/csv"), ("report.html", "text/html")):
        async with site.client.get(f"{site.url}/api/runs/{RUN}/{page}") as answer:
            assert answer.content_type == kind
            name = f"{RUN}.{page.partition('.')[2]}"
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'


# The fleet


async def test_the_fleet_shows_who_is_there_who_rests_and_who_is_gone(site: Served) -> None:
    hosts = site.session.hosts
    hosts.hear(telemetry("well.1", slots=3, busy=2), NOW)
    hosts.hear(telemetry("lost.1"), NOW - 100)
    hosts.hear(telemetry("rests.1", suspended=Suspension.FAILURES), NOW)
    hosts.hear(telemetry("loads.1", slots=0), NOW)
    status, fleet = await site.json("/api/fleet")
    assert status == 200
    assert [(one["consumer"], one["state"]) for one in fleet["consumers"]] == [
        ("loads.1", "loading"), ("lost.1", "lost"), ("rests.1", "suspended"),
        ("well.1", "running"),
    ]  # fmt: skip
    by_name = {one["consumer"]: one for one in fleet["consumers"]}
    assert by_name["lost.1"]["silent_seconds"] == 100
    assert "failures in a row" in by_name["rests.1"]["reason"]
    assert (by_name["well.1"]["reason"], by_name["well.1"]["busy"]) == ("", 2)


async def test_the_fleet_shows_who_is_refused_and_how_likely_a_wrong_host_is_caught(
    site: Served,
) -> None:
    standings = site.session.ledger.standings
    assert (await site.json("/api/fleet"))[1]["refused_hosts"] == []
    standings.share = 0.01
    for host in ("b", "a"):
        standings.refuse(host, NOW)
    _, fleet = await site.json("/api/fleet")
    assert fleet["refused_hosts"] == ["a", "b"]
    assert fleet["audits"] == odds_text(0.01)


async def test_each_reason_to_be_suspended_is_told_in_words_of_its_own(site: Served) -> None:
    for reason in Suspension:
        site.session.hosts.hear(telemetry(f"rests.{reason}", suspended=reason), NOW)
    consumers = (await site.json("/api/fleet"))[1]["consumers"]
    told = {one["consumer"]: one["reason"] for one in consumers}
    assert told["rests.battery"] == "the machine runs on battery"
    assert len({*told.values()} - {""}) == len(Suspension)


# Events


async def events(site: Served, path: str) -> AsyncIterator[str]:
    async with site.client.get(f"{site.url}{path}") as answer:
        assert answer.content_type == "text/event-stream"
        async for line in answer.content:
            if line.startswith(b"data:"):
                yield line.decode()


async def test_who_watches_a_run_is_told_of_it_and_of_no_other(site: Served) -> None:
    watch = site.aggregator.watch
    heard = events(site, f"/api/runs/{RUN}/events")
    assert '"active": true' in await anext(heard)
    [watcher] = watch._watchers
    watch.tell_of_runs(["other"])
    assert not watcher._mark.is_set()
    watch.tell_of_runs([RUN])
    assert '"active": true' in await anext(heard)
    site.aggregator.session, site.aggregator.standby_for = None, "lock"
    watch.tell_all()
    assert '"active": false, "waiting_for": "lock"' in await anext(heard)
    watch.tell_all(end=True)
    assert [line async for line in heard] == []
    assert not watch._watchers


async def test_only_so_many_may_watch_and_however_much_happens_each_keeps_one_mark(
    site: Served,
) -> None:
    watch = site.aggregator.watch
    open_ones = [events(site, "/api/events") for _ in range(3)]
    for one in open_ones:
        await anext(one)
    for _ in range(10_000):
        watch.tell_of_runs([RUN])
    watchers = [watch.watching("runs") for _ in range(MAX_WATCHERS - 3)]
    for watcher in watchers:
        watcher.__enter__()
    status, text = await site.get("/api/events")
    assert (status, text.startswith("too many pages watch")) == (503, True)
    watch.tell_all(end=True)
    for one in open_ones:
        assert len([line async for line in one]) <= 1
    for watcher in watchers:
        watcher.__exit__(None, None, None)


# What all answers have in common


PATHS = (
    "/", "/runs/x", "/fleet", "/static/main.js", "/static/plotly.min.js", "/healthz", "/metrics",
    "/api/runs", "/api/runs/x", "/api/fleet", "/nowhere", "/static/..%2fapp.py",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_has_strict_headers(site: Served, path: str) -> None:
    async with site.client.head(f"{site.url}{path}") as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


async def test_what_is_not_there_is_said_in_a_sentence(site: Served) -> None:
    for path in ("/nowhere", "/static/nothing.js", "/static/..%2f..%2fapp.py"):
        assert await site.get(path) == (404, "there is no such page")
    async with site.client.post(f"{site.url}/") as answer:
        assert answer.status == 405
        assert "only GET and HEAD are allowed" in await answer.text()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1234", 200), ("127.0.0.1", 200), ("127.1.2.3:80", 200), ("[::1]:80", 200),
        ("evil.example", 421), ("evil.example:9464", 421), ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421), ("10.0.0.1", 421), ("", 421),
    ],
)  # fmt: skip
async def test_only_names_of_loopback_are_answered_to(site: Served, host: str, status: int) -> None:
    async with site.client.get(f"{site.url}/api/runs", headers={"Host": host}) as answer:
        assert answer.status == status
        assert "Content-Security-Policy" in answer.headers


async def test_who_listens_elsewhere_answers_to_any_name(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "0.0.0.0") as site,  # noqa: S104 - what is tested
        site.client.get(
            f"{site.url}/healthz".replace("0.0.0.0", "127.0.0.1"),  # noqa: S104 - likewise
            headers={"Host": "aggregator.example"},
        ) as answer,
    ):
        assert answer.status == 200


def test_the_pages_files_name_nothing_outside() -> None:
    for name, path in static_files.files().items():
        if name != static_files.PLOTLY:
            outside = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", path.read_text())
            assert [url for url in outside if "www.w3.org" not in url] == []
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b",
                                 path.read_text())  # fmt: skip
    assert "https://" not in static_files.text("page.html")


async def test_ten_thousand_runs_are_listed_without_reading_results(site: Served) -> None:
    of = definition(32)
    for number in range(10_000):
        site.ledger.declare(declare(of, f"run-{number:05}"), NOW + number)
        site.ledger.cancel(f"run-{number:05}", NOW + number)
    site.store.close()  # whoever asked it would fail
    status, found = await site.json("/api/runs?search=run-0&page=50")
    assert (status, found["total"], len(found["runs"])) == (200, 10_000, 100)
    assert found["runs"][0]["run"] == "run-05099"
    assert found["runs"][0]["state"] == RunState.CANCELLED


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them_as_wcag_wants_for_aa(scheme: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", static_files.text("page.css"), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", light if scheme == "light" else dark))
    behind = [colours[name] for name in ("back", "sheet", "stripe")]
    pairs = [(colours[name], back) for back in behind for name in
             ("text", "quiet", "link", "accent", "good", "bad", "warn")]  # fmt: skip
    for colour, back in [*pairs, (colours["bad"], colours["bad-back"])]:
        bright, dim = sorted((luminance(colour), luminance(back)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (colour, back)
