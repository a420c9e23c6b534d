"""Consumers that are told what to do, by signals and from anywhere: they obey and lose nothing."""

import os
import signal
from collections.abc import Callable

import pytest

from protocol.messages import Command, Control, encode
from protocol.origin import host_name
from protocol.settings import HEARTBEAT_SECONDS
from protocol.topology import CONTROL, EVENTS, EVERYBODY, control_key, finished_key
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_hostile import Hostile, hostile, send
from tests.support.stack_jobs import gate
from tests.support.stack_processes import Service, eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS


def name_of(consumer: Service) -> str:
    """Return what a consumer says that it is called."""
    consumer.says(": pool default")
    return consumer.err.partition(": pool default")[0].rpartition(" ")[2]


def test_a_consumer_is_quieted_and_resumed_by_command_and_by_signal_and_drains(site: Site) -> None:
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    job = gate("steered", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    (slot,) = eventually(job.waiting, "the slot computes")
    name, host = name_of(consumer), host_name()

    told = site.command("fleet", "quiet", host)
    assert (told.code, told.out) == (0, f"{name} takes no chunk\n")
    consumer.says(f"suspended: an operator at {host} said so; chunks that run are finished")
    (listed,) = site.command("fleet", "list", "--json").json
    assert (listed["consumer"], listed["suspended"], listed["busy"]) == (name, "quiet", 1)
    assert f"│ {name}" in site.command("fleet", "list").out
    job.open()
    eventually(lambda: site.samples(job.run) == 512, "what ran is finished, and no more")
    assert site.command("fleet", "resume", name).code == 0
    site.assert_answer(job, run.wait())

    os.kill(slot, signal.SIGTSTP)  # as a terminal does, to all processes of a group
    consumer.send(signal.SIGTSTP)
    consumer.says("suspended: SIGTSTP said so")
    eventually(lambda: aggregator.metric("montemq_live_slots") == 0, "it is known that it rests")
    assert not consumer.stopped
    consumer.send(signal.SIGCONT)
    eventually(lambda: aggregator.metric("montemq_live_slots") == 1, "it is known that it works")
    again = gate("again", site.folder)
    site.assert_answer(again, site.run(again).wait())
    assert site.command("fleet", "drain", "--all").code == 0
    assert consumer.wait().code == 0


@pytest.mark.fault("SIGSTOP of a consumer that is told to stop", ANSWER, GOES_ON, MOVES)
def test_it_is_said_who_has_not_heard_and_who_does_not_exist(
    site: Site, seen: Callable[[str], None]
) -> None:
    aggregator, deaf, other = site.aggregator(), site.consumer(), site.consumer()
    for service in (aggregator, deaf, other):
        service.ready()
    job = gate("stopped-from-afar", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(lambda: len(job.waiting()) == 2, "both compute")
    live = "montemq_live_consumers"
    eventually(lambda: aggregator.metric(live) == 2, "both are known")
    nobody = site.command("fleet", "stop", name_of(other), "nobody")
    assert nobody.code == 2
    assert "no live consumer or host is called nobody" in nobody.err
    deaf.send(signal.SIGSTOP)
    told = site.command("fleet", "stop", "--all", "--timeout", "1", "--json")
    deaf.send(signal.SIGCONT)
    assert told.code == 4
    assert told.json == {
        "command": "stop", "heard": [name_of(other)], "not_heard": [name_of(deaf)],
    }  # fmt: skip
    assert f"was heard: {name_of(deaf)}" in told.err
    assert [other.wait().code, deaf.wait().code] == [0, 0]  # it heard it in the end
    eventually(lambda: aggregator.metric(live) == 0, "they are known to be gone")
    job.open()
    site.consumer().ready()
    eventually(lambda: aggregator.metric(live) == 1, "another one has come")
    site.assert_answer(job, run.wait(BEATS))
    seen(f"{live} 2 → 0 → 1")


def test_a_command_that_does_not_come_from_an_operators_exchange_is_refused(site: Site) -> None:
    consumer = site.consumer()
    consumer.ready()
    word = Control(command=Command.STOP, by="x")
    honest = Hostile("nothing but its way", word.type, encode(word), "")
    send(site.broker, EVENTS, finished_key("x"), [honest])
    consumer.says("refused a message from mc.events")
    bad = list(hostile(word))
    send(site.broker, CONTROL, control_key(EVERYBODY), bad)
    refused = "refused a message from mc.control"
    eventually(lambda: consumer.err.count(refused) == len(bad), "all of them are refused")
    assert consumer.running
    assert "stopping" not in consumer.err


def test_a_consumer_that_drains_for_too_long_gives_its_chunks_back(site: Site) -> None:
    site.aggregator().ready()
    consumer = site.consumer(1, "--drain-seconds", "0.5")
    consumer.ready()
    job = gate("drained-too-long", site.folder)
    run = site.run(job, "--chunk-blocks", "1")
    eventually(job.waiting, "the slot computes")
    consumer.send(signal.SIGTERM)
    consumer.says("1 slot still at work after 0.5 s of draining")
    assert consumer.wait().code == 0
    job.open()
    site.consumer().ready()
    site.assert_answer(job, run.wait())
