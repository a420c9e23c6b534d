"""`montemq report`: a run as one HTML file that needs nothing else."""

import asyncio
import os
from pathlib import Path

import click

from ops.commands import options
from ops.commands.answers import valid
from producer.rpc import ask
from protocol.amqp_aio import Link
from protocol.errors import UsageError
from protocol.rpc_messages import (
    Failures,
    FailuresRequest,
    History,
    HistoryRequest,
    Results,
    ResultsRequest,
    Status,
    StatusRequest,
)
from protocol.settings import Broker

STDOUT = "-"


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write it, - for stdout; RUN.html unless given. A file there is replaced.",
)
@options.amqp
def report(run_id: str, output: str | None, amqp_url: str, password_file: str | None) -> None:
    """Write a run's estimates, how they converged and what failed as one HTML file."""
    text = asyncio.run(_made(options.broker_of(amqp_url, password_file), run_id))
    if output == STDOUT:
        click.echo(text, nl=False)
        return
    path = Path(output or f"{run_id}.html")
    try:
        _replace(path, text)
    except OSError as error:
        raise UsageError(f"--output = {path} cannot be written: {error.strerror}") from None
    click.echo(f"wrote {path}", err=True)


async def _made(broker: Broker, run: str) -> str:
    from aggregator.web.report import MAX_PLOTS, report  # noqa: PLC0415 - loads what is rendered

    request = valid(lambda: ResultsRequest(run=run))
    async with await Link.open(broker, "montemq") as link:
        result = (await ask(link, request, Results)).result
        failures = await ask(link, FailuresRequest(run=run), Failures)
        histories = [
            await ask(link, HistoryRequest(run=run, cell=cell), History)
            for cell in range(min(len(result.cells), MAX_PLOTS))
        ]
        clock = (await ask(link, StatusRequest(run=run), Status)).clock
    return report(result, failures, histories, clock)


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, so that an older one is never lost."""
    if path.exists() and not path.is_file():  # such as /dev/stdout
        path.write_text(text, encoding="utf-8")
        return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
