"""Measures the aggregator alone: partials per second of its processor time, and its memory.

Run it as `python -m ops.bench.aggregator [--json] [--partials N]`. Partials of one run are put into
the queue of results as fast as the broker confirms them; nobody computes.
"""

import asyncio
import json
import time

import click

from ops.bench.pipeline import TINY, figures_line, job
from ops.bench.processor_time import processor_seconds, resident_bytes
from ops.stack import Stack
from producer.rpc import ask
from protocol import topology
from protocol.amqp_aio import Link
from protocol.exact import from_float
from protocol.messages import Partial
from protocol.rpc_messages import Missing
from protocol.settings import Broker
from protocol.statistics import Statistics

PARTIALS = 40_000
WINDOW = 1_000
"""Partials published and not yet confirmed."""

BLOCK_SIZE = 32


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.option("--partials", default=PARTIALS, show_default=True, type=click.IntRange(100))
def bench(as_json: bool, partials: int) -> None:
    """Start a private stack without consumers and feed its aggregator."""
    with Stack.start(consumers=0, prefer_port=None, quiet=True) as stack:
        pid = stack.description()["pids"]["aggregator"]
        asyncio.run(feed(stack.node.broker, 1_000))  # imports and first touches
        memory, cost, began = resident_bytes(pid), processor_seconds([pid]), time.perf_counter()
        asyncio.run(feed(stack.node.broker, partials))
        seconds = time.perf_counter() - began
        figures = {
            "partials_per_cpu_second": partials / (processor_seconds([pid]) - cost),
            "partials_per_second": partials / seconds,
            "resident_mb_at_start": memory / 1e6,
            "resident_mb_at_end": resident_bytes(pid) / 1e6,
        }
    click.echo(json.dumps({"aggregator": figures}) if as_json else figures_line(figures))


async def feed(broker: Broker, partials: int) -> None:
    """Declare a run of so many blocks, send the partial of each, and wait for its end."""
    declared = job(TINY, partials * BLOCK_SIZE).declaration
    async with await Link.open(broker, "montemq bench") as link:
        finished = asyncio.Event()
        keys = (topology.finished_key(declared.run),)
        await link.subscribe(topology.EVENTS, keys, lambda _: finished.set())
        await ask(link, declared, Missing)
        window = asyncio.Semaphore(WINDOW)

        async def publish(block: int) -> None:
            message = partial(declared.run, declared.definition.hash, block)
            key = topology.partial_key(broker.user)
            await link.publish(topology.RESULTS, key, message)
            window.release()

        async with asyncio.TaskGroup() as group:
            for block in range(partials):
                await window.acquire()
                group.create_task(publish(block))
        await finished.wait()


def partial(run: str, definition: bytes, block: int, cell: int = 0) -> Partial:
    """Return a partial of one block of darts, of which the block's number says how many hit."""
    hits = 16 + block % 16
    total, square = from_float(4.0 * hits), from_float(4.0 * hits * (4.0 - 4.0 * hits / BLOCK_SIZE))
    return Partial(
        run=run,
        definition=definition,
        attempt=block,
        cell=cell,
        first_block=block,
        blocks=1,
        statistics=Statistics(
            blocks=1,
            samples=BLOCK_SIZE,
            sums=(total,),
            cross=(total * total,),
            squares=(square,),
            residuals=(),
            fourth=(square * square,),
            minimum=(0.0,),
            maximum=(4.0,),
            histograms=(),
        ),
        consumer="bench",
        host="bench",
        cpu_seconds=0.001,
        engine="portable",
    )


if __name__ == "__main__":
    bench()
