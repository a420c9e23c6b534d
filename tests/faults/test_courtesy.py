"""Consumers on machines that somebody else needs: they step back, say why, and lose nothing."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pika
import psutil
import pytest

from consumer.hours import DAYS
from protocol.definition import Lane
from protocol.origin import host_name
from protocol.settings import HEARTBEAT_SECONDS, Broker
from protocol.topology import work_queue
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import gate, pi
from tests.support.stack_metrics import CRASHES, connected, reconnected
from tests.support.stack_processes import eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS

Seen = Callable[[str], None]


@contextmanager
def consumes(broker: Broker) -> Iterator[Callable[[], int]]:
    """Give a function that asks the broker how many consume the queue of the normal lane."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        queue = work_queue("default", Lane.NORMAL)
        yield lambda: int(channel.queue_declare(queue, passive=True).method.consumer_count)


@contextmanager
def playing(game: str) -> Iterator[None]:
    with subprocess.Popen([game, "600"]) as process:  # noqa: S603 - a copy of sleep
        try:
            yield
        finally:
            process.kill()


def test_a_consumer_returns_its_chunks_at_once_when_a_named_program_starts(site: Site) -> None:
    aggregator = site.aggregator()
    aggregator.ready()
    nice = str(psutil.Process().nice() + 1)  # more would starve it beside other tests
    name = f"game-{os.getpid()}"
    game = shutil.copy(shutil.which("sleep") or "", site.folder / name)
    consumer = site.consumer(1, "--pause-program", name, "--on-suspend", "return", "--nice", nice)
    consumer.ready()
    job = gate("paused", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    (slot,) = eventually(job.waiting, "the slot computes")
    assert psutil.Process(slot).nice() == int(nice)
    assert psutil.Process(slot).ionice().ioclass is psutil.IOPRIO_CLASS_IDLE
    assert psutil.Process(consumer.pid).nice() == psutil.Process().nice()
    with playing(game):
        consumer.says(f"suspended: {name} runs; chunks that run are given back")
        eventually(lambda: not psutil.pid_exists(slot), "the slot is gone")
        eventually(lambda: aggregator.metric("montemq_live_slots") == 0, "its slots do not count")
        (told,) = json.loads(site.command("top", "--json").out)["consumers"]
        assert (told["state"], told["suspended"]) == ("suspended", "program")
        site.consumer().ready()
        job.open()
        site.assert_answer(job, run.wait())
    assert aggregator.metric("montemq_failures_total") == 0
    assert consumer.running


def test_a_consumer_that_is_started_outside_its_hours_is_ready_and_computes_nothing(
    site: Site,
) -> None:
    aggregator = site.aggregator()
    aggregator.ready()
    another_day = DAYS[(datetime.now().astimezone().weekday() + 3) % 7]
    site.consumer(1, "--hours", another_day).ready()
    idle = f'montemq_host_suspended_consumers{{host="{host_name()}",reason="hours"}}'
    eventually(lambda: aggregator.metric(idle) == 1, "the aggregator says why")
    assert aggregator.metric("montemq_live_slots") == 0


@pytest.mark.fault(
    "SIGSTOP of a consumer and its slots until the broker has given them up", ANSWER, GOES_ON, MOVES
)
def test_a_consumer_whose_machine_slept_comes_back_and_goes_on(site: Site, seen: Seen) -> None:
    aggregator = site.aggregator()
    aggregator.ready()
    broker = replace(site.broker, heartbeat=1)
    consumer = site.consumer(broker=broker)
    consumer.ready()
    job = gate("slept", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(job.waiting, "the slot computes")
    before = connected(aggregator)
    machine = [psutil.Process(consumer.pid)]
    machine += machine[0].children(recursive=True)
    with consumes(site.broker) as consumers:
        assert consumers() == 1
        for process in machine:
            process.suspend()
        try:
            eventually(lambda: consumers() == 0, "the broker takes it for dead")
        finally:
            job.open()
            for process in machine:
                process.resume()
        site.assert_answer(job, run.wait(BEATS))
        assert consumers() == 1
    seen(reconnected(aggregator, before))
    assert consumer.running


HOARD = """
import time
import numpy as np
from protocol.model import GeneratorModel

class Hoard(GeneratorModel):
    name = "hoard"
    outputs = ("x",)

    def sample(self, rng, n):
        kept = np.ones(2**27)  # 1 GiB
        time.sleep(60)
        return kept[:n, None]
"""


@pytest.mark.fault("Slots that take more memory than they may", ANSWER, GOES_ON, MOVES)
def test_a_slot_that_uses_too_much_memory_is_killed_and_the_run_says_so(
    site: Site, seen: Seen
) -> None:
    model = site.folder / "hoard.py"
    model.write_text(HOARD, encoding="utf-8")
    option = ("--model-file", f"{model}:Hoard")
    aggregator = site.aggregator()
    aggregator.ready()
    consumer = site.consumer(1, "--slot-memory", "700M", "--chunks-per-slot", "1", *option)
    consumer.ready()
    job = gate("worn", site.folder)
    run = site.run(job, "--chunk-blocks", "64")
    (slot,) = eventually(job.waiting, "the slot computes")
    job.open()
    site.assert_answer(job, run.wait())
    eventually(lambda: not psutil.pid_exists(slot), "another slot takes its place")
    assert "killed" not in consumer.err
    assert aggregator.metric(CRASHES) == 0
    failed = site.start("run", "hoard", "--samples", "64", "--json", *option).wait(100)
    assert failed.code == 5
    assert "MiB of memory, more than the 700 MiB it may" in failed.err
    crashes = aggregator.metric(CRASHES)
    assert crashes > 0
    seen(f"{CRASHES} 0 → {crashes:.0f}")
    after = pi("after-a-hoard", blocks=40)
    site.assert_answer(after, site.run(after).wait(BEATS))
    assert consumer.running
