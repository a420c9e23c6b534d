"""`montemq top`: runs and consumers live on a terminal, one snapshot of them elsewhere."""

import asyncio
import json
import os
import sys

import click

from ops.commands import options
from ops.top.overview import Order


@click.command()
@options.amqp
@click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=options.Number(0.1, 3600.0),
    help="Seconds between two looks.",
)
@click.option(
    "--sort",
    default=Order.NEWEST.value,
    show_default=True,
    type=click.Choice([order.value for order in Order]),
    help="The order of the runs.",
)
@options.as_json
def top(
    amqp_url: str, password_file: str | None, interval: float, sort: str, as_json: bool
) -> None:
    """Watch the runs that go on and the consumers; q or Ctrl-C ends it.

    Without a terminal, and with --json, it prints one snapshot.
    """
    from ops.top.looking import look_once  # noqa: PLC0415 - asking loads the connection's library

    broker, order = options.broker_of(amqp_url, password_file), Order(sort)
    if as_json:
        click.echo(json.dumps(asyncio.run(look_once(broker)).as_json()))
        return
    from ops.top.live import LiveTop  # noqa: PLC0415 - rich loads when it is shown
    from ops.top.tables import snapshot  # noqa: PLC0415
    from producer.status_table import console  # noqa: PLC0415

    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        asyncio.run(LiveTop(broker, interval, order).run())
        return
    out = console()
    out.print(snapshot(asyncio.run(look_once(broker)), order, out.width))
