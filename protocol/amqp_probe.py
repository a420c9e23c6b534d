"""Asks a broker who it is, through pika and once; it reads and writes nothing."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop

from protocol.amqp_pika import connection_parameters
from protocol.amqp_pika_errors import translated
from protocol.errors import BrokerUnreachableError, ConnectionLostError
from protocol.settings import Broker


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a broker says of itself."""

    product: str
    version: str


def probe(broker: Broker) -> ServerInfo:
    """Connect to the first node that answers, ask who it is, and close.

    Raises
    ------
    BrokerUnreachableError, BrokerRefusedError
        It cannot be used, and why.
    """
    *others, last = broker.nodes
    for node in others:
        with suppress(BrokerUnreachableError, ConnectionLostError):
            return _probe(node)
    return _probe(last)


def _probe(broker: Broker) -> ServerInfo:
    loop = IOLoop()
    answer: list[ServerInfo] = []
    failed: list[BaseException] = []

    def opened(connection: Any) -> None:
        properties = connection.server_properties or {}
        product, version = properties.get("product", "unknown"), properties.get("version", "0")
        answer.append(ServerInfo(str(product), str(version)))
        connection.close()

    def closed(_connection: Any, error: BaseException) -> None:
        failed.append(error)
        loop.stop()

    pika.SelectConnection(
        connection_parameters(broker, "montemq probe"),
        on_open_callback=opened,
        on_open_error_callback=closed,
        on_close_callback=closed,
        custom_ioloop=loop,
    )
    try:
        loop.start()
    finally:
        loop.close()
    if not answer:
        raise translated(broker, failed[0])
    return answer[0]
