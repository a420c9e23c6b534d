"""A broker that boots from our definitions: the whole stack works there, and nobody may do more."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from ops.broker_roles import Role
from ops.private_broker import PrivateBroker
from protocol import topology as t
from protocol.definition import Lane
from protocol.messages import CONTENT_TYPE, encode
from protocol.settings import Broker
from tests.conftest import require_rabbitmq
from tests.support.enrolled import answer, channel, enrolled_broker, login, print_definitions
from tests.support.stack_jobs import gate, pi
from tests.support.stack_site import Site

Attempt = Callable[[BlockingChannel], object]
ME, OTHER = "consumer.spare-1", "consumer.spare-2.example"
MINE = pika.BasicProperties(user_id=ME)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("broker")


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[PrivateBroker]:
    require_rabbitmq()
    with enrolled_broker(folder, "spare-1", "spare-2.example") as started:
        yield started


@pytest.fixture
def users(node: PrivateBroker, folder: Path) -> Callable[[str], Broker]:
    return lambda user: login(node, folder, user)


def publish(exchange: str, key: str, **properties: str) -> Attempt:
    def attempt(opened: BlockingChannel) -> None:
        wire = pika.BasicProperties(**properties) if properties else MINE
        opened.basic_publish(exchange, key, b"x", wire, mandatory=True)

    return attempt


def own_queue(opened: BlockingChannel, **arguments: str) -> str:
    declared = opened.queue_declare("", exclusive=True, arguments=arguments)
    return str(declared.method.queue)


def bound(exchange: str, key: str) -> Attempt:
    return lambda opened: opened.queue_bind(own_queue(opened), exchange, key)


WORK_QUEUE = t.work_queue("default", Lane.NORMAL)
DENIED = "403 ACCESS_REFUSED - access to"
TOPIC = "403 ACCESS_REFUSED - access to topic"

REFUSED = {
    "publish a chunk": (publish(t.WORK, "default.normal"), f"{DENIED} exchange 'mc.work'"),
    "publish a chunk past the exchange": (
        publish("", WORK_QUEUE),
        f"{DENIED} exchange 'amq.default'",
    ),
    "publish a chunk as a dead letter of its own queue": (
        lambda c: own_queue(c, **{"x-dead-letter-exchange": t.WORK}),
        f"{DENIED} exchange 'mc.work'",
    ),
    "send another machine's results": (
        publish(t.RESULTS, t.partial_key(OTHER)),
        f"{TOPIC} 'partial.{OTHER}' in exchange 'mc.results'",
    ),
    "send another machine's failures": (
        publish(t.RESULTS, t.failure_key(OTHER)),
        f"{TOPIC} 'failure.{OTHER}' in exchange 'mc.results'",
    ),
    "say in a result that it is another user": (
        publish(t.RESULTS, t.partial_key(ME), user_id=OTHER),
        f"406 PRECONDITION_FAILED - user_id property set to '{OTHER}' but authenticated user was",
    ),
    "send another machine's heartbeat": (
        publish(t.TELEMETRY, OTHER),
        f"{TOPIC} '{OTHER}' in exchange 'mc.telemetry'",
    ),
    "read the results": (
        lambda c: c.basic_get(t.RESULTS_QUEUE),
        f"{DENIED} queue 'mc.results.q'",
    ),
    "purge the results": (
        lambda c: c.queue_purge(t.RESULTS_QUEUE),
        f"{DENIED} queue 'mc.results.q'",
    ),
    "bind the results to its own queue": (
        bound(t.RESULTS, "#"),
        f"{DENIED} exchange 'mc.results'",
    ),
    "bind the work to its own queue": (
        bound(t.WORK, "default.normal"),
        f"{DENIED} exchange 'mc.work'",
    ),
    "hear who asks what": (bound(t.RPC, t.RPC_KEY), f"{DENIED} exchange 'mc.rpc'"),
    "hear more than the ends of runs": (
        bound(t.EVENTS, "run.*.progress"),
        f"{TOPIC} 'run.*.progress' in exchange 'mc.events'",
    ),
    "call RPC": (publish(t.RPC, t.RPC_KEY), f"{DENIED} exchange 'mc.rpc'"),
    "tell of a run's end": (
        publish(t.EVENTS, t.finished_key("r")),
        f"{DENIED} exchange 'mc.events'",
    ),
    "command the fleet": (publish(t.CONTROL, "fleet.h"), f"{DENIED} exchange 'mc.control'"),
    "declare a queue by name": (
        lambda c: c.queue_declare("mine", exclusive=True),
        f"{DENIED} queue 'mine'",
    ),
    "declare a queue by a name that looks server-made": (
        lambda c: c.queue_declare("amq.gen-mine", exclusive=True),
        "403 ACCESS_REFUSED - queue name 'amq.gen-mine' contains reserved prefix 'amq.*'",
    ),
    "take the aggregator's lock": (
        lambda c: c.queue_declare(t.AGGREGATOR_LOCK, exclusive=True),
        f"{DENIED} queue 'mc.aggregator'",
    ),
    "declare an exchange": (
        lambda c: c.exchange_declare("mine", "topic"),
        f"{DENIED} exchange 'mine'",
    ),
    "delete a work queue": (lambda c: c.queue_delete(WORK_QUEUE), f"{DENIED} queue '{WORK_QUEUE}'"),
    "delete the results": (
        lambda c: c.queue_delete(t.RESULTS_QUEUE),
        f"{DENIED} queue 'mc.results.q'",
    ),
    "delete an exchange": (
        lambda c: c.exchange_delete(t.RESULTS),
        f"{DENIED} exchange 'mc.results'",
    ),
    "put work aside": (
        lambda c: c.queue_unbind(WORK_QUEUE, t.WORK, "default.normal"),
        f"{DENIED} queue '{WORK_QUEUE}'",
    ),
    "read the store's identity": (
        lambda c: c.basic_get(t.STORE_QUEUE),
        f"{DENIED} queue 'mc.store.q'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_consumer_can_not(name: str, users: Callable[[str], Broker]) -> None:
    attempt, expected = REFUSED[name]
    assert answer(users(ME), attempt).startswith(expected)


ALLOWED = {
    "take chunks": lambda c: c.basic_get(WORK_QUEUE),
    "send its own telemetry": publish(t.TELEMETRY, ME),
    "hear the ends of runs": bound(t.EVENTS, t.finished_key("*")),
    "hear that it is refused": bound(t.EVENTS, t.refused_key("spare-1")),
    "hear commands": bound(t.CONTROL, "fleet.spare-1"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_consumer_can(name: str, users: Callable[[str], Broker]) -> None:
    assert answer(users(ME), ALLOWED[name]) == ""


OTHERS = {
    (Role.PRODUCER, "read results"): lambda c: c.basic_get(t.RESULTS_QUEUE),
    (Role.PRODUCER, "send results"): publish(t.RESULTS, "partial.producer", user_id="producer"),
    (Role.PRODUCER, "take chunks"): lambda c: c.basic_get(WORK_QUEUE),
    (Role.PRODUCER, "put work aside"): lambda c: c.queue_unbind(
        WORK_QUEUE, t.WORK, "default.normal"
    ),
    (Role.PRODUCER, "make work of events"): lambda c: c.queue_bind(WORK_QUEUE, t.EVENTS, "#"),
    (Role.PRODUCER, "delete a work queue"): lambda c: c.queue_delete(WORK_QUEUE),
    (Role.PRODUCER, "command the fleet"): publish(t.CONTROL, "fleet.h", user_id="producer"),
    (Role.PRODUCER, "take the aggregator's lock"): lambda c: c.queue_declare(
        t.AGGREGATOR_LOCK, exclusive=True
    ),
    (Role.PRODUCER, "delete a queue"): lambda c: c.queue_delete(t.RESULTS_QUEUE),
    (Role.OPERATOR, "publish chunks"): publish(t.WORK, "default.normal", user_id="operator"),
    (Role.OPERATOR, "read results"): lambda c: c.basic_get(t.RESULTS_QUEUE),
    (Role.OPERATOR, "schedule runs"): lambda c: c.queue_declare(t.PRODUCER_LOCK, exclusive=True),
    (Role.AGGREGATOR, "publish chunks"): publish(t.WORK, "default.normal", user_id="aggregator"),
    (Role.AGGREGATOR, "send results"): publish(t.RESULTS, "partial.a", user_id="aggregator"),
    (Role.AGGREGATOR, "take chunks"): lambda c: c.basic_get(WORK_QUEUE),
    (Role.AGGREGATOR, "command the fleet"): publish(t.CONTROL, "fleet.h", user_id="aggregator"),
}


@pytest.mark.parametrize(("role", "what"), OTHERS)
def test_another_role_can_not(role: Role, what: str, users: Callable[[str], Broker]) -> None:
    assert answer(users(role), OTHERS[role, what]).startswith(DENIED)


def test_a_producer_tells_how_its_runs_go_under_its_own_name_only(
    users: Callable[[str], Broker],
) -> None:
    mine = publish(t.TELEMETRY, "producer", user_id="producer")
    assert answer(users("producer"), mine) == ""
    other = publish(t.TELEMETRY, ME, user_id="producer")
    assert answer(users("producer"), other).startswith(TOPIC)


def test_the_operator_alone_commands_the_fleet(users: Callable[[str], Broker]) -> None:
    with channel(users(ME)) as consumer, channel(users("operator")) as operator:
        queue = own_queue(consumer)
        consumer.queue_bind(queue, t.CONTROL, "fleet.spare-1")
        operator.basic_publish(t.CONTROL, "fleet.spare-1", b"quiet", mandatory=True)
        assert consumer.basic_get(queue, auto_ack=True)[2] == b"quiet"


def test_the_whole_stack_works_with_these_users(
    users: Callable[[str], Broker], tmp_path: Path, plugin: None
) -> None:
    del plugin
    job = pi("least-privilege")
    with Site(users("aggregator"), tmp_path) as site:
        aggregator, service = site.aggregator(), site.producer(broker=users("producer"))
        consumer = site.consumer(broker=users(ME))
        for part in (aggregator, service, consumer):
            part.ready()
        site.assert_answer(job, site.run(job, broker=users("producer")).wait())
        standby = site.aggregator()
        standby.ready()
        asked = site.command("status", "--json", broker=users("operator"))
        assert asked.code == 0, asked.err
        seen = site.command("top", "--json", broker=users("operator"))
        assert seen.code == 0, seen.err
        waiting = gate("waiting", tmp_path, closed_from=1)
        assert site.run(waiting, "--detach", broker=users("producer")).wait().code == 0
        forged = encode(waiting.partial())
        with channel(users(ME)) as opened:
            properties = pika.BasicProperties(type="partial.v1", content_type=CONTENT_TYPE)
            opened.basic_publish(t.RESULTS, t.partial_key(ME), forged, properties, mandatory=True)
        aggregator.says(f"user '{ME}' does not speak for host 'test'")
        waiting.open()
        detached = pi("detached", seed=2)
        submitted = site.run(detached, "--detach", broker=users("producer")).wait()
        assert submitted.code == 0, submitted.err
        waited = site.command("wait", "detached", "--json", broker=users("operator"))
        site.assert_answer(detached, waited)
        for role in ("producer", "operator", "aggregator", ME):
            looked = site.command("doctor", broker=users(role))
            assert looked.code == 0, looked.out
        denied = site.command("status", broker=users(ME))
        assert denied.code == 3
        assert f"denies user '{ME}' a permission" in denied.err


def test_guest_does_not_exist(node: PrivateBroker) -> None:
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(replace(node.broker, user="guest").url))


def test_a_queue_that_a_consumer_leaves_behind_is_bounded_and_expires(
    node: PrivateBroker, users: Callable[[str], Broker]
) -> None:
    with channel(users(ME)) as opened:
        queue = opened.queue_declare("", durable=True).method.queue
    control = node.directory.control()
    [policy] = json.loads(
        control.run("list_operator_policies", "-p", "montemq", "--formatter", "json")
    )
    assert re.search(policy["pattern"], queue)
    assert json.loads(policy["definition"])["expires"] == 600_000
    control.run("delete_queue", "-p", "montemq", queue)


def test_passwords_are_kept_private_and_never_printed(tmp_path: Path) -> None:
    first = print_definitions(tmp_path, "spare-1", rabbitmq="4")
    files = {path.name: path.read_text().strip() for path in (tmp_path / "passwords").iterdir()}
    assert sorted(files) == [
        "aggregator.password",
        "consumer.spare-1.password",
        "operator.password",
        "producer.password",
    ]
    assert len(set(files.values())) == 4
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "passwords").iterdir()} == {0o600}
    assert not any(password in first for password in files.values())
    second = print_definitions(tmp_path, "spare-1", rabbitmq="4")
    assert {p.name: p.read_text().strip() for p in (tmp_path / "passwords").iterdir()} == files
    salted = [[u["password_hash"] for u in json.loads(text)["users"]] for text in (first, second)]
    assert not set(salted[0]) & set(salted[1])


def test_definitions_hold_the_whole_topology_and_match_the_release(tmp_path: Path) -> None:
    old = json.loads(print_definitions(tmp_path, "h", rabbitmq="3.10"))
    new = json.loads(print_definitions(tmp_path, "h", rabbitmq="4"))
    wanted = t.topology()
    for found in (old, new):
        assert {q["name"] for q in found["queues"]} == {q.name for q in wanted.queues}
        assert {e["name"] for e in found["exchanges"]} == {e.name for e in wanted.exchanges}
        assert len(found["bindings"]) == len(wanted.bindings)
    assert "consumer-timeout" not in json.dumps(old)  # 3.10 refuses it, and would not boot
    assert new["policies"][0]["definition"] == {"consumer-timeout": 1_800_000}


def test_patterns_match_whole_names_only(tmp_path: Path) -> None:
    found = json.loads(print_definitions(tmp_path, "a.b"))
    mine = next(p for p in found["permissions"] if p["user"] == "consumer.a.b")
    for pattern in (mine["configure"], mine["write"], mine["read"]):
        for name in ("", "mc.results.q", "x-mc.results", "mc.work", "amq.default", "mcxresults"):
            assert not re.search(pattern, name)
    topics = next(p for p in found["topic_permissions"] if p["exchange"] == t.RESULTS)
    assert re.search(topics["write"], "partial.consumer.a.b")
    assert not re.search(topics["write"], "partial.consumer.aXb")
