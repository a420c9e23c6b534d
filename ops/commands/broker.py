"""`montemq broker`: prepare a broker, or run a private one."""

import asyncio
from pathlib import Path

import click

from ops.commands import options
from ops.commands.options import interrupt_on_signals
from ops.private_broker import LOOPBACK
from protocol.amqp_aio import Link
from protocol.errors import UsageError
from protocol.settings import DEFAULT_PORT
from protocol.topology import topology


@click.group()
def broker() -> None:
    """Prepare a broker, or run a private one."""


@broker.command()
@click.option("--pool", "pools", multiple=True, help="A pool besides 'default'; repeatable.")
@options.amqp
def init(pools: tuple[str, ...], amqp_url: str, password_file: str | None) -> None:
    """Declare exchanges, queues and bindings; can be repeated at any time."""
    address = options.broker_of(amqp_url, password_file)
    names = tuple(options.pool_name(name) for name in dict.fromkeys(("default", *pools)))

    async def declare() -> None:
        async with await Link.open(address, "montemq broker init") as link:
            await link.declare(topology(names))

    asyncio.run(declare())
    click.echo(f"the broker at {address} is ready for pools {', '.join(names)}")


@broker.command(name="run")
@click.option("--listen", default=f"{LOOPBACK}:{DEFAULT_PORT}", show_default=True, help="HOST:PORT")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where queues persist; temporary if not given.",
)
@click.option("--user", help="The only user; needed beyond loopback, together with a password.")
@click.option("--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.ready_file
def run_node(
    listen: str,
    data_dir: Path | None,
    user: str | None,
    password_file: Path | None,
    ready_file: Path | None,
) -> None:
    """Run a private RabbitMQ node with the topology until Ctrl-C."""
    from ops.private_broker import PrivateBroker  # noqa: PLC0415
    from ops.stack import declare_topology  # noqa: PLC0415

    host, port = options.address(listen, "--listen")
    if (user is None) != (password_file is None):
        raise UsageError("--user and --password-file go together")
    if host != LOOPBACK and user is None:
        raise UsageError(
            f"--listen {listen} is open to other machines: give --user and --password-file, "
            "because RabbitMQ lets 'guest' in from this machine only"
        )
    password = password_file.read_text(encoding="utf-8").strip() if password_file else "guest"
    if user == "guest" or not password:
        raise UsageError("--user must not be 'guest', and the password file must not be empty")
    interrupt_on_signals()
    with PrivateBroker.start(
        data_dir=data_dir, host=host, port=port or None, user=user or "guest", password=password
    ) as node:
        declare_topology(node)
        click.echo(f"AMQP {node.broker}")
        content = {"amqp_url": node.url, "pids": {"broker": node.pid}}
        options.write_ready(ready_file, content)
        try:
            node.wait()
        except KeyboardInterrupt:
            click.echo("stopping …", err=True)
