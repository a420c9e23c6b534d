"""Options of a command from a TOML file, under the same names; a flag or variable goes first."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from protocol.errors import UsageError, unread

Function = TypeVar("Function", bound=Callable[..., Any])

_NAME = "config"


def config_file(function: Function) -> Function:
    """Add `--config FILE`; the command itself gets nothing of it."""
    return click.option(
        f"--{_NAME}",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        is_eager=True,  # before the options whose values it holds
        expose_value=False,
        callback=_read,
        help="TOML file of these options, by the same names; flags go first.",
    )(function)


def _read(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration {path} cannot be read: {unread(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the configuration {path} is no TOML: {error}") from None
    context.default_map = defaults(context, table, path)


def defaults(context: click.Context, table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return what a file says, by the names that click has for the options.

    Raises
    ------
    UsageError
        It says something else, or an option cannot have such a value.
    """
    known = _options(context.command)
    found = {}
    for key, value in table.items():
        option = known.get(key)
        if option is None or option.name is None:
            raise UsageError(f"{path}: {key} is no option here; options are {', '.join(known)}")
        _check(context, option, value, f"{path}: {key} = {value!r}")
        found[option.name] = value
    return found


def _options(command: click.Command) -> dict[str, click.Option]:
    options = [one for one in command.params if isinstance(one, click.Option)]
    names = {option.opts[0].removeprefix("--"): option for option in options}
    del names[_NAME]
    return names


def _check(context: click.Context, option: click.Option, value: Any, said: str) -> None:
    kind, wanted = _kind(option)
    values = value if option.multiple and isinstance(value, list) else [value]
    # A bool is an int for Python, and for nobody else.
    fitting = all(isinstance(v, kind) and isinstance(v, bool) is (kind is bool) for v in values)
    if not fitting or option.multiple is not isinstance(value, list):
        raise UsageError(f"{said} must be {'a list of texts' if option.multiple else wanted}")
    try:
        option.process_value(context, value)
    except click.BadParameter as error:
        raise UsageError(f"{said}: {error.message.rstrip('.')}") from None


def _kind(option: click.Option) -> tuple[type | tuple[type, ...], str]:
    if option.is_flag:
        return bool, "true or false"
    if isinstance(option.type, click.types.IntParamType):
        return int, "a whole number"
    if isinstance(option.type, click.types.FloatParamType):
        return (int, float), "a number"
    return str, "a text"
