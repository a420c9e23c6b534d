"""Prometheus on a real stack: quiet while all is well, every alert fires, every panel has data."""

import json
import math
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count

import pika
import pytest

import producer
from ops.grafana import __main__ as grafana
from ops.simulation.consumer import with_a_flipped_bit
from protocol import registry
from protocol.definition import Lane
from protocol.messages import encode
from protocol.topology import RESULTS, WORK, partial_key, work_key, work_queue
from tests.conftest import require_rabbitmq
from tests.support.alarm import disk_alarm
from tests.support.prometheus import asked, read, require_prometheus, value
from tests.support.stack_hostile import Hostile, publish
from tests.support.stack_jobs import GateJob, gate, paced
from tests.support.stack_processes import Service, eventually
from tests.support.stack_site import PLUGIN, Site
from tests.support.watched_stack import PATIENCE_SECONDS, WatchedStack, watched_stack

pytestmark = pytest.mark.timeout(420)

ALERTS = set(re.findall(r"^ +- alert: (\w+)$", read("alerts.yml"), re.MULTILINE))
ALWAYS = {"StoreNearlyFull"}
"""No test fills a disk: here the limit is above what any disk has."""

DOWN = ("AggregatorDown", "QueueAgeHigh")
MISSED = ("RunMissed",)
BLOCKED = ("PublisherBlocked",)
AT_WORK = tuple(ALERTS - {*DOWN, *MISSED, *BLOCKED})
NIGHTLY = "nightly-{date}-{hour}"
QUIET_SECONDS = 3.0
SLOW_SECONDS = 1.6
STEP_SECONDS = 1
RANGE_SECONDS = 5


class Scene:
    """Everything that happens to the stack, once for all tests."""

    def __init__(self, stack: WatchedStack) -> None:
        self.stack = stack
        self.site = stack.site
        self.quiet: set[str] = ALERTS
        self.since = 0.0

    def play(self) -> None:
        services = [self.site.consumer(1, "--pool", pool) for pool in ("default", "gated")]
        aggregator = self.stack.aggregator()
        for service in services:
            service.ready(PATIENCE_SECONDS)
        self._is_well()
        self.since = time.time()
        with producer.Client(self.site.broker) as client:
            self._wrong_bits()
            stalled = self._stalled()
            self._runs_fail(client)
            with self._slow_store():
                self._trouble_at_work(client, aggregator, stalled)
        self._nobody_takes_results(aggregator)
        self.stack.fires(*MISSED)
        with disk_alarm(self.stack.node):
            self.stack.fires(*BLOCKED)

    def _is_well(self) -> None:
        words = ("run", "pi", "--samples", "100000", "--id", NIGHTLY)
        assert self.site.command(*words).code == 0

        def quiet() -> bool:
            self.quiet = self.stack.fired(time.time() - QUIET_SECONDS)
            return self.quiet == ALWAYS and time.time() > self.stack.began + 2 * QUIET_SECONDS

        eventually(quiet, "nothing fires", PATIENCE_SECONDS)

    def _runs_fail(self, client: producer.Client) -> None:
        """Let runs fail one after the other until the consumer takes no chunk for a while."""
        numbers = count()

        def suspended() -> bool:
            run = client.submit("failing", id=f"broken-{next(numbers)}", stop={"samples": 4096})
            with pytest.raises(producer.RunFailedError):
                run.result(PATIENCE_SECONDS)
            query = "sum(max_over_time(montemq_host_suspended_consumers[1h]))"
            return value(self.stack.prometheus.url, query) > 0

        eventually(suspended, "one is suspended", PATIENCE_SECONDS)

    def _trouble_at_work(
        self, client: producer.Client, aggregator: Service, stalled: GateJob
    ) -> None:
        slow = paced("slow", self.site.folder, blocks=4096, seconds=0.2)
        self.site.run(slow, "--chunk-blocks", "1")
        client.submit("pi", id="forlorn", pool="idle", stop={"samples": 1_000_000})
        self.site.reached(stalled, 16 / 64)
        nuisance = Nuisance(self.site, stalled, aggregator)
        with nuisance.channel():
            self.stack.fires(*AT_WORK, meanwhile=nuisance.again)

    def _stalled(self) -> GateJob:
        """Start a run that comes to a stand after 16 of its 64 blocks."""
        plain = gate("stalled", self.site.folder, closed_from=16, seconds=0.3)
        job = replace(plain, text=f"{plain.text}relative_error = 1e-9\n")
        self.site.run(job, "--pool", "gated", "--chunk-blocks", "1")
        return job

    def _wrong_bits(self) -> None:
        record = self.site.folder / "record.json"
        record.write_text("{}", encoding="ascii")
        (self.site.folder / "sitecustomize.py").write_text(
            "import pathlib\nfrom consumer import golden\n"
            f"golden.RECORD = pathlib.Path({str(record)!r})\n",
            encoding="ascii",
        )
        self.site.consumer(path=str(self.site.folder))

    @contextmanager
    def _slow_store(self) -> Iterator[None]:
        """Lock the database again and again for a while, shorter than the aggregator waits."""
        over = threading.Event()

        def lock() -> None:
            with closing(connect(self.site)) as database:
                while not over.is_set():
                    database.execute("BEGIN IMMEDIATE")
                    over.wait(SLOW_SECONDS)
                    database.rollback()
                    over.wait(SLOW_SECONDS / 16)

        thread = threading.Thread(target=lock)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _nobody_takes_results(self, aggregator: Service) -> None:
        """Kill the aggregator while somebody computes; start another one two hours later."""
        aggregator.kill()
        self.stack.fires(*DOWN)
        with closing(connect(self.site)) as database:
            database.execute(
                "UPDATE runs SET created = created - 7200, ended = ended - 7200 WHERE name = ?",
                (NIGHTLY,),
            )
        self.stack.aggregator()


def connect(site: Site) -> sqlite3.Connection:
    """Open the store as a stranger who commits by himself, and waits if need be."""
    return sqlite3.connect(site.store, timeout=30, isolation_level=None)


class Nuisance:
    """What is published, once or again and again, by somebody who should not."""

    def __init__(self, site: Site, job: GateJob, aggregator: Service) -> None:
        self._broker = site.broker
        self._aggregator = aggregator
        again = job.partial()
        self._merged = Hostile("merged already", again.type, encode(again), "")
        bits = with_a_flipped_bit(again.statistics)
        wrong = again.model_copy(update={"statistics": bits, "host": "broken"})
        self._wrong = Hostile("wrong numbers", wrong.type, encode(wrong), "")
        self._lane = Lane.NORMAL

    @contextmanager
    def channel(self) -> Iterator[None]:
        with pika.BlockingConnection(pika.URLParameters(self._broker.url)) as connection:
            self._channel = connection.channel()
            # Whoever tells again what is merged decides against this one.
            publish(self._channel, RESULTS, partial_key("guest"), self._wrong)
            yield

    def again(self) -> None:
        """Publish what is merged, what is nothing, and what fits no queue; kill a chunk."""
        key = partial_key("guest")
        publish(self._channel, RESULTS, key, self._merged)
        publish(self._channel, RESULTS, key, Hostile("nothing", "partial.v1", b"", "malformed"))
        publish(self._channel, WORK, work_key("nowhere", self._lane), self._merged)
        if not self._aggregator.metric('montemq_failures_total{kind="dead_letter"}'):
            self._return_a_chunk()

    def _return_a_chunk(self) -> None:
        """Take a chunk of a pool without consumers, and give it back once too often."""
        for _ in range(32):
            method, _, _ = self._channel.basic_get(work_queue("idle", self._lane))
            if method is not None:
                self._channel.basic_reject(method.delivery_tag)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    require_rabbitmq()
    require_prometheus()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLUGIN)
        registry._entries.cache_clear()
        with watched_stack(tmp_path_factory.mktemp("watched")) as stack:
            made = Scene(stack)
            made.play()
            yield made
    registry._entries.cache_clear()
    registry.load_model.cache_clear()


def test_nothing_fires_while_all_is_well(scene: Scene) -> None:
    assert scene.quiet == ALWAYS


def test_every_alert_fires_where_it_should(scene: Scene) -> None:
    assert scene.stack.fired(scene.since) == ALERTS


@pytest.mark.parametrize("name", grafana.DASHBOARDS)
def test_every_panel_and_every_variable_of_a_dashboard_has_data(scene: Scene, name: str) -> None:
    page = json.loads((grafana.FOLDER / name).read_text("utf-8"))
    url, values, bare = scene.stack.prometheus.url, {"__rate_interval": f"{RANGE_SECONDS}s"}, []
    for variable in page["templating"]["list"]:
        if variable["type"] == "query":
            found = label_values(url, variable["query"]["query"])
            values[variable["name"]] = "|".join(map(re.escape, found)).replace("\\", "\\\\")
            if not found:
                bare.append(f"variable {variable['name']}")
    for panel in page["panels"]:
        for target in panel.get("targets", ()):
            query = re.sub(r"\$(\w+)", lambda m: values[m[1]], target["expr"])
            if not has_data(url, query, scene.stack.began):
                bare.append(f"{panel['title']}: {query}")
    assert bare == [], f"{name} has no data for {bare}"


def label_values(url: str, query: str) -> list[str]:
    """Return what Grafana makes of `label_values(METRIC, LABEL)`."""
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert match, query
    found: list[str] = asked(url, f"label/{match[2]}/values", **{"match[]": match[1]})
    return found


def has_data(url: str, query: str, began: float) -> bool:
    """Return whether a query has had a number at any time."""
    span = {"start": began, "end": time.time(), "step": STEP_SECONDS}
    series = asked(url, "query_range", query=query, **span)["result"]
    return any(not math.isnan(float(value)) for one in series for _, value in one["values"])
