"""`montemq top` on a real stack: one snapshot without a terminal, live on a pseudo-terminal."""

import signal
from collections.abc import Iterator

import pytest

from protocol.result_texts import with_error
from protocol.settings import Broker
from tests.support.stack_jobs import GateJob, gate
from tests.support.stack_processes import Program, Service, eventually
from tests.support.stack_proxy import proxy
from tests.support.stack_site import Site
from tests.support.stack_terminal import Terminal, terminal

ENTERED = "\x1b[?1049h"
"""The terminal's second screen is shown."""


@pytest.fixture
def aggregator(site: Site) -> Service:
    """Return the aggregator of a site with one consumer."""
    started, consumer = site.aggregator(), site.consumer()
    started.ready()
    consumer.ready()
    return started


@pytest.fixture
def job(site: Site, aggregator: Service) -> GateJob:
    """Return a run that is stuck at an eighth."""
    del aggregator
    job = gate("stuck", site.folder, closed_from=8)
    site.run(job, "--chunk-blocks", "1")
    site.reached(job, 8 / 64)
    eventually(job.waiting, "a chunk is at work")
    return job


@pytest.fixture
def tty(site: Site) -> Iterator[Terminal]:
    """Return a terminal that outlives what was started on it."""
    with terminal() as made:
        yield made
        site.close()


def shown(tty: Terminal, *texts: str) -> None:
    eventually(lambda: tty.shows(*texts), lambda: f"{texts} in one line of {tty.text[-4000:]}")


def live(site: Site, tty: Terminal, *options: str, broker: Broker | None = None) -> Program:
    program = site.on_terminal(tty, "top", "--interval", "0.2", *options, broker=broker)
    shown(tty, "stuck", "12.5%")
    return program


def test_without_a_terminal_there_is_one_snapshot(site: Site, job: GateJob) -> None:
    estimate = site.command("results", job.run, "--json").json["cells"][0]["outputs"]["mean"]
    (consumer,) = site.command("top", "--json").json["consumers"]
    ended = site.command("top")
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    lines = ended.out.splitlines()
    (run,) = [line for line in lines if line.startswith(job.run)]
    for text in ("running", "gate", "12.5%", "4,096"):
        assert text in run
    assert f"mean {with_error(estimate['mean'], estimate['standard_error'])}" in run
    (row,) = [line.split() for line in lines if line.startswith(consumer["consumer"])]
    assert row[1:6] == [consumer["host"], "default", "running", "1", "1"]


def test_a_snapshot_as_json_has_all_of_it(site: Site, job: GateJob) -> None:
    def stands() -> bool:
        told = site.command("top", "--json").json
        (run,), (consumer,) = told["runs"], told["consumers"]
        return bool(consumer["busy"]) and run["samples_per_second"] == 0

    eventually(stands, "the consumer is busy, and the run is seen to stand still")
    found = site.command("top", "--json").json
    result = site.command("results", job.run, "--json").json
    (run,) = found["runs"]
    assert (run["run"], run["state"], run["samples"]) == (job.run, "running", 8 * 512)
    assert (run["samples_per_second"], run["seconds_left"]) == (0.0, None)
    estimate = result["cells"][0]["outputs"]["mean"]
    assert run["headline"] == {
        "output": "mean", "mean": estimate["mean"], "standard_error": estimate["standard_error"]
    }  # fmt: skip
    (consumer,) = found["consumers"]
    assert (consumer["slots"], consumer["busy"], consumer["state"]) == (1, 1, "running")
    assert 0 <= found["clock"] - consumer["last_seen"] < 8
    assert (found["total_runs"], found["total_consumers"], found["slots"]) == (1, 1, 1)


def test_a_consumer_that_was_killed_stays_in_sight_and_does_nothing_any_more(site: Site) -> None:
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()

    def told(state: str) -> bool:
        (one,) = site.command("top", "--json").json["consumers"]
        return one["state"] == state and (one["samples_per_second"] is None) is (state == "lost")

    eventually(lambda: told("running"), "it tells how fast it is")
    consumer.kill()
    eventually(lambda: told("lost"), "it is told of as lost")
    assert (
        site.command("top").out.splitlines()[0]
        == "montemq: no run, 0 consumers with 0 slots, 0 busy"
    )
    assert site.command("fleet", "list", "--json").json == []


def test_without_an_aggregator_it_says_so_and_ends_with_3(site: Site) -> None:
    ended = site.command("top", "--json")
    assert (ended.code, ended.out) == (3, "")
    assert "no aggregator answered" in ended.err


def test_on_a_terminal_without_an_aggregator_it_says_so_as_well(site: Site, tty: Terminal) -> None:
    ended = site.on_terminal(tty, "top").wait()
    assert ended.code == 3
    assert "no aggregator answered" in ended.err
    assert tty.text == ""


@pytest.mark.usefixtures("job")
def test_a_terminal_that_can_do_nothing_gets_one_snapshot(site: Site, tty: Terminal) -> None:
    ended = site.on_terminal(tty, "top", kind="dumb").wait()
    assert (ended.code, ended.err) == (0, "")
    eventually(lambda: "stuck" in tty.text, "the run is shown")
    assert "\x1b" not in tty.text


@pytest.mark.usefixtures("job")
def test_what_changes_on_the_terminal_is_drawn_without_waiting_for_another_look(
    site: Site, tty: Terminal
) -> None:
    program = site.on_terminal(tty, "top", "--interval", "3600", "--sort", "rate")
    shown(tty, "now by: rate")
    tty.resize(70, 12)
    eventually(lambda: len(tty.lines) == 12, "the screen has shrunk")
    tty.press("\x1a")
    eventually(lambda: program.stopped, "it has stopped")
    program.send(signal.SIGCONT)
    # Drawn again: a key that comes before is the terminal's, which forgets it.
    eventually(lambda: "stuck" in "".join(tty.text.split(ENTERED)[2:]), "it is drawn again")
    tty.press("q")
    assert program.wait().code == 0


def test_a_live_screen_follows_a_run_to_its_end_and_q_ends_it(
    site: Site, job: GateJob, tty: Terminal
) -> None:
    program = live(site, tty)
    assert tty.lines[0].startswith("montemq: 1 run going on, 1 consumer with 1 slot")
    tty.press("s")
    shown(tty, "now by: done")
    tty.resize(70, 12)
    eventually(lambda: len(tty.lines) == 12, "the screen has shrunk")
    assert max(map(len, tty.lines)) <= 70
    tty.resize(120, 30)
    job.open()
    shown(tty, "stuck", "finished", "100.0%")
    estimate = site.command("results", job.run, "--json").json["cells"][0]["outputs"]["mean"]
    shown(tty, "stuck", with_error(estimate["mean"], estimate["standard_error"]))
    tty.press("q")
    ended = program.wait()
    assert (ended.code, ended.err) == (0, "")
    eventually(lambda: tty.is_left, "the first screen is back")


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("how", ["Ctrl-C", signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_signals_end_it_cleanly(
    site: Site, tty: Terminal, how: signal.Signals | str
) -> None:
    program = live(site, tty)
    if isinstance(how, signal.Signals):
        program.send(how)
    else:
        tty.press("\x03")
    ended = program.wait()
    assert (ended.code, ended.err) == (0, "")
    eventually(lambda: tty.is_left, "the first screen is back")


@pytest.mark.usefixtures("job")
def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(site: Site, tty: Terminal) -> None:
    program = live(site, tty)
    tty.press("\x1a")
    eventually(lambda: program.stopped, "it has stopped")
    eventually(lambda: tty.is_left and tty.echoes, "the terminal is as before")
    program.send(signal.SIGCONT)
    eventually(lambda: not tty.is_left and not tty.echoes, "it has its screen again")
    shown(tty, "stuck", "12.5%")
    tty.press("q")
    assert program.wait().code == 0


@pytest.mark.usefixtures("job")
def test_it_outlives_the_aggregator_and_says_in_one_line_what_is_wrong(
    site: Site, tty: Terminal, aggregator: Service
) -> None:
    program = live(site, tty)
    aggregator.kill()
    shown(tty, "as of ", "trying again: no aggregator answered")
    assert tty.shows("stuck", "12.5%")
    site.aggregator().ready()
    eventually(lambda: not tty.shows("trying again"), "it is told again")
    shown(tty, "stuck", "12.5%")
    tty.press("q")
    ended = program.wait()
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.usefixtures("job")
def test_it_outlives_a_lost_connection(site: Site, tty: Terminal, broker: Broker) -> None:
    with proxy(broker) as between:
        program = live(site, tty, broker=between.broker)
        assert between.break_all() == 1
        shown(tty, "as of ", "trying again")
        eventually(lambda: not tty.shows("trying again"), "it is told again")
        shown(tty, "stuck", "12.5%")
        tty.press("q")
        ended = program.wait()
    assert (ended.code, ended.err) == (0, "")
