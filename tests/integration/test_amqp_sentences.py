"""Both adapters say the same sentence about what is wrong with a broker, and name the cause."""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from protocol import amqp_aio, amqp_pika, broker_errors
from protocol.amqp_aio import Link
from protocol.amqp_probe import probe
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    BrokerUnreachableError,
    WrongPasswordError,
)
from protocol.settings import Broker
from protocol.topology import topology

SECONDS = 0.5


def said_by_aio(broker: Broker) -> BrokerError:
    with pytest.raises(BrokerError) as refused:
        asyncio.run(Link.open(broker, "test"))
    return refused.value


def said_by_pika(broker: Broker) -> BrokerError:
    with pytest.raises(BrokerError) as refused:
        probe(broker)
    return refused.value


def assert_both_say(broker: Broker, kind: type[BrokerError], cause: str) -> None:
    """Check type and sentence, and that the libraries' exceptions stay behind them."""
    one, other = said_by_aio(broker), said_by_pika(broker)
    assert type(one) is type(other) is kind
    assert str(one) == str(other)
    assert re.search(f": {cause}$", str(one))
    assert one.__cause__ is not None
    assert other.__cause__ is not None


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Return a function that serves one kind of answer on a port of its own."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(answer: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        threads.append(threading.Thread(target=loop))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()


Server = Callable[[Callable[[socket.socket], None]], int]
NOWHERE = Broker("127.0.0.1", 1, "guest", "guest", "/")


def test_nobody_at_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = replace(NOWHERE, port=free.getsockname()[1])
        assert_both_say(nobody, BrokerUnreachableError, "Connection refused")


def test_a_host_that_does_not_exist() -> None:
    nobody = replace(NOWHERE, host="host.invalid")
    assert_both_say(nobody, BrokerUnreachableError, r"[A-Z][\w ]+")


def test_somebody_who_does_not_speak_amqp(server: Server) -> None:
    port = server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    cause = "whoever answers there does not speak AMQP 0-9-1, or closes the connection at once"
    assert_both_say(replace(NOWHERE, port=port), BrokerUnreachableError, cause)


def test_somebody_who_closes_at_once(server: Server) -> None:
    port = server(lambda _: None)
    cause = "whoever answers there does not speak AMQP 0-9-1, or closes the connection at once"
    assert_both_say(replace(NOWHERE, port=port), BrokerUnreachableError, cause)


def test_somebody_who_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (amqp_aio, amqp_pika, broker_errors):
        monkeypatch.setattr(module, "CONNECT_SECONDS", SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        silent = replace(NOWHERE, port=deaf.getsockname()[1])
        assert_both_say(silent, BrokerUnreachableError, r"no answer within 0\.5 s")


def test_a_wrong_password(broker: Broker) -> None:
    wrong = replace(broker, password="s3cret-word")  # noqa: S106 - it is wrong
    assert_both_say(wrong, WrongPasswordError, "wrong user or password")


def test_a_missing_virtual_host(broker: Broker) -> None:
    missing = replace(broker, vhost="nowhere")
    one, other = said_by_aio(missing), said_by_pika(missing)
    assert type(one) is type(other) is BrokerRefusedError
    # aiormq does not pass on what the broker says of it.
    assert str(other) == f"{one} (NOT_ALLOWED - vhost nowhere not found)"


def test_of_a_cluster_the_next_node_is_taken_where_one_does_not_answer(broker: Broker) -> None:
    nodes = replace(NOWHERE, others=(("127.0.0.1", 2), (broker.host, broker.port)))

    async def works() -> bool:
        async with await Link.open(nodes, "test") as link:
            return await link.missing_queues(topology()) == ([], [])

    assert asyncio.run(works())
    assert probe(nodes) == probe(broker)


def test_of_a_cluster_without_a_node_that_answers_the_last_one_is_named() -> None:
    assert_both_say(
        replace(NOWHERE, others=(("127.0.0.1", 2),)), BrokerUnreachableError, "Connection refused"
    )
