"""Poison: messages that a client library, or the next start, must survive, not only a decoder."""

from collections.abc import Callable

import pytest

from protocol.definition import Lane
from protocol.messages import StoreIdentity, encode
from protocol.topology import (
    DEAD,
    EVENTS,
    RESULTS,
    RPC,
    RPC_KEY,
    STORE_QUEUE,
    TELEMETRY,
    WORK,
    partial_key,
    work_key,
)
from tests.support.fault_table import ANSWER, MOVES, REFUSED
from tests.support.stack_hostile import NOT_UTF8, Hostile, send
from tests.support.stack_jobs import gate
from tests.support.stack_processes import eventually
from tests.support.stack_site import Site

REJECTED = "montemq_messages_rejected_total"
BY_CONSUMERS = "montemq_host_messages_rejected_total"

Seen = Callable[[str], None]


@pytest.mark.fault("Properties that are no UTF-8, on every exchange", ANSWER, REFUSED, MOVES)
@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        (RESULTS, partial_key("guest")),
        (TELEMETRY, "guest"),
        (RPC, RPC_KEY),
        (DEAD, ""),
        (WORK, work_key("default", Lane.NORMAL)),
        (EVENTS, "run.x.finished"),
    ],
    ids=["results", "telemetry", "rpc", "dead", "work", "events"],
)
def test_properties_that_are_no_utf8_stop_nobody(
    site: Site, exchange: str, key: str, seen: Seen
) -> None:
    aggregator, consumer = site.aggregator(), site.consumer()
    aggregator.ready()
    consumer.ready()
    job = gate("no-utf8", site.folder, closed_from=8, blocks=64)
    run = site.run(job, "--chunk-blocks", "1")
    site.reached(job, 1 / 8)
    messages = [
        Hostile("type", NOT_UTF8, b"", ""),
        Hostile("correlation_id", "x", b"", "", correlation_id=NOT_UTF8),
        Hostile("reply_to", "x", b"", "", reply_to=NOT_UTF8),
    ]
    send(site.broker, exchange, key, messages)
    name = BY_CONSUMERS if exchange == EVENTS else REJECTED
    eventually(lambda: aggregator.metric(name) >= len(messages), "they are counted")
    assert aggregator.metric(name) == len(messages)
    seen(f"{name} 0 → {len(messages)}")
    job.open()
    site.assert_answer(job, run.wait())
    assert aggregator.metric("montemq_store_epoch") == 1
    assert "trying again" not in aggregator.err + consumer.err + run.err


@pytest.mark.fault("A hostile message in place of the store's name", REFUSED, MOVES)
@pytest.mark.parametrize("body", [b"", b"\xc1", encode(StoreIdentity(store="x"))[:-1]])
def test_a_hostile_message_in_place_of_the_stores_name_does_not_keep_an_aggregator_away(
    site: Site, body: bytes, seen: Seen
) -> None:
    refused = 0.0
    for message in ([Hostile("", StoreIdentity.type, body, "")], [], []):
        aggregator = site.aggregator()
        aggregator.ready()
        assert aggregator.http("/readyz")[0] == 200
        refused += aggregator.metric(f'{REJECTED}{{reason="malformed"}}')
        aggregator.kill()
        send(site.broker, "", STORE_QUEUE, message)
    assert refused == 1
    seen(f'{REJECTED}{{reason="malformed"}} 0 → {refused:.0f}')
