"""`montemq install`: writes a systemd unit and its configuration, and says what to do next."""

import contextlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import click

from ops.commands import options
from ops.systemd_units import Service, Unit
from protocol.errors import UsageError, unread
from protocol.settings import AMQP_URL_VARIABLE, Broker
from protocol.tls import TlsFiles

SYSTEM = (Path("/etc/systemd/system"), Path("/etc/montemq"))


@click.command()
@click.argument("service", type=click.Choice([service.value for service in Service]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS]")
@click.option("--user", is_flag=True, help="For your own systemd, without root.")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    show_default=True,
    help="Write below this directory, for an image of another machine.",
)
@options.amqp
def install(
    service: str,
    arguments: tuple[str, ...],
    user: bool,
    root: Path,
    amqp_url: str,
    password_file: str | None,
) -> None:
    """Write unit and configuration of a service; the address, password and certificates go along.

    OPTIONS are further ones of the service, for instance `-- --slots 2`. It can be repeated.
    """
    broker = options.broker_of(amqp_url, password_file)
    _check(service, arguments)
    units, folder = _user_folders() if user else SYSTEM
    unit = Unit(Service(service), _program(user=user), folder, {}, arguments, user)
    files = {name: text for name, text in _secrets(broker, password_file).items() if text}
    paths = {name: folder / f"{service}.{name}" for name in files}
    unit = replace(unit, files=paths)
    address = str(replace(broker, tls=None))
    plain = address.replace("amqp://", "amqps://", 1) if broker.tls else address
    try:
        for name, text in files.items():
            _write(_below(root, paths[name]), text, 0o600)
        environment = f"{AMQP_URL_VARIABLE}={plain}\n"
        _write(_below(root, folder / f"{service}.env"), environment, 0o644)
        _write(_below(root, units / unit.name), unit.text, 0o644)
    except OSError as error:
        hint = "; without root, give --user" if isinstance(error, PermissionError) else ""
        raise UsageError(f"{error.filename} cannot be written: {error.strerror}{hint}") from None
    click.echo(f"{units / unit.name} and its configuration in {folder} are written. Now:", err=True)
    control = "systemctl --user" if user else "systemctl"
    click.echo(f"{control} daemon-reload")
    click.echo(f"{control} enable --now {unit.name}")
    if user:
        click.echo("loginctl enable-linger  # so that it runs while you are not logged in")


def _check(service: str, arguments: tuple[str, ...]) -> None:
    """Refuse options that the service does not have, or it would refuse them at every start."""
    context = click.get_current_context().find_root()
    if isinstance(context.command, click.Group):
        command = context.command.get_command(context, service)
        if command is not None:
            with contextlib.suppress(UsageError):  # files that they name may follow
                command.make_context(f"montemq {service}", list(arguments))


def _secrets(broker: Broker, password_file: str | None) -> dict[str, str | None]:
    """Return the content of each file that the service needs; None where it needs none."""
    given = broker.password if password_file or not broker.by_certificate else None
    tls = broker.tls or TlsFiles()
    return {
        "password": f"{given}\n" if given else None,
        "ca": _content(tls.ca),
        "cert": _content(tls.cert),
        "key": _content(tls.key),
    }


def _content(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {unread(error)}") from None


def _program(*, user: bool) -> Path:
    """Return the program that runs now, which the service's user must be able to run too."""
    found = Path(sys.prefix) / "bin" / "montemq"
    if not found.exists():
        on_path = shutil.which("montemq")
        if on_path is None:
            raise UsageError("montemq is not on PATH: install it with `pip install .`")
        found = Path(on_path)
    closed = [p for p in (found, *found.parents) if not p.stat().st_mode & 0o001]
    if closed and not user:
        raise UsageError(
            f"other users cannot reach {found}, because {closed[-1]} is closed to them: install "
            "montemq elsewhere, for instance with `python3 -m venv /opt/montemq`"
        )
    return found


def _user_folders() -> tuple[Path, Path]:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "systemd" / "user", home / "montemq"


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
