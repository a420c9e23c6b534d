"""`montemq doctor`: check an installation, one line for each check, and say what is wrong.

What is not wrong, but lets others in who have no business there, is a warning.
"""

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

from ops.broker_exposure import guest_may_log_in, plain_listeners
from ops.broker_holes import AS_OF, holes, version_of
from ops.broker_roles import asks_nobody
from ops.commands import options
from producer.rpc import ask
from protocol.amqp_aio import Link
from protocol.amqp_probe import ServerInfo, probe
from protocol.amqp_rights import superfluous
from protocol.errors import BrokerError, BrokerRefusedError, MontemqError
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
    warning: bool = False

    @property
    def word(self) -> str:
        """What the line begins with."""
        return "WRONG" if not self.ok else "WARN " if self.warning else "ok   "


@click.command()
@options.amqp
@options.as_json
def doctor(amqp_url: str, password_file: str | None, as_json: bool) -> None:
    """Check Python, packages, broker, its security, permissions, topology and clock."""
    broker = options.broker_of(amqp_url, password_file)
    checks = [*_machine(), *_broker(broker)]
    if as_json:
        shown = [{"name": c.name, "ok": c.ok, "warning": c.warning, "text": c.text} for c in checks]
        click.echo(json.dumps(shown))
    else:
        for check in checks:
            click.echo(f"{check.word}  {check.name}: {check.text}")
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
    yield _holes(server)
    yield _guest(broker)
    yield _listeners(broker)
    yield from asyncio.run(_behind(broker))


def _version(broker: Broker, server: ServerInfo) -> Check:
    text = f"{server.product} {server.version} at {broker}"
    if version_of(server.version) < OLDEST_BROKER:
        oldest = ".".join(map(str, OLDEST_BROKER))
        return Check("broker", False, f"{text}; montemq needs {oldest} or later", 3)
    return Check("broker", True, text)


def _holes(server: ServerInfo) -> Check:
    found = holes(server.version)
    if not found:
        return Check("holes", True, f"none known of {server.version} that matters here ({AS_OF})")
    told = "; ".join(f"{hole.record}: {hole.what}" for hole in found)
    more = "a later release has none of them, or your distribution has mended this one"
    return Check("holes", True, f"{server.version} has {told}; {more}", warning=True)


def _guest(broker: Broker) -> Check:
    if not guest_may_log_in(broker):
        return Check("guest", True, "cannot log in from here")
    text = "can log in with the password that everybody knows: delete it, or use this node alone"
    return Check("guest", True, text, warning=True)


def _listeners(broker: Broker) -> Check:
    found = list(plain_listeners(broker))
    if not found:
        return Check("listeners", True, "none without TLS beyond this machine")
    places = ", ".join(found)
    text = f"other machines reach {places} without TLS, passwords and results in clear"
    return Check("listeners", True, text, warning=True)


async def _rights(link: Link) -> Check:
    found = await superfluous(link)
    if not found:
        return Check("rights", True, f"user '{link.broker.user}' has none that no role needs")
    text = f"user '{link.broker.user}' may {' and '.join(found)} what no role of montemq needs"
    remedy = "`montemq broker definitions` makes users with no more than that"
    return Check("rights", True, f"{text}; {remedy}", warning=True)


async def _behind(broker: Broker) -> list[Check]:
    try:
        async with await Link.open(broker, "montemq doctor") as link:
            missing, untold = await link.missing_queues(topology())
            if missing:
                text = f"missing: {', '.join(missing)}; run `montemq broker init`"
                return [Check("topology", False, text, 3)]
            text = "all queues of pool 'default' are there"
            if untold:
                names = ", ".join(untold)
                text = f"no queue is known to be missing; of {names} this user is told nothing"
            checks = [Check("topology", True, text)]
            checks.append(await _rights(link))
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
        user = link.broker.user
        if isinstance(error, BrokerRefusedError) and asks_nobody(user):
            text = f"user '{user}' may not ask the aggregator, as nobody of its role needs to"
            yield Check("permissions", True, text)
        else:
            yield Check("aggregator", False, str(error), error.exit_code)
        return
    yield Check("permissions", True, f"user '{link.broker.user}' may ask and may follow runs")
    yield Check("aggregator", True, f"answers; {len(status.runs)} runs known")
    off = time.time() - status.clock
    yield Check("clock", abs(off) <= MAX_CLOCK_SECONDS, f"{off:+.1f} s against the aggregator's", 1)
    consumers = f"{status.consumers} live with {counted(status.slots, 'slot')}"
    yield Check("consumers", bool(status.slots), consumers, 3)
