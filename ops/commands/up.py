"""`montemq up`: everything on this machine until Ctrl-C."""

import contextlib
import time
from pathlib import Path
from typing import NoReturn

import click

from ops.commands import options
from ops.private_prometheus import NOT_INSTALLED, find_prometheus
from ops.stack import Stack
from protocol.registry import Registry

WATCH_SECONDS = 0.25


@click.command()
@click.option("--consumers", type=click.IntRange(0, 64), default=1, show_default=True)
@click.option("--slots", type=click.IntRange(1, 1024), help="Slots of each consumer; one per core.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where runs and results persist; temporary if not given.",
)
@click.option("--http", default="127.0.0.1:0", show_default=True, help="HOST:PORT, 0 for any.")
@click.option("--monitoring", is_flag=True, help="Run a private Prometheus too, if installed.")
@options.model_files
@options.ready_file
def up(
    consumers: int,
    slots: int | None,
    data_dir: Path | None,
    http: str,
    monitoring: bool,
    model_files: tuple[str, ...],
    ready_file: Path | None,
) -> None:
    """Run a private broker, an aggregator, a producer and consumers until Ctrl-C.

    The broker listens on loopback only; whoever can log in to this machine can use it.
    """
    options.interrupt_on_signals()
    files = options.read_model_files(model_files)
    Registry(files)  # refuses here what no consumer could load
    address = options.listening_address(http, "--http")
    if monitoring and find_prometheus() is None:
        click.echo(f"montemq: {NOT_INSTALLED}", err=True)
        monitoring = False
    click.echo("starting broker, aggregator, producer and consumers …", err=True)
    with Stack.start(
        consumers=consumers,
        slots=slots,
        data_dir=data_dir,
        http=address,
        model_files=files,
        monitoring=monitoring,
    ) as stack:
        click.echo(f"AMQP {stack.amqp_url}")
        click.echo(f"HTTP {stack.http_url}")
        if stack.prometheus is not None:
            click.echo(f"Prometheus {stack.prometheus.url}")
        click.echo(f"ready; use it with: export MONTEMQ_AMQP_URL={stack.amqp_url}", err=True)
        options.write_ready(ready_file, stack.description())
        with contextlib.suppress(KeyboardInterrupt):
            _watch(stack, ready_file)
        click.echo("stopping …", err=True)
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


def _watch(stack: Stack, ready_file: Path | None) -> NoReturn:
    while True:
        time.sleep(WATCH_SECONDS)
        for sentence in stack.revive():
            click.echo(sentence, err=True)
            options.write_ready(ready_file, stack.description())
