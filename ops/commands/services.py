"""`montemq consumer` and `montemq aggregator`: the two services."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import click

from ops.commands import options

DEFAULT_STORE = "montemq.sqlite"


@click.command()
@click.option("--slots", type=click.IntRange(1, 1024), help="Worker processes; one per core.")
@click.option("--pool", default="default", show_default=True, help="The pool to work for.")
@options.model_files
@options.amqp
@options.ready_file
def consumer(
    slots: int | None,
    pool: str,
    model_files: tuple[str, ...],
    amqp_url: str,
    password_file: str | None,
    ready_file: Path | None,
) -> None:
    """Simulate on this machine until Ctrl-C; running chunks are finished first."""
    from consumer.agent import run_agent  # noqa: PLC0415
    from consumer.fork_server import loading  # noqa: PLC0415
    from protocol.registry import Registry  # noqa: PLC0415

    files = options.read_model_files(model_files)
    Registry(files)  # refuses here what would end every slot
    pool = options.pool_name(pool)
    options.log_to_stderr()
    loading()  # begins while an address is waited for
    broker = options.broker_of(amqp_url, password_file)

    def ready() -> None:
        options.write_ready(ready_file, {"pid": os.getpid()})

    code = run_agent(broker, slots=slots, pool=pool, on_ready=ready, model_files=files)
    sys.exit(code)


@click.command()
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT_STORE,
    show_default=True,
    help="The database file.",
)
@click.option("--http", default="127.0.0.1:9464", show_default=True, help="HOST:PORT to serve.")
@click.option(
    "--adopt-store", is_flag=True, help="Go on with this store although the broker knows another."
)
@options.amqp
@options.ready_file
def aggregator(
    store: Path,
    http: str,
    adopt_store: bool,
    amqp_url: str,
    password_file: str | None,
    ready_file: Path | None,
) -> None:
    """Combine partial results until Ctrl-C; a second one stands by."""
    from aggregator.service import Aggregator, Settings  # noqa: PLC0415

    options.log_to_stderr()
    settings = Settings(
        broker=options.broker_of(amqp_url, password_file),
        store=store,
        http=options.address(http, "--http"),
        adopt_store=adopt_store,
    )

    def ready(http_url: str) -> None:
        click.echo(f"HTTP {http_url}", err=True)
        options.write_ready(ready_file, {"pid": os.getpid(), "http_url": http_url})

    async def serve() -> None:
        task = asyncio.ensure_future(Aggregator(settings).run(ready))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            click.echo("stopped", err=True)

    asyncio.run(serve())
