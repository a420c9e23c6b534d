"""What Ctrl-C, a cancelled run and a wiped broker do to those who follow a run."""

import signal
import socket
from dataclasses import replace

import pytest

from ops.private_broker import LOOPBACK
from protocol import topology
from protocol.settings import Broker
from tests.support.real_broker import remove, waiting
from tests.support.stack_jobs import GateJob, gate, pi
from tests.support.stack_processes import Program, Service, eventually
from tests.support.stack_site import Site


@pytest.fixture
def aggregator(site: Site) -> Service:
    """Return the aggregator of a site with one consumer."""
    started, consumer = site.aggregator(), site.consumer()
    started.ready()
    consumer.ready()
    return started


def half_done(site: Site, run: str, *options: str) -> tuple[GateJob, Program]:
    job = gate(run, site.folder, closed_from=8)
    program = site.run(job, "--chunk-blocks", "1", *options)
    site.reached(job, 8 / 64)
    return job, program


def state(site: Site, run: str) -> str:
    (status,) = site.command("status", run, "--json").json["runs"]
    return str(status["state"])


def test_who_is_interrupted_before_anything_was_declared_is_not_told_to_resume(site: Site) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        nowhere = replace(site.broker, port=silent.getsockname()[1])
        run = site.start("run", "pi", "--id", "early", broker=nowhere)
        silent.settimeout(40)
        with silent.accept()[0]:
            run.send(signal.SIGINT)
            ended = run.wait()
    assert ended.code == 130
    assert ended.err == "montemq: interrupted before run 'early' was declared\n"


def test_who_is_interrupted_before_the_answer_is_told_how_to_find_out(site: Site) -> None:
    run = site.start("run", "pi", "--id", "asked")
    eventually(lambda: waiting(site.broker, topology.RPC_QUEUE), "the request waits")
    run.send(signal.SIGINT)
    ended = run.wait()
    assert ended.code == 130
    assert ended.err == (
        "montemq: interrupted before the aggregator answered; `montemq status asked` says "
        "whether run 'asked' was declared\n"
    )


@pytest.mark.usefixtures("aggregator")
def test_cancel_on_interrupt_cancels_and_exits_7(site: Site) -> None:
    job, run = half_done(site, "stopped", "--cancel-on-interrupt", "--quiet")
    run.send(signal.SIGINT)
    ended = run.wait()
    assert ended.code == 7
    assert ended.err == (
        "montemq: run 'stopped' was cancelled; `montemq resume stopped` takes it up again\n"
    )
    assert state(site, job.run) == "cancelled"


def test_a_second_interruption_ends_at_once(site: Site, aggregator: Service) -> None:
    _, run = half_done(site, "twice", "--cancel-on-interrupt")
    aggregator.kill()
    run.send(signal.SIGINT)
    eventually(lambda: waiting(site.broker, topology.RPC_QUEUE), "it wants to cancel")
    run.send(signal.SIGINT)
    ended = run.wait()
    assert ended.code == 130
    assert ended.err.endswith(
        "montemq: run 'twice' may go on: end it with `montemq cancel twice`\n"
    )
    assert "cancelled" not in ended.err


def test_an_interruption_that_cannot_cancel_says_so(site: Site, aggregator: Service) -> None:
    _, run = half_done(site, "kept", "--cancel-on-interrupt")
    aggregator.kill()
    run.send(signal.SIGINT)
    ended = run.wait()
    assert ended.code == 130
    assert "run 'kept' is not cancelled: no aggregator answered" in ended.err
    assert "end it with `montemq cancel kept`" in ended.err


def test_a_cancelled_run_stays_so_over_restarts_and_only_the_chunks_at_work_are_finished(
    site: Site, aggregator: Service
) -> None:
    job, run = half_done(site, "over")
    eventually(job.waiting, "a chunk is at work")
    assert site.command("cancel", job.run).code == 0
    assert run.wait().code == 7
    aggregator.kill()
    again = site.aggregator()
    again.ready()
    assert state(site, job.run) == "cancelled"
    job.open()
    other = pi("next", blocks=8)
    site.assert_answer(other, site.run(other).wait())
    assert site.samples(job.run) == 8 * 512
    # The slot may have finished the one chunk that it was computing, and nothing else.
    assert again.metric('montemq_results_total{outcome="late"}') <= 1
    assert waiting(site.broker, "mc.work.default.normal.q") == 0


@pytest.mark.usefixtures("aggregator")
def test_a_run_outlives_a_broker_that_is_wiped_and_set_up_again(site: Site, broker: Broker) -> None:
    job, run = half_done(site, "wiped")
    remove(broker)
    run.says("trying again")
    assert site.command("broker", "init").code == 0
    job.open()
    site.assert_answer(job, run.wait(90))


def test_a_quiet_run_without_a_consumer_says_so_and_why_it_timed_out(site: Site) -> None:
    site.aggregator().ready()
    ended = site.run(pi("alone", blocks=8), "--quiet", "--timeout", "2").wait()
    assert ended.code == 4
    nobody = (
        "no consumer is live in this run's pool, or one is still loading or suspended; "
        "start `montemq consumer`"
    )
    assert ended.err.splitlines() == [
        f"waiting: {nobody}",
        (
            f"montemq: run 'alone' is not finished after 2 s: {nobody}; "
            "what is merged is kept, the same command goes on from there"
        ),
    ]


def test_a_timed_out_run_whose_id_was_made_up_is_named_to_go_on_with(site: Site) -> None:
    site.aggregator().ready()
    ended = site.command("run", "pi", "--samples", "4096", "--quiet", "--timeout", "2")
    assert ended.code == 4
    (known,) = site.command("status", "--json").json["runs"]
    run = known["run"]
    assert ended.err.splitlines()[-1].endswith(
        "; it keeps what is merged, but nobody schedules it now: start `montemq producer`, "
        f"go on with `montemq resume {run}`, or end it with `montemq cancel {run}`"
    )


def test_a_run_that_timed_out_before_the_broker_answered_was_not_declared(site: Site) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        nowhere = replace(site.broker, port=silent.getsockname()[1])
        ended = site.start("run", "pi", "--timeout", "1", broker=nowhere).wait()
    assert ended.code == 4
    assert ended.err.endswith(" is not finished after 1 s; it was not declared\n")


def test_a_run_that_timed_out_before_an_aggregator_answered_says_that_none_did(site: Site) -> None:
    ended = site.command("run", "pi", "--id", "nobody", "--timeout", "2")
    assert ended.code == 3
    assert f"no aggregator answered at {site.broker} within 2 s" in ended.err
    assert "not finished" not in ended.err


@pytest.mark.usefixtures("aggregator")
def test_a_run_that_has_ended_shows_no_progress(site: Site) -> None:
    job = pi("over", blocks=8)
    site.assert_answer(job, site.run(job).wait())
    for command in (site.run(job).wait(), site.command("wait", job.run, "--json")):
        assert (command.code, command.err) == (0, "")


@pytest.mark.usefixtures("aggregator")
def test_a_quiet_run_prints_its_result_and_nothing_else(site: Site) -> None:
    job = pi("quiet", blocks=8)
    ended = site.run(job, "--quiet").wait()
    site.assert_answer(job, ended)
    assert ended.err == ""
    table = site.command("resume", job.run, "--quiet")
    assert (table.code, table.err) == (0, "")
    assert job.digest in table.out
