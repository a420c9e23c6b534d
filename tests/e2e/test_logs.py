"""The logs of a real stack: JSON lines that a run, or one chunk, can be followed in."""

import json
from collections.abc import Mapping
from typing import Any

from ops.logs import LEVEL_VARIABLE
from tests.support.stack_jobs import Job, gate, pi
from tests.support.stack_processes import Program, eventually
from tests.support.stack_site import Site


def events(program: Program, **ids: object) -> list[str]:
    """Return the events of a log that are about this."""

    def is_about(line: Mapping[str, Any]) -> bool:
        return ids.items() <= line.items()

    lines = [json.loads(line) for line in program.err.splitlines() if line.startswith("{")]
    return [str(line["event"]) for line in lines if is_about(line)]


def services(site: Site) -> tuple[Program, Program, Program]:
    found = site.producer(), site.consumer(), site.aggregator()
    for service in reversed(found):
        service.ready()
    return found


def detached(site: Site, job: Job) -> None:
    assert site.command("run", job.file(site.folder), "--detach").code == 0


def ended(aggregator: Program, job: Job) -> None:
    """Wait until the aggregator has said that a run was declared, and how it ended."""
    eventually(lambda: len(events(aggregator, run=job.run)) == 2, f"{job.run} has ended")


def failing(run: str) -> Job:
    return Job(run, f'[run]\nmodel = "failing"\nid = "{run}"\n[stop]\nsamples = 4096\n')


def test_a_chunk_is_followed_by_its_id_through_all_services(site: Site) -> None:
    site.variables[LEVEL_VARIABLE] = "debug"
    producer, consumer, aggregator = services(site)
    job = pi("followed", blocks=8)
    detached(site, job)
    # The first chunk of the service's term: the run was declared once before.
    chunk = {"run": job.run, "cell": 0, "attempt": 2 << 32}
    eventually(lambda: events(aggregator, **chunk), "the aggregator has it")
    assert events(producer, **chunk) == ["issued a chunk"]
    assert events(consumer, **chunk) == ["received a chunk", "answered a chunk"]
    assert events(aggregator, **chunk) == ["partial merged"]


def test_without_being_asked_no_log_speaks_of_single_chunks_unless_they_fail(site: Site) -> None:
    producer, consumer, aggregator = services(site)
    job, bug = gate("calm", site.folder, blocks=16), failing("broken")
    job.open()
    for one in (job, bug):
        detached(site, one)
    for one in (job, bug):
        ended(aggregator, one)
    declared, finished = events(aggregator, run=job.run)
    assert declared == "run calm declared"
    assert finished == f"run calm finished: digest {job.digest}"
    assert events(aggregator, run=bug.run)[1].startswith("run broken failed: cell 0, block")
    assert "adopted run calm" in events(producer, run=job.run)
    assert events(consumer, run=job.run) == []
    failures = events(consumer, run=bug.run)
    assert failures
    assert all(event.startswith("a chunk failed: model_error: ") for event in failures)
