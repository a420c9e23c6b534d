"""`montemq doctor`: check an installation, one line for each check, and say what is wrong."""

import asyncio
import json
import platform
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import click

from ops.commands import options
from producer.rpc import ask
from protocol.amqp_aio import Link
from protocol.amqp_probe import ServerInfo, probe
from protocol.errors import BrokerError, MontemqError
from protocol.rpc_messages import Status, StatusRequest
from protocol.sentences import counted
from protocol.settings import Broker
from protocol.topology import EVENTS, topology

OLDEST_BROKER = (3, 10)
MAX_CLOCK_SECONDS = 2.0
ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class Check:
    """One finding; `exit_code` is that of the error behind it."""

    name: str
    ok: bool
    text: str
    exit_code: int = 0


@click.command()
@options.amqp
@options.as_json
def doctor(amqp_url: str, password_file: str | None, as_json: bool) -> None:
    """Check Python, packages, broker, permissions, topology and clock."""
    broker = options.broker_of(amqp_url, password_file)
    checks = [*_machine(), *_broker(broker)]
    if as_json:
        shown = [{"name": c.name, "ok": c.ok, "text": c.text} for c in checks]
        click.echo(json.dumps(shown))
    else:
        for check in checks:
            click.echo(f"{'ok   ' if check.ok else 'WRONG'}  {check.name}: {check.text}")
    wrong = [check for check in checks if not check.ok]
    if wrong:
        sys.exit(max(check.exit_code for check in wrong) or 1)


def _machine() -> Iterator[Check]:
    bits = sys.maxsize.bit_length() + 1
    python = f"Python {platform.python_version()}, {bits} bits, {platform.machine()}"
    yield Check("python", sys.version_info >= (3, 11) and bits == 64, python, 2)  # noqa: PLR2004
    yield _packages()
    place = shutil.which("montemq")
    yield Check("program", place is not None, place or "montemq is not on PATH", 2)


def _packages() -> Check:
    names = [line.split(";")[0] for line in requires("montemq") or () if "extra ==" not in line]
    found, missing = [], []
    for requirement in names:
        name = requirement.split(">")[0].split("<")[0].split("=")[0].strip()
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", False, f"missing: {', '.join(missing)}", 2)
    return Check("packages", True, ", ".join([f"montemq {version('montemq')}", *found]))


def _broker(broker: Broker) -> Iterator[Check]:
    try:
        server = probe(broker)
    except MontemqError as error:
        yield Check("broker", False, str(error), error.exit_code)
        return
    yield _version(broker, server)
    yield from asyncio.run(_behind(broker))


def _version(broker: Broker, server: ServerInfo) -> Check:
    text = f"{server.product} {server.version} at {broker}"
    numbers = tuple(int(part) for part in server.version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_BROKER:
        oldest = ".".join(map(str, OLDEST_BROKER))
        return Check("broker", False, f"{text}; montemq needs {oldest} or later", 3)
    return Check("broker", True, text)


async def _behind(broker: Broker) -> list[Check]:
    try:
        async with await Link.open(broker, "montemq doctor") as link:
            missing = await link.missing_queues(topology())
            if missing:
                text = f"missing: {', '.join(missing)}; run `montemq broker init`"
                return [Check("topology", False, text, 3)]
            checks = [Check("topology", True, "all queues of pool 'default' are there")]
            return [*checks, *[check async for check in _services(link)]]
    except MontemqError as error:
        return [Check("topology", False, str(error), error.exit_code)]


async def _services(link: Link) -> AsyncIterator[Check]:
    async def ignore(_: object) -> None:
        """Take no interest in the events: being let in is the point."""

    try:
        await link.subscribe(EVENTS, ("run.*.finished",), ignore)
        status = await ask(link, StatusRequest(), Status, ANSWER_SECONDS)
    except BrokerError as error:
        yield Check("aggregator", False, str(error), error.exit_code)
        return
    yield Check("permissions", True, f"user '{link.broker.user}' may ask and may follow runs")
    yield Check("aggregator", True, f"answers; {len(status.runs)} runs known")
    off = time.time() - status.clock
    yield Check("clock", abs(off) <= MAX_CLOCK_SECONDS, f"{off:+.1f} s against the aggregator's", 1)
    consumers = f"{status.consumers} live with {counted(status.slots, 'slot')}"
    yield Check("consumers", bool(status.slots), consumers, 3)
