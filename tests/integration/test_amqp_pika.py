"""The pika link beyond what the contract suite asks of both adapters: its end."""

from protocol.amqp_pika import Incoming, Link
from protocol.errors import BrokerError, BrokerUnreachableError
from protocol.settings import Broker

NOWHERE = Broker("127.0.0.1", 1, "guest", "guest", "/")


class GivesUp:
    """Ends the link at the first loss."""

    def __init__(self) -> None:
        self.link = Link(NOWHERE, self, "test", [])
        self.lost: list[BrokerError] = []

    def on_lost(self, error: BrokerError) -> None:
        self.lost.append(error)
        self.link.close()

    def on_connected(self) -> None:
        raise AssertionError

    def on_consuming(self) -> None:
        raise AssertionError

    def on_message(self, incoming: Incoming) -> None:
        raise AssertionError(incoming)

    def on_settled(self, token: int, taken: bool) -> None:
        raise AssertionError(token, taken)


def test_a_link_that_has_ended_takes_calls_of_other_threads_and_makes_none() -> None:
    listener, called = GivesUp(), list[str]()
    listener.link.run()
    assert [type(error) for error in listener.lost] == [BrokerUnreachableError]
    listener.link.call_threadsafe(lambda: called.append("late"))
    assert not called
