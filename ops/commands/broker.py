"""`montemq broker`: prepare a broker, or run a private one."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import click

from ops import broker_definitions
from ops.broker_definitions import (
    CERTIFICATE_LOGIN,
    NO_PASSWORD,
    Release,
    booting_from,
    listening_with,
    password_hash,
    roles_and_machines,
)
from ops.broker_roles import Role
from ops.commands import options
from ops.commands.options import interrupt_on_signals
from ops.password_files import password_of
from ops.private_broker import LOOPBACK
from protocol.amqp_aio import Link
from protocol.errors import UsageError
from protocol.settings import DEFAULT_PORT
from protocol.tls import TlsFiles
from protocol.topology import topology

_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


@click.group()
def broker() -> None:
    """Prepare a broker, or run a private one."""


@broker.command()
@click.option("--pool", "pools", multiple=True, help="A pool besides 'default'; repeatable.")
@options.amqp
def init(pools: tuple[str, ...], amqp_url: str, password_file: str | None) -> None:
    """Declare exchanges, queues and bindings; can be repeated at any time."""
    address = options.broker_of(amqp_url, password_file)
    names = _pools(pools)

    async def declare() -> None:
        async with await Link.open(address, "montemq broker init") as link:
            await link.declare(topology(names))

    asyncio.run(declare())
    click.echo(f"the broker at {address} is ready for pools {', '.join(names)}")


@broker.command()
@click.argument("hosts", nargs=-1, metavar="[HOST]...")
@click.option(
    "--rabbitmq",
    type=click.Choice([release.value for release in Release]),
    required=True,
    help="The oldest RabbitMQ that must understand them.",
)
@click.option(
    "--passwords",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the users' passwords, a file each; those that are there are kept.",
)
@click.option(
    "--certificates",
    is_flag=True,
    help="Instead: nobody has a password, each user logs in by a certificate of its name.",
)
@options.vhost
@click.option("--pool", "pools", multiple=True, help="A pool besides 'default'; repeatable.")
def definitions(
    hosts: tuple[str, ...],
    rabbitmq: str,
    passwords: Path | None,
    certificates: bool,
    vhost: str,
    pools: tuple[str, ...],
) -> None:
    """Print what a broker boots from: topology, limits, and a user for each role and HOST.

    HOST is a consumer machine. RabbitMQ loads the file by `load_definitions` in its configuration.
    """
    if (passwords is None) != certificates:
        raise UsageError("give either --passwords DIRECTORY or --certificates")
    users = roles_and_machines(hosts)
    names = _pools(pools)
    hashes = {
        user: NO_PASSWORD if passwords is None else password_hash(password_of(passwords, user.name))
        for user in users
    }
    document = broker_definitions.definitions(Release(rabbitmq), vhost, names, hashes)
    click.echo(json.dumps(document, indent=2))


def _definitions(_: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse what RabbitMQ would pass over in silence."""
    if path is None:
        return None
    option = f"{parameter.opts[0]} {path}"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{option} is no JSON: {error}") from None
    if not isinstance(found, dict) or {"name": options.VHOST} not in found.get("vhosts", ()):
        raise UsageError(
            f"{option} has no virtual host '{options.VHOST}': it must be what "
            "`montemq broker definitions` prints"
        )
    return path


@broker.command(name="run")
@click.option("--listen", default=f"{LOOPBACK}:{DEFAULT_PORT}", show_default=True, help="HOST:PORT")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where queues persist; temporary if not given.",
)
@click.option("--user", help="The only user; needed beyond loopback, together with a password.")
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--definitions",
    "document",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    callback=_definitions,
    help="What `montemq broker definitions` has printed, instead of one user.",
)
@click.option("--cert-file", type=_FILE, help="Listen for amqps:// with this certificate.")
@click.option("--key-file", type=_FILE, help="Its key.")
@click.option(
    "--ca-file",
    type=_FILE,
    help="Clients need a certificate from this authority, which logs in the user that it names.",
)
@options.ready_file
def run_node(
    listen: str,
    data_dir: Path | None,
    user: str | None,
    password_file: Path | None,
    document: Path | None,
    cert_file: str | None,
    key_file: str | None,
    ca_file: str | None,
    ready_file: Path | None,
) -> None:
    """Run a private RabbitMQ node with the topology until Ctrl-C."""
    from ops.private_broker import PrivateBroker, free_port  # noqa: PLC0415
    from ops.stack import declare_topology  # noqa: PLC0415

    host, port = options.address(listen, "--listen")
    if (user is None) != (password_file is None):
        raise UsageError("--user and --password-file go together")
    if document is not None and user is not None:
        raise UsageError("--definitions and --user exclude each other")
    if host != LOOPBACK and user is None and document is None:
        raise UsageError(
            f"--listen {listen} is open to other machines: give --user and --password-file, or "
            "--definitions, because RabbitMQ lets 'guest' in from this machine only"
        )
    password = password_file.read_text(encoding="utf-8").strip() if password_file else "guest"
    if user == "guest" or not password:
        raise UsageError("--user must not be 'guest', and the password file must not be empty")
    if len({cert_file is None, key_file is None}) > 1 or (ca_file and cert_file is None):
        raise UsageError("--cert-file and --key-file go together, and --ca-file needs them")
    lines = () if document is None else booting_from(document)
    tls = None if cert_file is None else TlsFiles(ca_file, cert_file, key_file)
    if tls is not None:
        port = port or free_port(host)
        lines += listening_with(tls, host, port)
    interrupt_on_signals()
    with PrivateBroker.start(
        data_dir=data_dir,
        host=LOOPBACK if tls else host,
        port=None if tls else port or None,
        user=user or "guest",
        password=password,
        configuration=lines,
        plugins=(CERTIFICATE_LOGIN,) if ca_file else (),
    ) as node:
        if document is None:
            declare_topology(node)
        # A client has certificates of its own.
        shown = replace(node.broker, host=host, port=port, tls=TlsFiles()) if tls else node.broker
        if document is not None:  # which has several users; their passwords stand elsewhere
            shown = replace(shown, user=Role.PRODUCER.value, vhost=options.VHOST)
        click.echo(f"AMQP {shown}")
        url = shown.url if document is None else str(shown)
        content = {"amqp_url": url, "pids": {"broker": node.pid}}
        options.write_ready(ready_file, content)
        try:
            node.wait()
        except KeyboardInterrupt:
            click.echo("stopping …", err=True)


def _pools(more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(options.pool_name(name) for name in dict.fromkeys(("default", *more)))
