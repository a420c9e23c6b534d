"""`montemq status`, `results` and `cancel`: ask the aggregator, over AMQP."""

import asyncio
import json
from collections.abc import Callable
from typing import TypeVar

import click
from pydantic import ValidationError

from ops.commands import options
from producer.rpc import ask
from protocol.amqp_aio import Link
from protocol.errors import UsageError
from protocol.messages import (
    CancelRequest,
    Message,
    Missing,
    Results,
    ResultsRequest,
    Status,
    StatusRequest,
    explain,
)
from protocol.settings import Broker

Answer = TypeVar("Answer", bound=Message)


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@options.amqp
@options.as_json
def status(run_id: str | None, amqp_url: str, password_file: str | None, as_json: bool) -> None:
    """Show the runs, newest first, or one of them."""
    broker = options.broker_of(amqp_url, password_file)
    answer = ask_once(broker, lambda: StatusRequest(run=run_id), Status)
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json")))
        return
    from producer.tables import print_status  # noqa: PLC0415 - rich loads when it is shown

    print_status(answer)


@click.command()
@click.argument("run_id", metavar="RUN")
@options.amqp
@options.as_json
def results(run_id: str, amqp_url: str, password_file: str | None, as_json: bool) -> None:
    """Show the estimates of a run, as they are now."""
    from ops.commands.run import show  # noqa: PLC0415

    broker = options.broker_of(amqp_url, password_file)
    answer = ask_once(broker, lambda: ResultsRequest(run=run_id), Results)
    show(answer.result, as_json=as_json)


@click.command()
@click.argument("run_id", metavar="RUN")
@options.amqp
@options.as_json
def cancel(run_id: str, amqp_url: str, password_file: str | None, as_json: bool) -> None:
    """End a run; what is merged is kept, and `montemq resume` takes it up again."""
    broker = options.broker_of(amqp_url, password_file)
    answer = ask_once(broker, lambda: CancelRequest(run=run_id), Missing)
    if as_json:
        click.echo(json.dumps({"run": answer.run, "state": answer.state}))
    else:
        click.echo(f"run {answer.run} is {answer.state}")


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

    try:
        message = request()
    except ValidationError as error:
        raise UsageError(explain(error)) from None
    return asyncio.run(conversation(message))
