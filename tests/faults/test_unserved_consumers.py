"""A consumer that the broker has forgotten, without either of them knowing."""

from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from protocol.definition import Lane
from protocol.settings import HEARTBEAT_SECONDS
from protocol.topology import work_queue
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import pi
from tests.support.stack_metrics import RECONNECTIONS, connected, reconnected
from tests.support.stack_proxy import proxy
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
QUEUE = work_queue("default", Lane.NORMAL)


def impatient(folder: Path) -> str:
    """Return a place of modules with which a consumer looks after a second without a chunk."""
    (folder / "sitecustomize.py").write_text(
        "from consumer import vigil\nvigil.LOOK_SECONDS = 1.0\n", encoding="ascii"
    )
    return str(folder)


@pytest.mark.fault("The broker has forgotten who consumes", ANSWER, GOES_ON, MOVES)
def test_a_consumer_that_the_broker_has_forgotten_says_so_and_connects_anew(
    site: Site, seen: Callable[[str], None]
) -> None:
    aggregator = site.aggregator()
    aggregator.ready()
    with proxy(site.broker) as between:
        consumer = site.consumer(broker=between.broker, path=impatient(site.folder))
        consumer.ready()
        before = connected(aggregator)
        name = consumer.err.partition(": pool default")[0].rpartition(" ")[2]
        for number in (1, 2, 3):  # however often it has asked for chunks by now
            tag = f"{name}.1.{number}.{QUEUE}"
            cancel = pika.spec.Basic.Cancel(consumer_tag=tag, nowait=True)
            between.say(pika.frame.Method(1, cancel).marshal())
        consumer.says(f"is given up: the broker does not know that {QUEUE} is consumed")
        job = pi("remembered", blocks=4)
        site.assert_answer(job, site.run(job).wait(BEATS))
        seen(reconnected(aggregator, before))
        assert aggregator.metric(RECONNECTIONS) == before + 1
        site.close()
