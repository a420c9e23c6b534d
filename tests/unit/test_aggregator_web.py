"""What the aggregator serves over HTTP, with a ledger and a store behind it and no broker."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aggregator.web.app import serve_http
from protocol.errors import UsageError
from protocol.messages import RefusalReason, RunState
from tests.support.run_values import RUN, declare, definition, partial, telemetry
from tests.support.served_ledger import NOW, Served, serving


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as made:
        yield made


async def test_the_runbook_is_a_page_where_there_is_one(site: Served, tmp_path: Path) -> None:
    assert (await site.get("/runbook"))[0] == 404
    page = tmp_path / "page.html"
    page.write_text('<h2 id="x">é</h2>', encoding="utf-8")
    site.aggregator.settings = replace(site.aggregator.settings, runbook=page)
    assert await site.get("/runbook") == (200, '<h2 id="x">é</h2>')


async def test_an_active_aggregator_is_alive_and_ready(site: Served) -> None:
    assert await site.json("/healthz") == (200, {"status": "alive"})
    assert await site.json("/readyz") == (200, {"status": "active"})


async def test_a_standby_is_alive_but_not_ready_and_says_what_it_waits_for(site: Served) -> None:
    site.aggregator.session, site.aggregator.standby_for = None, "lock"
    assert (await site.get("/healthz"))[0] == 200
    assert await site.json("/readyz") == (503, {"status": "standby", "waiting_for": "lock"})
    assert await site.get("/api/runs") == (503, "this aggregator stands by")
    assert (await site.get(f"/api/runs/{RUN}"))[0] == 503
    assert (await site.metrics())["montemq_aggregator_active"] == 0


async def test_metrics_have_every_state_and_reason_from_the_start(site: Served) -> None:
    found = await site.metrics()
    for state in RunState:
        assert found[f"montemq_runs['{state}']"] == 0
    for reason in RefusalReason:
        assert found[f"montemq_messages_rejected_total['{reason}']"] == 0
    assert found["montemq_build_info['0.1.0']"] == 1


async def test_metrics_follow_the_ledger(site: Served) -> None:
    of = definition(cells=2)
    site.ledger.declare(declare(of), NOW)
    site.ledger.declare(declare(of, "cancelled"), NOW)
    site.ledger.cancel("cancelled", NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    site.ledger.fleet.hear(telemetry(slots=3), NOW)
    found = await site.metrics()
    assert found["montemq_runs['running']"] == 1
    assert found["montemq_runs['cancelled']"] == 1
    assert found["montemq_outstanding_blocks['demo']"] == 2 * 108 - 32
    assert found["montemq_live_slots['default']"] == 3
    assert found["montemq_live_consumers['default']"] == 1


async def test_metrics_tell_how_much_room_the_store_takes(site: Served) -> None:
    before = await site.metrics()
    assert before["montemq_store_bytes['database']"] > 0
    assert before["montemq_store_free_bytes"] > 0
    site.ledger.declare(declare(definition()), NOW)
    site.commit()
    after = await site.metrics()
    assert after["montemq_store_bytes['wal']"] > before["montemq_store_bytes['wal']"]


async def test_a_store_that_is_gone_leaves_the_other_metrics(site: Served, tmp_path: Path) -> None:
    settings = site.aggregator.settings
    site.aggregator.settings = replace(settings, store=tmp_path / "gone" / "s.sqlite")
    assert (await site.metrics())["montemq_build_info['0.1.0']"] == 1


async def test_every_metric_has_our_prefix_and_a_meaning(site: Served) -> None:
    _, text = await site.get("/metrics")
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("montemq_")
        assert family.documentation


async def test_runs_are_listed_with_the_newest_first(site: Served) -> None:
    status, none = await site.json("/api/runs")
    assert (status, none["runs"], none["total"], none["pages"]) == (200, [], 0, 1)
    site.ledger.declare(declare(definition()), NOW)
    site.ledger.declare(declare(definition(), "newer"), NOW + 1)
    status, found = await site.json("/api/runs")
    assert status == 200
    assert [(run["run"], run["state"], run["total_samples"]) for run in found["runs"]] == [
        ("newer", "running", 108 * 1024),
        (RUN, "running", 108 * 1024),
    ]


async def test_a_run_that_goes_on_shows_its_estimates_so_far(site: Served) -> None:
    of = definition()
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    status, run = await site.json(f"/api/runs/{RUN}")
    assert (status, run["state"], run["digest"], run["samples"]) == (200, "running", None, 32768)
    assert isinstance(run["cells"][0]["outputs"]["x"]["mean"], float)


async def test_a_finished_run_is_answered_from_the_store(site: Served) -> None:
    of = definition(32)
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    expected = site.ledger.changes.results[RUN].model_dump(mode="json")
    site.commit()
    assert await site.json(f"/api/runs/{RUN}") == (200, expected)


HOSTILE = (
    "%00", "..%2f..%2fetc%2fpasswd", "%27%20OR%201=1--", "a" * 101, "a.b", "run%0a", "%ff%fe",
    "*", "%F0%9F%92%A3", "-begins-wrong", "%3Cscript%3E", "a%20b",
)  # fmt: skip


@pytest.mark.parametrize("run", ["unknown", *HOSTILE])
async def test_a_run_that_is_not_known_or_no_id_at_all_is_404(site: Served, run: str) -> None:
    status, text = await site.get(f"/api/runs/{run}")
    assert status == 404
    assert "script" not in text
    assert (await site.get("/healthz"))[0] == 200


async def test_a_store_that_cannot_be_read_is_503_and_not_404(site: Served) -> None:
    of = definition(32)
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    site.commit()
    site.store._database.execute("DROP TABLE failures")
    site.store._database.execute("ALTER TABLE runs RENAME TO hidden")
    status, text = await site.get(f"/api/runs/{RUN}")
    assert (status, "cannot be used" in text) == (503, True)


async def test_nothing_but_reading_is_allowed(site: Served) -> None:
    for method in ("POST", "PUT", "DELETE"):
        async with site.client.request(method, f"{site.url}/api/runs") as answer:
            assert answer.status == 405


async def test_an_address_in_use_is_named(site: Served) -> None:
    port = int(site.url.rpartition(":")[2])
    with pytest.raises(UsageError, match=f"http = 127.0.0.1:{port} cannot be listened on"):
        async with serve_http(site.aggregator, ("127.0.0.1", port)):
            await asyncio.sleep(0)
