"""What commands share when they ask the aggregator and show what it answers; no command itself."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import click

from producer.rpc import ask, valid
from protocol.amqp_aio import Link
from protocol.messages import Message
from protocol.results import Result
from protocol.settings import Broker

__all__ = ["ask_once", "show", "valid"]

Answer = TypeVar("Answer", bound=Message)


def ask_once(broker: Broker, request: Callable[[], Message], answer: type[Answer]) -> Answer:
    """Connect, ask one thing, disconnect.

    Raises
    ------
    UsageError
        The request itself is wrong, such as an impossible run id.
    """

    async def conversation(message: Message) -> Answer:
        async with await Link.open(broker, "montemq") as link:
            return await ask(link, message, answer)

    return asyncio.run(conversation(valid(request)))


def show(result: Result, *, as_json: bool) -> None:
    """Print a result on stdout."""
    if as_json:
        click.echo(result.model_dump_json())
        return
    from producer.tables import print_result  # noqa: PLC0415 - rich loads when it is shown

    print_result(result)
