"""A run from its declaration to its end: again, taken, cancelled, failed, interrupted, resumed."""

import signal
from pathlib import Path

import pika
import pytest

from protocol.definition import Lane
from protocol.settings import Broker
from protocol.topology import WORK, work_key
from tests.support.stack_jobs import gate, pi
from tests.support.stack_processes import Ended, Service, eventually
from tests.support.stack_site import Site


@pytest.fixture
def aggregator(site: Site) -> Service:
    """Return the aggregator of a site with one consumer."""
    started, consumer = site.aggregator(), site.consumer()
    started.ready()
    consumer.ready()
    return started


def sentence(command: Ended) -> str:
    line = [line for line in command.err.splitlines() if line][-1]
    assert line.startswith("montemq: ")
    return line


def merged(aggregator: Service) -> float:
    """Return how many samples were merged."""
    return aggregator.metric("montemq_merged_samples_total")


def test_the_same_id_and_definition_gives_the_finished_result_without_new_work(
    site: Site, aggregator: Service, broker: Broker
) -> None:
    job = pi("again", blocks=64)
    first = site.assert_answer(job, site.run(job).wait())
    before, received = site.contents(), results_received(aggregator)
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        chunks = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(chunks, WORK, work_key("default", Lane.NORMAL))
        for command in (site.run(job).wait(), site.command("results", job.run, "--json")):
            assert command.code == 0
            assert command.json == first
        assert channel.queue_declare(chunks, passive=True).method.message_count == 0
    assert results_received(aggregator) == received
    assert site.contents() == before


def results_received(aggregator: Service) -> float:
    return aggregator.metric('montemq_messages_received_total{queue="mc.results.q"}')


def test_the_id_of_a_finished_run_with_another_definition_exits_6_and_changes_nothing(
    site: Site, aggregator: Service
) -> None:
    job = pi("taken", blocks=64)
    site.assert_answer(job, site.run(job).wait())
    before = site.contents()
    assert_taken(site)
    assert site.contents() == before
    assert aggregator.running


@pytest.mark.usefixtures("aggregator")
def test_the_id_of_a_running_run_with_another_definition_exits_6_and_disturbs_nothing(
    site: Site,
) -> None:
    job = gate("taken", site.folder)
    run = site.run(job)
    eventually(job.waiting, "it runs")
    assert_taken(site)
    job.open()
    site.assert_answer(job, run.wait())


def assert_taken(site: Site) -> None:
    other = site.command("run", "pi", "--id", "taken", "--seed", "2", "--samples", "1000")
    assert other.code == 6
    assert "run id 'taken' names another definition" in sentence(other)
    assert other.out == ""


def test_a_cancelled_run_exits_7_and_resume_goes_on_to_the_undisturbed_digest(
    site: Site, aggregator: Service
) -> None:
    job = gate("cancelled", site.folder, closed_from=8)
    run = site.run(job, "--chunk-blocks", "1")
    site.reached(job, 8 / 64)
    assert site.command("cancel", job.run, "--json").json == {
        "run": job.run, "state": "cancelled",
    }  # fmt: skip
    followed = run.wait()
    assert followed.code == 7
    assert "was cancelled" in sentence(followed)
    assert site.run(job).wait().code == 7
    kept = site.command("results", job.run, "--json").json
    assert (kept["state"], kept["samples"], kept["digest"]) == ("cancelled", 8 * 512, None)
    assert kept["reproducible"] is False
    resumed = site.start("resume", job.run, "--json")
    resumed.says(job.run)
    job.open()
    site.assert_answer(job, resumed.wait())
    assert merged(aggregator) == job.samples


def test_a_failing_model_exits_5_and_names_the_first_error(site: Site, aggregator: Service) -> None:
    run = site.command("run", "failing", "--id", "fails", "--samples", "1024", "--seed", "1")
    assert run.code == 5
    first = "model_error on "
    error = "ValueError: the market is closed for 512 samples of Generator"
    assert first in sentence(run)
    assert error in sentence(run)
    assert "cell 0, block 0" in sentence(run)
    shown = site.command("results", "fails", "--json").json
    assert shown["state"] == "failed"
    assert error in shown["error"]
    (status,) = site.command("status", "fails", "--json").json["runs"]
    assert error in status["error"]
    assert aggregator.metric('montemq_failures_total{kind="model_error"}') >= 3


def test_a_model_that_no_consumer_has_fails_the_run_with_a_clear_sentence(site: Site) -> None:
    site.aggregator().ready()
    for consumer in [site.consumer(plugin=False) for _ in range(2)]:
        consumer.ready()
    folder = str(site.folder)
    run = site.command("run", "gate", "--set", f"folder={folder}", "--samples", "4096")
    assert run.code == 5
    assert "no consumer of pool 'default' can compute it" in sentence(run)
    assert "model = 'gate' is not installed" in sentence(run)


def test_a_consumer_without_the_model_does_not_fail_a_run_that_another_can_compute(
    site: Site,
) -> None:
    site.aggregator().ready()
    able, unable = site.consumer(), site.consumer(plugin=False)
    able.ready()
    unable.ready()
    job = gate("one-can", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    unable.says("model = 'gate' is not installed")
    job.open()
    site.assert_answer(job, run.wait())


@pytest.mark.usefixtures("aggregator")
def test_a_timeout_exits_4_and_the_same_command_goes_on(site: Site) -> None:
    job = gate("timed-out", site.folder, closed_from=8)
    late = site.run(job, "--chunk-blocks", "1", "--timeout", "2").wait()
    assert late.code == 4
    assert "the same command goes on from there" in sentence(late)
    assert site.samples(job.run) == 8 * 512
    job.open()
    site.assert_answer(job, site.run(job, "--chunk-blocks", "1").wait())


@pytest.mark.usefixtures("aggregator")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_producer_says_how_to_go_on_and_resume_gives_the_undisturbed_digest(
    site: Site, number: signal.Signals
) -> None:
    job = gate("interrupted", site.folder, closed_from=8)
    run = site.run(job, "--chunk-blocks", "3")
    site.reached(job, 6 / 64)
    eventually(job.waiting, "a block waits")
    run.send(number)
    stopped = run.wait()
    assert stopped.code == 130
    assert sentence(stopped) == (
        "montemq: stopped following; run 'interrupted' keeps what is merged, but nobody schedules "
        "it now: start `montemq producer`, go on with `montemq resume interrupted`, or end it with "
        "`montemq cancel interrupted`"
    )
    assert stopped.out == ""
    job.open()
    site.assert_answer(job, site.command("resume", job.run, "--json"))


@pytest.mark.usefixtures("aggregator")
def test_a_second_producer_follows_and_takes_the_lead_when_the_first_is_killed(
    site: Site,
) -> None:
    job = gate("led", site.folder, closed_from=8)
    leader = site.run(job, "--chunk-blocks", "1")
    site.reached(job, 8 / 64)
    follower = site.run(job, "--chunk-blocks", "1")
    follower.says(job.run)
    leader.kill()
    job.open()
    site.assert_answer(job, follower.wait())


@pytest.mark.usefixtures("aggregator")
def test_resume_of_a_finished_run_prints_its_result(site: Site, tmp_path: Path) -> None:
    job = pi("finished", blocks=64)
    first = site.run(job).wait()
    again = site.command("resume", job.run, "--json")
    assert again.json == first.json
    assert (tmp_path / "store.sqlite").exists()
