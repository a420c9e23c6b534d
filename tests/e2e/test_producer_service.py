"""The service `montemq producer`: detached runs, runs whose producer died, services that die."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pika
import pytest

from producer.detaching import detach
from producer.rpc import ask
from protocol.amqp_aio import Link
from protocol.definition import Lane
from protocol.messages import Chunk, RunState, decode
from protocol.rpc_messages import Missing, Status, StatusRequest
from protocol.settings import Broker
from protocol.topology import WORK, work_key
from tests.support.stack_jobs import Job, gate, pi
from tests.support.stack_processes import Ended, Service, eventually
from tests.support.stack_proxy import proxy
from tests.support.stack_site import Site

MANY = 300
FIRST_CHECKPOINT = 32
"""No chunk of whatever size crosses it: all blocks before it are merged while later ones wait."""


@pytest.fixture
def aggregator(site: Site) -> Service:
    """Return the aggregator of a site with one consumer."""
    started, consumer = site.aggregator(), site.consumer()
    started.ready()
    consumer.ready()
    return started


def service(site: Site) -> Service:
    started = site.producer()
    started.ready()
    return started


def merged(aggregator: Service) -> float:
    """Return how many samples were merged."""
    return aggregator.metric("montemq_merged_samples_total")


@contextlib.contextmanager
def issued(broker: Broker, run: str) -> Iterator[Callable[[], list[Chunk]]]:
    """Yield what returns the chunks of a run that were issued since then."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        tap = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(tap, WORK, work_key("default", Lane.NORMAL))

        def taken() -> list[Chunk]:
            found = []
            while (message := channel.basic_get(tap, auto_ack=True))[0] is not None:
                found.append(decode(Chunk.type, message[2], Chunk))
            return [chunk for chunk in found if chunk.run == run]

        yield taken


def detached(site: Site, job: Job, *options: str) -> Ended:
    return site.command("run", job.file(site.folder), "--detach", *options)


def finished(site: Site, run: str) -> None:
    rows = lambda: site.rows("SELECT state FROM runs WHERE run = ?", run)  # noqa: E731
    eventually(lambda: rows() == [("finished",)], f"{run} is finished")


@pytest.mark.usefixtures("aggregator")
def test_who_stops_following_is_told_that_the_service_goes_on(site: Site) -> None:
    service(site)
    job = gate("followed", site.folder)
    run = site.run(job)
    eventually(job.waiting, "a block waits")
    run.send(signal.SIGINT)
    ended = run.wait()
    assert ended.code == 130
    assert "keeps what is merged and goes on without this command" in ended.err
    job.open()
    site.assert_answer(job, site.command("wait", job.run, "--json"))


def test_a_detached_run_is_scheduled_by_the_service_and_can_be_waited_for(
    site: Site, aggregator: Service
) -> None:
    job = gate("left", site.folder)
    alone = detached(site, job)
    assert (alone.code, alone.out) == (0, "left\n")
    assert alone.err == (
        "montemq: nobody schedules run 'left' yet: start `montemq producer`, or "
        "`montemq resume left`\n"
    )
    waiting = site.start("wait", job.run, "--json")
    waiting.says("nobody schedules it: start `montemq producer`, or `montemq resume left`")
    serving = service(site)
    serving.says("adopted run left")
    eventually(job.waiting, "a block waits")
    again = detached(site, job, "--json")
    assert (again.code, again.json) == (0, {"run": "left", "state": "running"})
    assert again.err == (
        "`montemq producer` schedules run 'left'; follow it with `montemq wait left`\n"
    )
    late = site.command("wait", job.run, "--timeout", "0.1", "--quiet")
    assert (late.code, late.out) == (4, "")
    job.open()
    site.assert_answer(job, waiting.wait())
    serving.says("run left finished")
    ended = detached(site, job, "--json", "--quiet")
    assert (ended.code, ended.json["state"], ended.err) == (0, "finished", "")
    quiet = site.command("wait", job.run, "--json", "--quiet")
    assert site.assert_answer(job, quiet)["samples"] == job.samples
    assert quiet.err == ""
    # The next one does not wait for the service to look around: it is told.
    assert detached(site, pi("told", blocks=8)).code == 0
    finished(site, "told")
    assert aggregator.running


@pytest.mark.usefixtures("aggregator")
def test_detaching_refuses_before_anything_is_declared_and_tells_how_a_run_had_ended(
    site: Site,
) -> None:
    job = gate("ended", site.folder)
    for options in (["--timeout", "1"], ["--cancel-on-interrupt"], ["--chunk-blocks", "1"]):
        refused = detached(site, job, *options)
        assert refused.code == 2
        assert "--detach follows nothing" in refused.err
    nowhere = detached(site, job, "--pool", "gpu")
    assert nowhere.code == 3
    assert "the broker has no queue for pool 'gpu'" in nowhere.err
    assert site.rows("SELECT * FROM runs") == []
    assert detached(site, job).code == 0
    assert site.command("cancel", job.run).code == 0
    cancelled = detached(site, job, "--json")
    assert (cancelled.code, cancelled.json["state"]) == (7, "cancelled")
    assert "`montemq resume ended` takes it up again" in cancelled.err
    assert site.command("wait", job.run).code == 7
    assert site.command("wait", "unheard-of").code == 2


def test_a_run_whose_producer_died_is_adopted_and_nothing_merged_is_computed_again(
    site: Site, aggregator: Service, broker: Broker
) -> None:
    orphan, led = gate("orphan", site.folder, closed_from=8), gate("led", site.folder)
    serving = service(site)
    dies = site.run(orphan, "--chunk-blocks", "1")
    site.reached(orphan, 8 / 64)
    leader = site.run(led, "--chunk-blocks", "1")
    eventually(lambda: site.rows("SELECT 1 FROM runs WHERE run = 'led'"), "it is declared")
    assert merged(aggregator) == 8 * 512
    with issued(broker, orphan.run) as chunks:
        dies.kill()
        serving.says("adopted run orphan")
        led.open()
        site.assert_answer(led, leader.wait())
        finished(site, orphan.run)
        again = chunks()
    assert again
    assert all(chunk.first_block >= 8 for chunk in again)
    site.assert_answer(orphan, site.run(orphan).wait())
    # The other one has stood still for as long, but its producer lives.
    assert "run led" not in serving.err
    assert merged(aggregator) == orphan.samples + led.samples


@pytest.mark.usefixtures("aggregator")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_next_service_goes_on_when_one_ends_or_dies(site: Site, number: signal.Signals) -> None:
    first = service(site)
    job = gate("handed-on", site.folder, closed_from=FIRST_CHECKPOINT)
    assert detached(site, job).code == 0
    first.says("adopted run handed-on")
    second = service(site)
    assert "standing by: another producer service is active" in second.err
    site.reached(job, FIRST_CHECKPOINT / 64)
    first.send(number)
    if number is signal.SIGTERM:
        ended = first.wait()
        assert (ended.code, ended.err.splitlines()[-1]) == (0, "stopped")
        assert "released run handed-on" in ended.err
    second.says("adopted run handed-on")
    assert "adopted" in second.err.splitlines()[-1]
    job.open()
    site.assert_answer(job, site.command("wait", job.run, "--json"))


def test_hundreds_of_runs_are_adopted_over_one_connection_and_then_forgotten(
    site: Site, aggregator: Service, broker: Broker
) -> None:
    job = pi("many", blocks=2, block_size=512)
    jobs = [replace(job.submission, run=f"many-{number}") for number in range(MANY)]

    async def declare() -> list[RunState]:
        async with await Link.open(broker, "test") as link:
            answers = [ask(link, each.declaration, Missing) for each in jobs]
            return [RunState(answer.state) for answer in await asyncio.gather(*answers)]

    async def running() -> int:
        async with await Link.open(broker, "test") as link:
            return len((await ask(link, StatusRequest(state=RunState.RUNNING), Status)).runs)

    assert asyncio.run(declare()) == [RunState.RUNNING] * MANY
    serving = service(site)
    sockets = open_sockets(serving)
    serving.says(f"run many-{MANY - 1} finished")
    eventually(lambda: serving.err.count(" finished") == MANY, "all are finished")
    assert serving.err.count("adopted run") == MANY
    assert open_sockets(serving) == sockets
    assert asyncio.run(running()) == 0
    assert merged(aggregator) == job.samples * MANY
    # It holds no lock any more: detaching says who would schedule it.
    states = [asyncio.run(detach(broker, each)).state for each in jobs[:3]]
    assert states == [RunState.FINISHED] * 3


def open_sockets(program: Service) -> int:
    files = Path(f"/proc/{program.pid}/fd").iterdir()
    return sum(file.readlink().name.startswith("socket:") for file in files)


@pytest.mark.usefixtures("aggregator")
def test_a_service_that_reconnects_goes_on_and_waits_for_an_aggregator(site: Site) -> None:

    with proxy(site.broker) as way:
        serving = site.producer(broker=way.broker)
        serving.ready()
        job = gate("cut-off", site.folder, closed_from=FIRST_CHECKPOINT)
        assert detached(site, job).code == 0
        site.reached(job, FIRST_CHECKPOINT / 64)
        assert way.break_all() == 1
        serving.says("trying again")
        eventually(lambda: serving.err.count("adopted run cut-off") == 2, "it is adopted again")
        job.open()
        site.assert_answer(job, site.command("wait", job.run, "--json"))


def test_a_service_without_a_usable_broker_says_so_at_the_start(site: Site) -> None:
    serving = site.producer(broker=replace(site.broker, password="wrong"))  # noqa: S106
    ended = serving.wait()
    assert ended.code == 3
    assert "wrong user or password" in ended.err
    assert ended.out == ""
