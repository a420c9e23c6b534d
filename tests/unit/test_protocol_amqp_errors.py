"""What a broker says when it ends a channel or connection becomes one sentence in both adapters."""

import aiormq
import pika.exceptions
import pytest

from protocol import amqp_aio_errors, amqp_pika_errors
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    ConnectionLostError,
    TopologyMissingError,
)
from protocol.settings import Broker

BROKER = Broker("host", 5672, "me", "secret", "/")


def said_by_aio(error: Exception) -> BrokerError:
    with pytest.raises(BrokerError) as said, amqp_aio_errors.translated(BROKER):
        raise error
    return said.value


@pytest.mark.parametrize(
    ("code", "text", "aio", "kind", "sentence"),
    [
        (
            404,
            "NOT_FOUND - no queue 'q'",
            aiormq.exceptions.ChannelNotFoundEntity,
            TopologyMissingError,
            "the broker at {b} lacks part of montemq ({text}); run `montemq broker init`",
        ),
        (
            403,
            "ACCESS_REFUSED - access to queue 'q' refused",
            aiormq.exceptions.ChannelAccessRefused,
            BrokerRefusedError,
            "the broker at {b} denies user 'me' a permission ({text})",
        ),
        (
            541,
            "INTERNAL_ERROR",
            aiormq.exceptions.ChannelClosed,
            ConnectionLostError,
            "the connection to the broker at {b} was lost ({text})",
        ),
    ],
)
def test_the_end_of_a_channel_is_the_same_sentence_in_both(
    code: int, text: str, aio: type[Exception], kind: type[BrokerError], sentence: str
) -> None:
    ended = pika.exceptions.ChannelClosedByBroker(code, text)
    for said in (said_by_aio(aio(text)), amqp_pika_errors.translated(BROKER, ended)):
        assert (type(said), str(said)) == (kind, sentence.format(b=BROKER, text=text))
        assert said.__cause__ is not None


def test_an_open_connection_that_breaks_is_lost_and_not_unreachable() -> None:
    for said in (
        said_by_aio(aiormq.exceptions.AMQPConnectionError("broken pipe")),
        amqp_pika_errors.translated(BROKER, pika.exceptions.StreamLostError("broken pipe")),
    ):
        assert type(said) is ConnectionLostError
        assert str(said).startswith("the connection to the broker at amqp://me@host:5672/ was lost")
        assert "broken pipe" in str(said)


def test_a_virtual_host_that_is_deleted_is_named() -> None:
    text = "NOT_ALLOWED - vhost '/' is down"
    said = amqp_pika_errors.translated(BROKER, pika.exceptions.ConnectionClosedByBroker(530, text))
    assert type(said) is BrokerRefusedError
    assert "refused virtual host '/'" in str(said)
    assert text in str(said)
