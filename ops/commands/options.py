"""Options that several commands share, and what is read or written because of them."""

import asyncio
import json
import math
import os
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from protocol.errors import UsageError
from protocol.settings import AMQP_URL_VARIABLE, DEFAULT_AMQP_URL, Broker, broker_from_url
from protocol.tls import TlsFiles

LOOPBACK = "127.0.0.1"
VHOST = "montemq"
DEFAULT_STORE = "montemq.sqlite"

STDIN = "-"
"""Address that stands for a line of standard input: nobody else can read it there."""

if TYPE_CHECKING:
    from protocol.model_file import ModelFile

Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A number of a range: NaN, which is neither above nor below any bound, is of none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


def amqp(function: Function) -> Function:
    """Add the broker's address; the command gets `amqp_url` and `password_file`.

    The files of TLS go past it to `broker_of`.
    """
    for name, text in _TLS_FILES.items():
        function = click.option(
            f"--{name}-file",
            type=click.Path(dir_okay=False),
            expose_value=False,
            callback=partial(_keep_file, name),
            help=text,
        )(function)
    function = click.option(
        "--password-file",
        type=click.Path(dir_okay=False),
        help="File that holds the broker password, instead of the one in the address.",
    )(function)
    return click.option(
        "--amqp-url",
        envvar=AMQP_URL_VARIABLE,
        default=DEFAULT_AMQP_URL,
        show_default=True,
        show_envvar=True,
        help="The broker's address; - reads it from standard input.",
    )(function)


_TLS_FILES = {
    "key": "The key of --cert-file, unless that holds it.",
    "cert": "Our certificate, for a broker that asks for one.",
    "ca": "Authorities to believe instead of the system's, for amqps://.",
}


def _keep_file(name: str, ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    ctx.meta[f"{__name__}.{name}"] = value


vhost = click.option(
    "--vhost", default=VHOST, show_default=True, help="The virtual host that montemq has."
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True)
class Duration:
    """A time span as the user wrote it, with its unit, and its seconds."""

    text: str
    seconds: float


def duration(_: click.Context, parameter: click.Parameter, text: str | None) -> Duration | None:
    """Return a time span such as 90, 90s, 30m, 6h or 1d."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if found is None:
        raise UsageError(f"{parameter.opts[0]} = {text!r} must read like 90s, 30m, 6h or 1d")
    return Duration(found[1] + (found[2] or "s"), float(found[1]) * _UNITS[found[2]])


def following(function: Function) -> Function:
    """Add how a run is followed; the command gets `timeout` and `quiet`."""
    function = click.option(
        "--quiet", is_flag=True, help="Print only the result, unless something is wrong."
    )(function)
    return click.option("--timeout", type=Number(min=0, min_open=True), help="Seconds to wait.")(
        function
    )


ready_file = click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write addresses and process ids here as JSON once everything is ready.",
)

metrics_port = click.option(
    "--metrics-port",
    metavar="[HOST:]PORT",
    help="Serve metrics for Prometheus here, on loopback unless a host is given; 0 for any port.",
)

model_files = click.option(
    "--model-file",
    "model_files",
    multiple=True,
    metavar="PATH.py:CLASS",
    help="A model that is not installed, to try it out; more than one may be given.",
)


def read_model_files(texts: Sequence[str]) -> "tuple[ModelFile, ...]":
    """Return the model files that the options name, unread by Python so far.

    Raises
    ------
    UsageError
        One cannot be read.
    """
    from protocol.model_file import ModelFile  # noqa: PLC0415 - keeps numpy out of `--help`

    return tuple(ModelFile.read(text) for text in texts)


def broker_of(amqp_url: str, password_file: str | None) -> Broker:
    """Return the broker that the options name."""
    url = sys.stdin.readline().strip() if amqp_url == STDIN else amqp_url
    context = click.get_current_context(silent=True)
    found = {} if context is None else context.meta
    files = TlsFiles(**{name: found.get(f"{__name__}.{name}") for name in _TLS_FILES})
    return broker_from_url(url, password_file, files)


def address(text: str, option: str) -> tuple[str, int]:
    """Read HOST:PORT.

    Raises
    ------
    UsageError
        It is nothing of the kind.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004
        raise UsageError(f"{option} = {text!r} must read HOST:PORT")
    return host.strip("[]"), int(port)


def metrics_address(text: str) -> tuple[str, int]:
    """Read where metrics shall be served.

    Raises
    ------
    UsageError
        It is neither PORT nor HOST:PORT.
    """
    whole = f"{LOOPBACK}:{text}" if text.isdecimal() else text
    try:
        return address(whole, "--metrics-port")
    except UsageError:
        raise UsageError(f"--metrics-port = {text!r} must read PORT or HOST:PORT") from None


def listening_address(text: str, option: str) -> tuple[str, int]:
    """Read HOST:PORT of something that shall listen there, port 0 for any free one.

    Raises
    ------
    UsageError
        It is nothing of the kind, or this machine cannot listen there now.
    """
    host, port = address(text, option)
    try:
        for family, *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(place)
    except OSError as error:
        raise UsageError(f"{option} = {text!r} cannot be listened on: {error.strerror}") from None
    return host, port


def interrupt_on_signals() -> None:
    """Let SIGTERM and SIGINT raise KeyboardInterrupt, also where a shell had SIGINT ignored.

    A terminal that is closed does the same, unless `nohup` has it ignored.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


async def interruptible(work: Awaitable[Value]) -> Value:
    """Let SIGTERM and SIGINT end the work, also where a shell had SIGINT ignored."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in a coroutine
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await work


def write_ready(path: Path | None, content: object) -> None:
    """Write a ready file at once or not at all, for its owner only: it may hold a password."""
    if path is None:
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    draft.replace(path)


def pool_name(text: str) -> str:
    """Return a pool's name.

    Raises
    ------
    UsageError
        It is not fit for a queue's name.
    """
    from protocol.definition import Name  # noqa: PLC0415 - keeps pydantic out of `--help`

    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError:
        raise UsageError(
            f"pool = {text!r} is not allowed: a pool is a-z, 0-9 and _, begins with a letter, "
            "and has at most 40 characters"
        ) from None
