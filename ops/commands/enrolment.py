"""`montemq enrol` and `montemq revoke`: one machine's credentials."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from ops.accounts import Accounts, ControlProgram, Management
from ops.broker_definitions import password_hash, user_definitions
from ops.broker_directory import BrokerDirectory
from ops.broker_roles import User
from ops.commands import options
from ops.password_files import password_file as password_file_of
from ops.password_files import password_of
from protocol.errors import UsageError, unread

Function = TypeVar("Function", bound=Callable[..., Any])

FILE, CA_FILE = "montemq.password", "montemq-ca.pem"
"""What the files with password and authority are called on the machine."""


def _accounts(function: Function) -> Function:
    """Add how the broker's users are kept; the command gets what `_keeper` takes."""
    for add in (
        click.option("--management-password-file", type=click.Path(dir_okay=False, path_type=Path)),
        click.option("--management-user", help="An administrator of the broker."),
        click.option("--management-url", help="Of the management API; rabbitmqctl unless given."),
        click.option(
            "--data-dir",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Of a node that `montemq broker run` runs here.",
        ),
        click.option(
            "--passwords",
            type=click.Path(file_okay=False, path_type=Path),
            default="passwords",
            show_default=True,
            help="Directory of the users' passwords, a file each.",
        ),
    ):
        function = add(function)
    return function


def _keeper(
    data_dir: Path | None,
    url: str | None,
    user: str | None,
    password: Path | None,
) -> Accounts:
    if len({option is None for option in (url, user, password)}) > 1:
        raise UsageError(
            "--management-url, --management-user and --management-password-file go together"
        )
    if url is not None and user is not None and password is not None:
        if data_dir is not None:
            raise UsageError("--data-dir and --management-url exclude each other")
        try:
            secret = password.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--management-password-file {password} cannot be read: {unread(error)}"
            ) from None
        return Management(url, user, secret)
    if data_dir is not None:
        return BrokerDirectory(data_dir).control()
    return ControlProgram()


@click.command()
@click.argument("host")
@_accounts
@options.amqp
def enrol(
    host: str,
    passwords: Path,
    data_dir: Path | None,
    management_url: str | None,
    management_user: str | None,
    management_password_file: Path | None,
    amqp_url: str,
    password_file: str | None,
) -> None:
    """Make the credentials of a consumer machine, and print two lines to run there.

    The broker's address, without a user, is the one that HOST shall connect to. A machine that has
    been enrolled keeps its password as long as the file with it is there.
    """
    broker, user = options.broker_of(amqp_url, password_file), User.machine(host)
    keeper = _keeper(data_dir, management_url, management_user, management_password_file)
    file = password_file_of(passwords, user.name)
    hashed = password_hash(password_of(passwords, user.name))
    keeper.put(user_definitions(broker.vhost, {user: hashed}))
    click.echo(
        f"The broker knows {user.name} now; its password stands in {file}.\n"
        f"On {host}, run the two lines below. The first one waits for the password: paste it, then "
        "press Ctrl-D; or send it from here:\n"
        f"  ssh {host} '(umask 077; cat > {FILE})' < {shlex.quote(str(file))}\n"
        "It stands in a file there, because everybody on a machine can read command lines.\n",
        err=True,
    )
    believed = ""
    if broker.tls is not None and broker.tls.ca is not None:
        believed = f" --ca-file {CA_FILE}"
        click.echo(
            f"It believes your own authority: copy {broker.tls.ca} there as {CA_FILE}.\n", err=True
        )
    address = shlex.quote(str(replace(broker, user=user.name, password="")))
    click.echo(f"(umask 077; cat > {FILE})")
    click.echo(f"montemq consumer --amqp-url {address} --password-file {FILE}{believed}")


@click.command()
@click.argument("host")
@_accounts
def revoke(
    host: str,
    passwords: Path,
    data_dir: Path | None,
    management_url: str | None,
    management_user: str | None,
    management_password_file: Path | None,
) -> None:
    """Remove the credentials of a consumer machine; its connections end."""
    user = User.machine(host)
    keeper = _keeper(data_dir, management_url, management_user, management_password_file)
    known = keeper.drop(user.name)
    password_file_of(passwords, user.name).unlink(missing_ok=True)
    if known:
        click.echo(f"{user.name} is removed: {host} is disconnected, and its chunks go to others")
    else:
        click.echo(f"the broker knows no {user.name}: nothing to remove")
