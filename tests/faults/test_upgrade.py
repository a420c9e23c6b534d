"""A broker of another release takes the place of the old one in the middle of a run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.amqp_probe import probe
from protocol.settings import HEARTBEAT_SECONDS
from tests.conftest import require_rabbitmq
from tests.support.enrolled import enrolled_broker, login
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.releases import release, require_rabbitmq_4
from tests.support.stack_jobs import gate
from tests.support.stack_metrics import connected, reconnected
from tests.support.stack_processes import eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS
OLD, NEW = "3.10", "4"
HOST = "spare-1"


@pytest.mark.slow
@pytest.mark.fault("An empty RabbitMQ 4 takes the place of 3.10, mid-run", ANSWER, GOES_ON, MOVES)
def test_an_upgrade(tmp_path: Path, plugin: None, seen: Callable[[str], None]) -> None:
    del plugin
    require_rabbitmq()
    tree = require_rabbitmq_4()
    with release(""), enrolled_broker(tmp_path, HOST, rabbitmq=OLD) as old:
        before = probe(login(old, tmp_path, "producer")).version
        with Site(login(old, tmp_path, "aggregator"), tmp_path) as site:
            aggregator = site.aggregator()
            consumer = site.consumer(broker=login(old, tmp_path, f"consumer.{HOST}"))
            aggregator.ready()
            consumer.ready()
            connections = connected(aggregator)
            job = gate("upgraded", tmp_path, closed_from=8)
            producer = login(old, tmp_path, "producer")
            run = site.run(job, "--chunk-blocks", "1", broker=producer)
            site.reached(job, 8 / 64)
            eventually(job.waiting, "a block waits")
            old.stop()
            job.open()
            run.says("trying again")
            with (
                release(tree),
                enrolled_broker(tmp_path, HOST, rabbitmq=NEW, port=old.port) as new,
            ):
                after = probe(login(new, tmp_path, "producer")).version
                site.assert_answer(job, run.wait(BEATS))
                assert aggregator.running
                assert consumer.running
                again = reconnected(aggregator, connections)
                seen(f"{before} → {after}; {site.answers[0]}; {again}")
                site.close()
    assert before.startswith("3.")
    assert after.startswith("4.")
