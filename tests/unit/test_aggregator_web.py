"""What the aggregator serves over HTTP, with a ledger and a store behind it and no broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from aggregator.ledger import Ledger
from aggregator.service import Aggregator, Settings
from aggregator.session import Office, Session
from aggregator.store.sqlite import Store
from aggregator.web.app import serve_http
from protocol.amqp_aio import Link
from protocol.errors import UsageError
from protocol.messages import RefusalReason, RunState
from protocol.settings import Broker
from tests.support.run_values import RUN, declare, definition, partial, telemetry

NOW = 1_000.0
NO_LINK = cast("Link", None)
"""HTTP never touches the broker."""


@dataclass
class Site:
    url: str
    aggregator: Aggregator
    ledger: Ledger
    store: Store
    client: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, str]:
        url = URL(self.url + path, encoded=True)
        async with self.client.get(url) as answer:
            return answer.status, await answer.text()

    async def json(self, path: str) -> tuple[int, Any]:
        status, text = await self.get(path)
        return status, json.loads(text)

    async def metrics(self) -> dict[str, float]:
        status, text = await self.get("/metrics")
        assert status == 200
        samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
        return {
            name + (str(sorted(labels.values())) if labels else ""): value
            for name, labels, value, *_ in samples
        }

    def commit(self) -> None:
        self.store.commit(self.ledger.take_changes(), self.ledger.epoch)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    aggregator = Aggregator(Settings(Broker("127.0.0.1", 1, "u", "p", "/"), tmp_path / "s.sqlite"))
    with Store(tmp_path / "s.sqlite") as store, ThreadPoolExecutor(1) as executor:
        office = Office(store, executor, aggregator.metrics, lambda: NOW)
        ledger = Ledger(store.take_over())
        aggregator.session = Session(NO_LINK, NO_LINK, ledger, office)
        async with (
            serve_http(aggregator, ("127.0.0.1", 0)) as url,
            aiohttp.ClientSession() as client,
        ):
            yield Site(url, aggregator, ledger, store, client)


async def test_an_active_aggregator_is_alive_and_ready(site: Site) -> None:
    assert await site.json("/healthz") == (200, {"status": "alive"})
    assert await site.json("/readyz") == (200, {"status": "active"})


async def test_a_standby_is_alive_but_not_ready_and_says_what_it_waits_for(site: Site) -> None:
    site.aggregator.session, site.aggregator.standby_for = None, "lock"
    assert (await site.get("/healthz"))[0] == 200
    assert await site.json("/readyz") == (503, {"status": "standby", "waiting_for": "lock"})
    assert await site.get("/api/runs") == (503, "this aggregator stands by")
    assert (await site.get(f"/api/runs/{RUN}"))[0] == 503
    assert (await site.metrics())["montemq_aggregator_active"] == 0


async def test_metrics_have_every_state_and_reason_from_the_start(site: Site) -> None:
    found = await site.metrics()
    for state in RunState:
        assert found[f"montemq_runs['{state}']"] == 0
    for reason in RefusalReason:
        assert found[f"montemq_messages_rejected_total['{reason}']"] == 0
    assert found["montemq_build_info['0.1.0']"] == 1


async def test_metrics_follow_the_ledger(site: Site) -> None:
    of = definition(cells=2)
    site.ledger.declare(declare(of), NOW)
    site.ledger.declare(declare(of, "cancelled"), NOW)
    site.ledger.cancel("cancelled", NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    site.ledger.fleet.hear(telemetry(slots=3), NOW)
    found = await site.metrics()
    assert found["montemq_runs['running']"] == 1
    assert found["montemq_runs['cancelled']"] == 1
    assert found["montemq_outstanding_blocks"] == 2 * 108 - 32
    assert (found["montemq_live_slots"], found["montemq_live_consumers"]) == (3, 1)


async def test_every_metric_has_our_prefix_and_a_meaning(site: Site) -> None:
    _, text = await site.get("/metrics")
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("montemq_")
        assert family.documentation


async def test_runs_are_listed_with_the_newest_first(site: Site) -> None:
    assert await site.json("/api/runs") == (200, [])
    site.ledger.declare(declare(definition()), NOW)
    site.ledger.declare(declare(definition(), "newer"), NOW + 1)
    status, runs = await site.json("/api/runs")
    assert status == 200
    assert [(run["run"], run["state"], run["total_samples"]) for run in runs] == [
        ("newer", "running", 108 * 1024),
        (RUN, "running", 108 * 1024),
    ]


async def test_a_run_that_goes_on_shows_its_estimates_so_far(site: Site) -> None:
    of = definition()
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    status, run = await site.json(f"/api/runs/{RUN}")
    assert (status, run["state"], run["digest"], run["samples"]) == (200, "running", None, 32768)
    assert isinstance(run["cells"][0]["outputs"]["x"]["mean"], float)


async def test_a_finished_run_is_answered_from_the_store(site: Site) -> None:
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
async def test_a_run_that_is_not_known_or_no_id_at_all_is_404(site: Site, run: str) -> None:
    status, text = await site.get(f"/api/runs/{run}")
    assert status == 404
    assert "script" not in text
    assert (await site.get("/healthz"))[0] == 200


async def test_a_store_that_cannot_be_read_is_503_and_not_404(site: Site) -> None:
    of = definition(32)
    site.ledger.declare(declare(of), NOW)
    site.ledger.partial(partial(of, 0, 32), NOW)
    site.commit()
    site.store._database.execute("DROP TABLE failures")
    site.store._database.execute("ALTER TABLE runs RENAME TO hidden")
    status, text = await site.get(f"/api/runs/{RUN}")
    assert (status, "cannot be used" in text) == (503, True)


async def test_nothing_but_reading_is_allowed(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE"):
        async with site.client.request(method, f"{site.url}/api/runs") as answer:
            assert answer.status == 405


async def test_an_address_in_use_is_named(site: Site) -> None:
    port = int(site.url.rpartition(":")[2])
    with pytest.raises(UsageError, match=f"http = 127.0.0.1:{port} cannot be listened on"):
        async with serve_http(site.aggregator, ("127.0.0.1", port)):
            await asyncio.sleep(0)
