"""A real stack that a real Prometheus watches, with our rules and alerts, faster than usual.

What is changed of `ops/prometheus` for it: the addresses, how often is scraped and evaluated, a
minute, which takes half a second, and the limit of the disk, which is above that of any disk.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops.private_broker import PrivateBroker, free_port
from ops.private_prometheus import PrivatePrometheus, configuration
from tests.support.prometheus import asked
from tests.support.real_broker import reset
from tests.support.stack_processes import Service, eventually
from tests.support.stack_site import Site

MINUTE_SECONDS = 0.5
SCRAPE = "500ms"
POOLS = ("default", "gated", "idle")
PATIENCE_SECONDS = 90.0
LOOPBACK = "127.0.0.1"


def hurried(files: Mapping[str, str]) -> dict[str, str]:
    """Return files for Prometheus as they are here."""
    changed = {}
    for name, text in files.items():
        short = re.sub(r"(?<=\[)\d+m(?=\])|(?<=offset )\d+m|(?<=for: )\d+m", _short, text)
        assert not re.search(r"\b\d+m\b", short), "every duration is found"
        changed[name] = short.replace("interval: 15s", f"interval: {SCRAPE}").replace(
            "montemq_store_free_bytes) < 1e9", "montemq_store_free_bytes) < 1e18"
        )
    return changed


def _short(minutes: re.Match[str]) -> str:
    return f"{int(minutes[0].rstrip('m')) * MINUTE_SECONDS * 1000:.0f}ms"


@dataclass
class WatchedStack:
    """The parts, and what the alerts have said."""

    site: Site
    node: PrivateBroker
    prometheus: PrivatePrometheus
    http: str
    began: float = field(default_factory=time.time)

    def aggregator(self) -> Service:
        """Start an aggregator where Prometheus looks for it, and wait until it is ready."""
        service = self.site.aggregator("--http", self.http, "--audit-share", "1")
        service.ready(PATIENCE_SECONDS)
        return service

    def fired(self, since: float) -> set[str]:
        """Return the names of the alerts that have fired since then."""
        seconds = max(1, round(time.time() - since))
        query = f'max by (alertname) (max_over_time(ALERTS{{alertstate="firing"}}[{seconds}s]))'
        found = asked(self.prometheus.url, "query", query=query)["result"]
        return {one["metric"]["alertname"] for one in found}

    def fires(self, *alerts: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until all of these have fired from now on; keep on doing something meanwhile."""
        began, fired = time.time(), set[str]()

        def all_fired() -> bool:
            meanwhile()
            fired.update(self.fired(began))
            return {*alerts} <= fired

        try:
            eventually(all_fired, "all fire", PATIENCE_SECONDS)
        except AssertionError:
            pytest.fail(f"never fired: {sorted({*alerts} - fired)}")


@contextmanager
def watched_stack(folder: Path) -> Iterator[WatchedStack]:
    """Start a broker and a Prometheus; the services are started by the test."""
    http = f"{LOOPBACK}:{free_port(LOOPBACK)}"
    short = Path(tempfile.mkdtemp(prefix="mc-"))
    try:
        with PrivateBroker.start(metrics=True) as node:
            reset(node.broker, POOLS)
            files = configuration(aggregator=http, broker=f"{LOOPBACK}:{node.metrics_port}")
            with (
                Site(node.broker, folder) as site,
                PrivatePrometheus.start(short, hurried(files)) as prometheus,
            ):
                yield WatchedStack(site, node, prometheus, http)
    finally:
        shutil.rmtree(short)
