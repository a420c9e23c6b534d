"""A store whose disk is full, gives errors, or has lost the end of what was written."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from protocol.settings import HEARTBEAT_SECONDS
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import GateJob, gate
from tests.support.stack_processes import Program, Service, eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
ERRORS = "montemq_commit_errors_total"
SMALL = 2 * 1024**2
FEW_PAGES = 8 * 1024

Seen = Callable[[str], None]


def half_done(site: Site, aggregator: Service, run: str) -> tuple[GateJob, Program]:
    """Start a run of which an eighth is merged and a block waits."""
    consumer = site.consumer()
    consumer.ready()
    job = gate(run, site.folder, closed_from=8)
    program = site.run(job, "--chunk-blocks", "1")
    aggregator.ready()
    site.reached(job, 8 / 64)
    eventually(job.waiting, "a block waits")
    return job, program


def assert_it_is_told_and_nothing_is_written(site: Site, aggregator: Service, job: GateJob) -> None:
    merged = site.samples(job.run)
    job.open()
    eventually(lambda: aggregator.metric(ERRORS) > 0, "it says that it cannot commit")
    assert site.samples(job.run) == merged


@pytest.mark.fault("The store's disk gives errors (RLIMIT_FSIZE)", ANSWER, GOES_ON, MOVES)
def test_errors_of_the_disk(site: Site, seen: Seen) -> None:
    aggregator = site.aggregator()
    job, run = half_done(site, aggregator, "io-error")
    limits = resource.prlimit(aggregator.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(aggregator.pid, resource.RLIMIT_FSIZE, (FEW_PAGES, limits[1]))
    assert_it_is_told_and_nothing_is_written(site, aggregator, job)
    aggregator.says("disk I/O error")
    resource.prlimit(aggregator.pid, resource.RLIMIT_FSIZE, limits)
    site.assert_answer(job, run.wait(BEATS))
    assert aggregator.running
    seen(f"{ERRORS} 0 → {aggregator.metric(ERRORS):.0f}")


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """Mount a disk of 2 MiB while the context lasts; skip where only root could."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:  # noqa: S603 - our own command line
        pytest.skip("only root can mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S603, S607 - likewise


def fill(file: Path) -> None:
    """Write until not another byte fits."""
    with file.open("wb", buffering=0) as rubbish:
        for size in (64 * 1024, 1):
            with suppress(OSError):
                while rubbish.write(bytes(size)):
                    pass


@pytest.mark.slow
@pytest.mark.fault("The store's disk is full (a tmpfs of 2 MiB)", ANSWER, GOES_ON, MOVES)
def test_a_full_disk(site: Site, seen: Seen) -> None:
    disk = site.folder / "disk"
    with small_disk(disk):
        site.store = disk / "store.sqlite"
        aggregator = site.aggregator()
        job, run = half_done(site, aggregator, "full-disk")
        fill(disk / "rubbish")
        assert shutil.disk_usage(disk).free == 0
        assert_it_is_told_and_nothing_is_written(site, aggregator, job)
        aggregator.says("database or disk is full")
        (disk / "rubbish").unlink()
        site.assert_answer(job, run.wait(BEATS))
        seen(f"{ERRORS} 0 → {aggregator.metric(ERRORS):.0f}")
        site.close()


@pytest.mark.fault("The store's write-ahead log has lost its second half", ANSWER, GOES_ON, MOVES)
def test_a_truncated_write_ahead_log(site: Site, seen: Seen) -> None:
    aggregator = site.aggregator()
    job, run = half_done(site, aggregator, "truncated")
    name = f'montemq_run_merged_samples{{run="{job.run}"}}'
    told = aggregator.metric(name)
    aggregator.kill()
    log = site.store.with_name(site.store.name + "-wal")
    before, size = site.samples(job.run), log.stat().st_size
    os.truncate(log, size // 2)
    second = site.aggregator()
    second.ready()
    kept = site.samples(job.run)
    lost = before - kept
    assert lost > 0
    assert (told, second.metric(name)) == (before, kept)
    job.open()
    site.assert_answer(job, run.wait(BEATS))
    again = "montemq_merged_samples_total"
    assert second.metric(again) == job.samples - kept
    seen(f"montemq_run_merged_samples {before:,} → {kept:,}; {again} 0 → {job.samples - kept:,}")
