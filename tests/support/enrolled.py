"""A real broker that boots from `montemq broker definitions`, and what it answers to its users."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pika
import pika.exceptions as pika_errors
from click.testing import CliRunner
from pika.adapters.blocking_connection import BlockingChannel

from ops.broker_definitions import booting_from
from ops.commands.broker import broker as broker_command
from ops.private_broker import PrivateBroker
from protocol.settings import Broker

VHOST = "montemq"
MORE_WORDS = re.compile(r"(?:configure|write|read) access to (.*) in vhost .* refused for .*")
PASSWORDS = "passwords"


def print_definitions(folder: Path, *hosts: str, rabbitmq: str = "3.10") -> str:
    """Return what the command prints for these machines; passwords go below the folder."""
    arguments = ["definitions", "--rabbitmq", rabbitmq, "--passwords", str(folder / PASSWORDS)]
    done = CliRunner().invoke(broker_command, [*arguments, *hosts], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@contextmanager
def enrolled_broker(
    folder: Path,
    *hosts: str,
    plugins: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
    advanced: str = "[]",
    rabbitmq: str = "3.10",
    port: int | None = None,
) -> Iterator[PrivateBroker]:
    """Start a node that knows the roles and these machines, and no `guest`."""
    path = folder / f"definitions-{rabbitmq}.json"
    path.write_text(print_definitions(folder, *hosts, rabbitmq=rabbitmq), encoding="utf-8")
    lines = (*booting_from(path), *more)
    with PrivateBroker.start(
        port=port, configuration=lines, advanced=advanced, plugins=plugins
    ) as node:
        yield node


def login(node: PrivateBroker, folder: Path, user: str) -> Broker:
    """Return the address with a user's credentials."""
    password = (folder / PASSWORDS / f"{user}.password").read_text(encoding="ascii").strip()
    return replace(node.broker, user=user, password=password, vhost=VHOST)


@contextmanager
def channel(broker: Broker) -> Iterator[BlockingChannel]:
    """Open a channel with confirms, so that what is refused is said."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        opened = connection.channel()
        opened.confirm_delivery()
        yield opened


def answer(broker: Broker, attempt: Callable[[BlockingChannel], object]) -> str:
    """Return what the broker says as it closes the channel, empty where it does as asked.

    RabbitMQ 4 says more of a right that is missing: here it is in the words of 3.10.
    """
    try:
        with channel(broker) as opened:
            attempt(opened)
    except pika_errors.ChannelClosedByBroker as error:
        text = MORE_WORDS.sub(r"access to \1", error.reply_text)
        return f"{error.reply_code} {text}"
    return ""
