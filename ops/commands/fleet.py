"""`montemq fleet`: show the consumers and tell them what to do, over AMQP, from anywhere."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import click

from ops.commands import options
from protocol.amqp_aio import Link
from protocol.errors import NotHeardError, UsageError
from protocol.messages import Command
from protocol.sentences import counted

NAME = "montemq fleet"
"""What the broker's tools call the connection."""


@click.group()
def fleet() -> None:
    """Show the consumers, and tell them what to do from anywhere."""


@fleet.command(name="list")
@click.option("--pool", help="Only consumers of this pool.")
@options.amqp
@options.as_json
def show(pool: str | None, amqp_url: str, password_file: str | None, as_json: bool) -> None:
    """Show all live consumers: what they do, or why they do nothing."""
    from ops.steering import members  # noqa: PLC0415 - asking loads the connection's library

    broker = options.broker_of(amqp_url, password_file)
    wanted = None if pool is None else options.pool_name(pool)

    async def ask() -> list[Any]:
        async with await Link.open(broker, NAME) as link:
            return await members(link, wanted)

    found = asyncio.run(ask())
    if as_json:
        click.echo(json.dumps([member.model_dump(mode="json") for member in found]))
        return
    from ops.top.tables import fleet_table  # noqa: PLC0415 - rich loads when it is shown
    from producer.status_table import console  # noqa: PLC0415

    console().print(fleet_table(found))


def _steering(command: Command, help_text: str) -> Callable[..., None]:
    @fleet.command(name=command.value, help=help_text)
    @click.argument("names", metavar="[HOST|CONSUMER]...", nargs=-1)
    @click.option("--all", "everybody", is_flag=True, help="All consumers, whatever their pool.")
    @click.option(
        "--timeout",
        type=options.Number(min=0),
        default=10.0,
        show_default=True,
        help="Seconds to wait until all show that they have heard it.",
    )
    @options.amqp
    @options.as_json
    def told(
        names: tuple[str, ...],
        everybody: bool,
        timeout: float,
        amqp_url: str,
        password_file: str | None,
        as_json: bool,
    ) -> None:
        if bool(names) is everybody:
            raise UsageError("name hosts or consumers, or say --all, and not both")
        _steer(command, names, timeout, options.broker_of(amqp_url, password_file), as_json)

    return told


def _steer(
    command: Command, names: tuple[str, ...], within: float, broker: Any, as_json: bool
) -> None:
    from ops.steering import Heard, steer  # noqa: PLC0415

    async def tell() -> Heard:
        async with await Link.open(broker, NAME) as link:
            return await steer(link, command, names, within)

    heard = asyncio.run(tell())
    if as_json:
        answer = {"command": command, "heard": heard.obeying, "not_heard": heard.silent}
        click.echo(json.dumps(answer))
    else:
        for name in heard.obeying:
            click.echo(f"{name} {_DONE[command]}")
        if not (heard.obeying or heard.silent):
            click.echo("no consumer is alive", err=True)
    if heard.silent:
        raise NotHeardError(
            f"{counted(len(heard.silent), 'consumer')} did not show within {within:g} s that "
            f"{command} was heard: {', '.join(heard.silent)}"
        )


_DONE = {
    Command.QUIET: "takes no chunk",
    Command.RESUME: "takes chunks",
    Command.DRAIN: "drains",
    Command.STOP: "has stopped",
}
_HELP = {
    Command.QUIET: "Have consumers finish what runs and take nothing more, until `resume`.",
    Command.RESUME: "Have quiet consumers take chunks again.",
    Command.DRAIN: "Have consumers finish what runs, within their time to drain, and end.",
    Command.STOP: "Have consumers give back everything and end at once.",
}
for _command in Command:
    _steering(_command, _HELP[_command])
