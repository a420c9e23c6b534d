"""Poison: messages that a client library, or the next start, must survive, not only a decoder."""

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
from tests.support.fault_table import ANSWER, REFUSED
from tests.support.stack_hostile import NOT_UTF8, Hostile, send
from tests.support.stack_jobs import gate
from tests.support.stack_site import Site


@pytest.mark.fault("Properties that are no UTF-8, on every exchange", ANSWER)
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
def test_properties_that_are_no_utf8_stop_nobody(site: Site, exchange: str, key: str) -> None:
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
    job.open()
    site.assert_answer(job, run.wait())
    assert aggregator.metric("montemq_store_epoch") == 1
    assert "trying again" not in aggregator.err + consumer.err + run.err


@pytest.mark.fault("A hostile message in place of the store's name", REFUSED)
@pytest.mark.parametrize("body", [b"", b"\xc1", encode(StoreIdentity(store="x"))[:-1]])
def test_a_hostile_message_in_place_of_the_stores_name_does_not_keep_an_aggregator_away(
    site: Site, body: bytes
) -> None:
    refused = 0.0
    for message in ([Hostile("", StoreIdentity.type, body, "")], [], []):
        aggregator = site.aggregator()
        aggregator.ready()
        assert aggregator.http("/readyz")[0] == 200
        refused += aggregator.metric('montemq_messages_rejected_total{reason="malformed"}')
        aggregator.kill()
        send(site.broker, "", STORE_QUEUE, message)
    assert refused == 1
