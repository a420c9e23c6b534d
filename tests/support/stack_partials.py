"""Who computed what: a queue of the test's own, which gets a copy of every partial."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pika
from pika.adapters.blocking_connection import BlockingChannel

from protocol.messages import Partial, decode
from protocol.settings import Broker
from protocol.topology import RESULTS


class Partials:
    """The partials that were published since it was made by `listening`."""

    def __init__(self, channel: BlockingChannel) -> None:
        self._channel = channel
        self._queue = str(channel.queue_declare("", exclusive=True).method.queue)
        channel.queue_bind(self._queue, RESULTS, "partial.#")

    def of(self, run: str) -> Mapping[str, set[tuple[int, int]]]:
        """Return the blocks, as cell and number, that each consumer computed of a run.

        Other partials that have arrived are forgotten.
        """
        found = defaultdict(set)
        while (message := self._channel.basic_get(self._queue, auto_ack=True))[0] is not None:
            _, properties, body = message
            partial = decode(properties.type, body, Partial)
            if partial.run == run:
                stop = partial.first_block + partial.blocks
                blocks = range(partial.first_block, stop)
                found[partial.consumer] |= {(partial.cell, block) for block in blocks}
        return found


@contextmanager
def listening(broker: Broker) -> Iterator[Partials]:
    """Copy partials for as long as the context lasts; ask for them at least every minute."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        yield Partials(connection.channel())
