"""A cluster of three nodes that loses one in the middle of a run, which ends as it would have."""

from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.settings import HEARTBEAT_SECONDS
from tests.conftest import require_rabbitmq
from tests.support.cluster import cluster
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.real_broker import waiting
from tests.support.stack_jobs import asian
from tests.support.stack_metrics import connected, reconnected
from tests.support.stack_processes import eventually
from tests.support.stack_site import Site

BEATS = 2 * HEARTBEAT_SECONDS


@pytest.mark.slow
@pytest.mark.fault("The node of three dies that all are connected to", ANSWER, GOES_ON, MOVES)
@pytest.mark.timeout(300)
def test_a_run_goes_on_with_the_same_digest_when_the_node_dies_that_all_are_connected_to(
    tmp_path: Path, seen: Callable[[str], None]
) -> None:
    require_rabbitmq()
    with cluster() as nodes, Site(nodes.broker, tmp_path) as site:
        assert site.command("broker", "init").code == 0
        aggregator, consumer = site.aggregator(), site.consumer()
        aggregator.ready()
        consumer.ready()
        job = asian("a-node-dies", blocks=800)
        before = connected(aggregator)
        run = site.run(job, "--chunk-blocks", "2")
        site.reached(job, 0.2)
        nodes.nodes[0].kill()
        site.assert_answer(job, run.wait(BEATS))
        # Work goes on without that node, for what is new as well.
        second = asian("after-it", seed=2, blocks=40)
        site.assert_answer(second, site.run(second).wait(BEATS))
        nodes.nodes[0].restart()
        third = asian("with-it-again", seed=3, blocks=40)
        site.assert_answer(third, site.run(third).wait(BEATS))
        eventually(lambda: waiting(nodes.nodes[0].broker, "mc.results.q") == 0, "all is merged")
        seen("; ".join([reconnected(aggregator, before), *site.answers, site.memory]))
