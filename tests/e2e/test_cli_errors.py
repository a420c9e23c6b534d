"""Every command that cannot do its work says why, in one sentence, soon, with its exit code."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pika
import pytest

from ops.private_broker import LOOPBACK
from protocol.definition import Lane
from protocol.settings import Broker
from protocol.topology import work_queue
from tests.support.real_broker import remove
from tests.support.stack_processes import Ended
from tests.support.stack_site import Site

SOON = 10.0
AT_ONCE = 5
"""How many are started at the same time, so that none is slow only because of the others."""

ASKING = {
    "run": ("run", "pi", "--samples", "1000"),
    "status": ("status",),
    "results": ("results", "nothing"),
    "cancel": ("cancel", "nothing"),
    "resume": ("resume", "nothing"),
}
SERVICES = {
    "producer": ("producer",),
    "consumer": ("consumer", "--slots", "1"),
    "aggregator": ("aggregator", "--store", "store.sqlite", "--http", "127.0.0.1:0"),
}
PATIENT = {"consumer": SERVICES["consumer"]}
"""Waits for a broker that does not answer yet."""

INIT = {"broker init": ("broker", "init")}


def ended(
    site: Site, commands: dict[str, tuple[str, ...]], broker: Broker
) -> Iterator[tuple[str, Ended]]:
    waiting = iter(commands.items())
    while group := [*islice(waiting, AT_ONCE)]:
        started = [(name, site.start(*words, broker=broker)) for name, words in group]
        for name, program in started:
            yield name, program.wait(SOON)


def assert_one_sentence(name: str, command: Ended, *words: str) -> None:
    """Check exit code 3 and the last line on stderr; only services may have logged before it."""
    assert command.code == 3, f"{name}: {command}"
    assert command.seconds < SOON
    lines = command.err.splitlines()
    assert name in SERVICES or len(lines) == 1, f"{name}: {command.err}"
    assert lines[-1].startswith("montemq: "), f"{name}: {command.err}"
    for word in words:
        assert word in lines[-1], f"{name}: {lines[-1]}"
    assert command.out == ""


def assert_all_say(
    site: Site, commands: dict[str, tuple[str, ...]], broker: Broker, *words: str
) -> None:
    for name, command in ended(site, commands, broker):
        assert_one_sentence(name, command, *words)


def assert_doctor_says(site: Site, broker: Broker, check: str, *words: str) -> None:
    doctor = site.start("doctor", "--json", broker=broker).wait(SOON)
    assert doctor.code == 3, doctor
    wrong = {found["name"]: found["text"] for found in doctor.json if not found["ok"]}
    # Whether the program is on PATH is a matter of this machine.
    assert wrong.keys() - {"program"} == {check}
    for word in words:
        assert word in wrong[check]


def test_without_a_broker_each_command_names_the_address_that_does_not_answer(site: Site) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
    nowhere = replace(site.broker, port=port)
    address = f"amqp://guest@{LOOPBACK}:{port}/"
    impatient = dict((ASKING | SERVICES | INIT).items() - PATIENT.items())
    assert_all_say(site, impatient, nowhere, address)
    assert_doctor_says(site, nowhere, "broker", address)


def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up(site: Site) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        port = silent.getsockname()[1]
        # One command for each way to connect: they share the rest.
        commands = {"run": ASKING["run"], "status": ASKING["status"]}
        commands |= dict(SERVICES.items() - PATIENT.items())
        assert_all_say(site, commands, replace(site.broker, port=port), f":{port}/")


def test_a_wrong_password_is_named_as_such_and_never_shown(site: Site) -> None:
    wrong = replace(site.broker, password="pass-not-word")  # noqa: S106 - it is wrong
    assert_all_say(site, ASKING | SERVICES | INIT, wrong, "'guest'", "password")
    assert_doctor_says(site, wrong, "broker", "'guest'")
    for program in site.programs:
        assert "pass-not-word" not in program.out + program.err


def test_a_missing_virtual_host_is_named(site: Site) -> None:
    missing = replace(site.broker, vhost="nowhere")
    assert_all_say(site, ASKING | SERVICES | INIT, missing, "virtual host 'nowhere'")
    assert_doctor_says(site, missing, "broker", "nowhere")


@pytest.fixture
def bare(broker: Broker) -> Broker:
    """Return a broker without montemq's topology."""
    remove(broker)
    return broker


def test_without_the_topology_each_command_says_how_to_make_it(site: Site, bare: Broker) -> None:
    assert_all_say(site, ASKING | SERVICES, bare, "run `montemq broker init`")
    assert_doctor_says(site, bare, "topology", "mc.results.q", "montemq broker init")
    made = site.command("broker", "init")
    assert made.code == 0
    assert site.command("broker", "init").out == made.out
    site.aggregator().ready()
    assert site.command("status", "--json").json["runs"] == []


def test_a_pool_without_queues_is_named_together_with_the_remedy(site: Site) -> None:
    site.aggregator().ready()
    run = site.command("run", "pi", "--samples", "1000", "--pool", "gpu", "--timeout", "9")
    assert run.code == 3
    assert "`montemq broker init --pool gpu`, then this command again" in run.err.splitlines()[-1]
    # It was not declared either: nobody would ever end it.
    assert site.command("status", "--json").json["runs"] == []
    consumer = site.start("consumer", "--slots", "1", "--pool", "gpu").wait(SOON)
    assert_one_sentence("consumer", consumer, "run `montemq broker init")


@pytest.fixture
def gpu(broker: Broker) -> Iterator[Broker]:
    """Return a broker that forgets the queues of pool `gpu` once the test is over."""
    yield broker
    delete_queues(broker)


def delete_queues(broker: Broker) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        for lane in Lane:
            connection.channel().queue_delete(work_queue("gpu", lane))


def test_a_run_is_not_reopened_while_its_pool_has_no_queue(site: Site, gpu: Broker) -> None:
    site.aggregator().ready()
    site.command("broker", "init", "--pool", "gpu")
    waits = ("--timeout", "1")
    started = site.command("run", "pi", "--id", "kept", "--pool", "gpu", "--samples", "9", *waits)
    assert started.code == 4
    assert site.command("cancel", "kept").code == 0
    delete_queues(gpu)
    resumed = site.command("resume", "kept", *waits)
    assert_one_sentence("resume", resumed, "`montemq broker init --pool gpu`, then this command")
    (run,) = site.command("status", "--json").json["runs"]
    assert run["state"] == "cancelled"
    # Once somebody could compute it, the same command reopens it.
    site.command("broker", "init", "--pool", "gpu")
    assert site.command("resume", "kept", *waits).code == 4
    (run,) = site.command("status", "--json").json["runs"]
    assert run["state"] == "running"


def test_without_an_aggregator_whoever_needs_one_says_so_and_consumers_wait(site: Site) -> None:
    site.consumer().ready()
    assert_all_say(site, ASKING, site.broker, "no aggregator answered", "`montemq aggregator`")
    assert_doctor_says(site, site.broker, "aggregator", "no aggregator answered")


def test_a_result_that_no_reply_can_hold_is_no_wrong_usage(site: Site) -> None:
    (site.folder / "sitecustomize.py").write_text(
        "from protocol.rpc_messages import Results\nResults.limit = 100\n", encoding="ascii"
    )
    (site.folder / "chain.toml").write_text(
        '[campaign]\nid = "desk"\n[runs.pi]\nrun = { model = "pi" }\nstop = { samples = 65_536 }\n',
        encoding="ascii",
    )
    site.aggregator(path=str(site.folder)).ready()
    site.consumer().ready()
    where = "allowed in a reply are 100; the aggregator's page has it, at /api/runs/"
    for arguments, run, code in (
        (("run", "pi", "--samples", "1000", "--id", "large"), "large", 1),
        (("results", "large"), "large", 1),
        (("run", "chain.toml"), "desk-pi", 5),
    ):
        ended = site.command(*arguments)
        assert ended.code == code, ended.err
        assert f"{where}{run}" in ended.err


def test_without_consumers_a_run_says_what_it_waits_for(site: Site) -> None:
    site.aggregator().ready()
    run = site.start("run", "pi", "--samples", "1000", "--id", "waits", "--timeout", "6")
    run.says("no consumer is live in this run's pool, or one is still loading", SOON)
    assert_doctor_says(site, site.broker, "consumers", "0 live")
    status = site.command("status", "--json").json
    assert (status["consumers"], status["slots"]) == (0, 0)
    assert run.wait().code == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("run", "po"), "model = 'po' is not installed; installed are "),
        (("run", ""), "model = '' is not installed; installed are "),
        (("run", "/"), "the run file / cannot be read: Is a directory"),
        (("run", "pi", "--samples", "0"), "montemq: --samples = 0 is not allowed: "),
        (("run", "pi", "--set", "x=1"), "params.x is no parameter of model 'pi', which has none"),
        (("run", "asian", "--set", "volatility=-1"), "params.volatility = -1"),
        (("run", "asian", "--set", "colour=red"), "params.colour is no parameter"),
        (("run", "missing.toml"), "missing.toml cannot be read"),
        (("run", "pi", "--id", "a.b"), "montemq: --id = 'a.b' is not allowed"),
        (("status", "--amqp-url", "http://x"), "the AMQP address must read"),
        (("consumer", "--pool", "No Pool"), "pool = 'No Pool' is not allowed"),
        (("results", "unheard-of"), "run 'unheard-of' is not known"),
        (("cancel", "unheard-of"), "run 'unheard-of' is not known"),
        (("resume", "unheard-of"), "run 'unheard-of' is not known"),
        (("results", "a.b"), "run = 'a.b'"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    asked: Site, words: tuple[str, ...], sentence: str
) -> None:
    command = asked.start(*words).wait(SOON)
    assert command.code == 2
    assert command.err.startswith("montemq: ")
    assert sentence in command.err
    assert command.err.count("\n") == 1
    assert command.out == ""


@pytest.fixture
def asked(site: Site, request: pytest.FixtureRequest) -> Site:
    """Return a site, with an aggregator where the question gets so far."""
    if "unheard-of" in request.node.name:
        site.aggregator().ready()
    return site
