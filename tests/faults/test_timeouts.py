"""A chunk takes longer than the broker lets a consumer keep it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ops.private_broker import PrivateBroker
from protocol.settings import HEARTBEAT_SECONDS
from tests.support.fault_table import ANSWER, GOES_ON, MOVES
from tests.support.stack_jobs import gate
from tests.support.stack_metrics import connected, reconnected
from tests.support.stack_processes import eventually
from tests.support.stack_site import Site

# The time-out, and how often RabbitMQ before 4.3 and from there on looks who is over it.
MILLISECONDS = {
    "consumer_timeout": 2_000,
    "channel_tick_interval": 500,
    "quorum_tick_interval": 500,
}

TAKEN_BACK = re.compile("timed out|time-out")
"""What RabbitMQ before 4.3, or the consumer where a later one says nothing, calls it."""

RESTORE = """
    fun({Name, {ok, Value}}) -> application:set_env(rabbit, Name, Value);
       ({Name, undefined}) -> application:unset_env(rabbit, Name) end
"""


@contextmanager
def impatient(node: PrivateBroker) -> Iterator[None]:
    """Have the broker take chunks back soon."""
    control = node.directory.control()

    def of_each(code: str) -> str:
        calls = (code.format(name=name, value=value) for name, value in MILLISECONDS.items())
        return control.run("eval", f"[{', '.join(calls)}].")

    before = of_each("{{{name}, application:get_env(rabbit, {name})}}").strip()
    of_each("application:set_env(rabbit, {name}, {value})")
    try:
        yield
    finally:
        control.run("eval", f"lists:foreach({RESTORE}, {before}).")


@pytest.mark.slow
@pytest.mark.fault(
    "A chunk takes longer than the broker's consumer time-out", ANSWER, GOES_ON, MOVES
)
def test_a_timeout(site: Site, private_broker: PrivateBroker, seen: Callable[[str], None]) -> None:
    with impatient(private_broker):
        aggregator, consumer = site.aggregator(), site.consumer(1)
        aggregator.ready()
        consumer.ready()
        before = connected(aggregator)
        job = gate("overdue", site.folder, closed_from=8)
        run = site.run(job, "--chunk-blocks", "1")
        site.reached(job, 8 / 64)
        eventually(job.waiting, "a block waits")
        eventually(lambda: TAKEN_BACK.search(consumer.err), "the consumer says why")
        seen(reconnected(aggregator, before))
        job.open()
        site.assert_answer(job, run.wait(2 * HEARTBEAT_SECONDS))
