"""`montemq consumer`, `montemq aggregator` and `montemq producer`: the services."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ops import runbook
from ops.commands import consumer_options, options
from ops.commands.config_file import config_file
from ops.logs import log_to_stderr
from ops.notify import ALIVE, READY, notify, watchdog_seconds, watched
from protocol.errors import UsageError
from protocol.origin import release_of
from protocol.tls import TlsFiles


@click.command()
@click.option("--slots", type=click.IntRange(1, 1024), help="Worker processes; one per core.")
@click.option("--pool", default="default", show_default=True, help="The pool to work for.")
@config_file
@consumer_options.courtesy
@options.model_files
@options.metrics_port
@options.amqp
@options.ready_file
def consumer(
    slots: int | None,
    pool: str,
    nice: int,
    model_files: tuple[str, ...],
    metrics_port: str | None,
    amqp_url: str,
    password_file: str | None,
    ready_file: Path | None,
    **courtesy: Any,
) -> None:
    """Simulate on this machine until Ctrl-C; running chunks are finished first."""
    from consumer.agent import run_agent  # noqa: PLC0415
    from consumer.fork_server import loading  # noqa: PLC0415
    from consumer.priority import choose_niceness  # noqa: PLC0415
    from protocol.registry import Registry  # noqa: PLC0415

    files = options.read_model_files(model_files)
    Registry(files)  # refuses here what would end every slot
    pool = options.pool_name(pool)
    rules, limits = consumer_options.rules_and_limits(courtesy)
    log_to_stderr()
    choose_niceness(nice)
    with _metrics_page("consumer", metrics_port) as (about, listener):
        loading()  # begins while an address is waited for
        broker = options.broker_of(amqp_url, password_file)

        def ready() -> None:
            options.write_ready(ready_file, {"pid": os.getpid(), **about})
            notify(READY)

        code = run_agent(
            broker, slots=slots, pool=pool, on_ready=ready, model_files=files,
            listener=_alive(listener), rules=rules, limits=limits,
        )  # fmt: skip
    sys.exit(code)


@contextmanager
def _metrics_page(service: str, text: str | None) -> Iterator[tuple[dict[str, str], Any]]:
    """Serve a service's metrics, if that is wanted; gives what to say of it, and who listens."""
    if text is None:
        yield {}, None
        return
    from ops.metrics_page import METRICS, serving  # noqa: PLC0415 - most have no use for it

    metrics = METRICS[service]()
    with serving(metrics, options.metrics_address(text)) as url:
        yield {"http_url": url}, metrics.hear


def _version(_context: click.Context, option: click.Parameter, text: str) -> str:
    if text and not release_of(text):
        raise UsageError(f"{option.opts[0]} = {text!r} must be a version, such as 0.2.0")
    return text


@click.command()
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    default=options.DEFAULT_STORE,
    show_default=True,
    help="The database file.",
)
@click.option("--http", default="127.0.0.1:9464", show_default=True, help="HOST:PORT to serve.")
@click.option("--http-cert", type=click.Path(dir_okay=False), help="Serve over TLS with this.")
@click.option("--http-key", type=click.Path(dir_okay=False), help="Its key.")
@click.option(
    "--http-ca", type=click.Path(dir_okay=False), help="Who looks needs a certificate from there."
)
@click.option(
    "--adopt-store", is_flag=True, help="Go on with this store although the broker knows another."
)
@click.option(
    "--audit-share",
    type=options.Number(0.0, 1.0),
    default=0.01,
    show_default=True,
    help="Share of chunks to compute again on another host; 0 trusts every host.",
)
@click.option(
    "--oldest-consumer",
    default="",
    metavar="VERSION",
    callback=_version,
    help="Consumers of an older version are told to end.",
)
@options.amqp
@options.ready_file
def aggregator(
    store: Path,
    http: str,
    http_cert: str | None,
    http_key: str | None,
    http_ca: str | None,
    adopt_store: bool,
    audit_share: float,
    oldest_consumer: str,
    amqp_url: str,
    password_file: str | None,
    ready_file: Path | None,
) -> None:
    """Combine partial results until Ctrl-C; a second one stands by."""
    from aggregator.service import Aggregator, Settings  # noqa: PLC0415

    if http_cert is None and (http_key or http_ca):
        raise UsageError("--http-key and --http-ca need --http-cert")
    log_to_stderr()
    settings = Settings(
        broker=options.broker_of(amqp_url, password_file),
        store=store,
        http=options.address(http, "--http"),
        adopt_store=adopt_store,
        runbook=runbook.PAGE,
        audit_share=audit_share,
        oldest_consumer=oldest_consumer,
        http_tls=None if http_cert is None else TlsFiles(http_ca, http_cert, http_key),
    )

    def ready(http_url: str) -> None:
        if ready_file is None:  # or whoever gave it reads the address there, and tells it
            click.echo(f"HTTP {http_url}", err=True)
        options.write_ready(ready_file, {"pid": os.getpid(), "http_url": http_url})
        notify(READY)

    asyncio.run(_until_signalled(Aggregator(settings).run(ready)))


@click.command()
@options.metrics_port
@options.amqp
@options.ready_file
def producer(
    metrics_port: str | None, amqp_url: str, password_file: str | None, ready_file: Path | None
) -> None:
    """Schedule runs that nobody else schedules until Ctrl-C; a second one stands by.

    These are runs started with --detach, and those whose producer died.
    """
    from producer.service import ProducerService  # noqa: PLC0415

    log_to_stderr()
    with _metrics_page("producer", metrics_port) as (about, listener):
        broker = options.broker_of(amqp_url, password_file)

        def ready() -> None:
            options.write_ready(ready_file, {"pid": os.getpid(), **about})
            notify(READY)

        asyncio.run(_until_signalled(ProducerService(broker, listener).run(ready)))


def _alive(listener: Any) -> Any:
    """Return a listener of telemetry that tells systemd's watchdog that there still is some."""
    if watchdog_seconds() is None:
        return listener

    def hear(*told: object) -> None:
        notify(ALIVE)
        if listener is not None:
            listener(*told)

    return hear


async def _until_signalled(service: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(service)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with watched():
            await task
    except asyncio.CancelledError:
        click.echo("stopped", err=True)
