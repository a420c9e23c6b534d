"""Clocks that jump: a process keeps the time it began with, the next one has another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.settings import HEARTBEAT_SECONDS
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import gate
from tests.support.stack_processes import eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
PATCH = """
import pathlib, time
_real, _jump = time.time, pathlib.Path({jump!r})
time.time = lambda: _real() + float(_jump.read_text())
"""


def jumping(folder: Path) -> tuple[str, Callable[[float], None]]:
    """Return a place of modules under which `time.time` is off, and what sets by how much."""
    jump = folder / "jump"

    def by(seconds: float) -> None:
        new = folder / "jump.new"
        new.write_text(str(seconds), encoding="ascii")
        new.replace(jump)

    by(0)
    (folder / "sitecustomize.py").write_text(PATCH.format(jump=str(jump)), encoding="ascii")
    return str(folder), by


@pytest.mark.slow
@pytest.mark.fault(
    "The clock jumps by {seconds:+,} s, and the aggregator is killed", ANSWER, GOES_ON, MOVES
)
@pytest.mark.parametrize("seconds", [-3_600, 86_400])
def test_the_clock_jumps(site: Site, seconds: int, seen: Callable[[str], None]) -> None:
    path, jump = jumping(site.folder)
    first, consumer = site.aggregator(path=path), site.consumer(path=path)
    first.ready()
    consumer.ready()
    job = gate("jumped", site.folder, closed_from=16)
    run = site.run(job, "--chunk-blocks", "1", path=path)
    site.reached(job, 16 / 64)
    name = "montemq_last_merge_timestamp_seconds"
    before = first.metric(name)
    jump(seconds)
    first.kill()
    second = site.aggregator(path=path)
    second.ready()
    job.open()
    result = site.assert_answer(job, run.wait(BEATS))
    off = second.metric(name) - before
    assert abs(off - seconds) < 2 * BEATS
    assert 0 <= result["elapsed_seconds"] < max(0, seconds) + 2 * BEATS
    eventually(lambda: second.metric("montemq_live_consumers") == 1, "the consumer is known")
    seen(f"{name} {off:+,.0f} s; elapsed_seconds {result['elapsed_seconds']:,.1f}")
