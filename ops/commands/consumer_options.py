"""How a consumer treats the machine that it was lent: options, and the rules that they make."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ops.commands import options
from protocol.errors import UsageError

if TYPE_CHECKING:
    from consumer.courtesy import Rules
    from consumer.limits import Limits

Function = TypeVar("Function", bound=Callable[..., Any])

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


LEAST_SLOT_MEMORY = 64 << 20
"""Bytes; a slot with the built-in models has taken a third of it."""


def size(_: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Return bytes, from a text such as 512M or 2G."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})(?:([KMGT])(?:i?B)?)?", text.strip())
    if found is None or not int(found[1]):
        raise UsageError(f"{parameter.opts[0]} = {text!r} must read like 512M or 2G")
    return int(found[1]) << _UNITS[found[2] or ""]


def slot_size(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Return bytes that a slot can live with, from such a text."""
    bytes_ = size(context, parameter, text)
    if bytes_ is not None and bytes_ < LEAST_SLOT_MEMORY:
        raise UsageError(f"{parameter.opts[0]} = {text!r} must be at least 64M")
    return bytes_


def names(_: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of programs."""
    for text in texts:
        if not text.strip():
            raise UsageError(f"{parameter.opts[0]} = {text!r} must be the name of a program")
    return texts


_LIMITS = (
    click.option(
        "--drain-seconds",
        type=options.Number(min=0),
        default=60.0,
        show_default=True,
        help="How long running chunks may go on after SIGTERM; then they are given back.",
    ),
    click.option(
        "--slot-memory",
        callback=slot_size,
        metavar="SIZE",
        help="Kill a worker process that uses more memory of its own: 512M, 2G; at least 64M.",
    ),
    click.option(
        "--chunks-per-slot",
        type=click.IntRange(min=1),
        help="Exchange a worker process after so many chunks.",
    ),
)
_OPTIONS = (
    click.option(
        "--nice",
        type=click.IntRange(0, 19),
        default=19,
        show_default=True,
        envvar="MONTEMQ_NICE",
        show_envvar=True,
        help="Niceness of the worker processes, which above 0 use disks only when idle.",
    ),
    click.option(
        "--hours",
        metavar="HOURS",
        help="Work only then, by local time: 'mon-fri 19:00-07:00, sat-sun'.",
    ),
    click.option(
        "--max-load",
        type=options.Number(min=0),
        help="Pause while the load average of others is higher.",
    ),
    click.option(
        "--max-cpu-percent",
        type=options.Number(min=0, max=100),
        help="Pause while others use more of all processors.",
    ),
    click.option(
        "--pause-when-active", is_flag=True, help="Pause while somebody uses the machine."
    ),
    click.option("--pause-on-battery", is_flag=True, help="Pause without mains."),
    click.option(
        "--pause-program",
        "pause_programs",
        multiple=True,
        callback=names,
        metavar="NAME",
        help="Pause while a program of this name runs; more than one may be given.",
    ),
    click.option(
        "--min-free-memory",
        callback=size,
        metavar="SIZE",
        help="Pause while less memory is available: 512M, 2G.",
    ),
    click.option(
        "--on-suspend",
        type=click.Choice(["finish", "return"]),
        default="finish",
        show_default=True,
        help="What becomes of running chunks when a pause begins.",
    ),
)


def courtesy(function: Function) -> Function:
    """Add the options; the command gets `nice`, and the others for `rules_and_limits`."""
    for option in reversed((*_OPTIONS, *_LIMITS)):
        function = option(function)
    return function


def rules_and_limits(options: dict[str, Any]) -> "tuple[Rules, Limits]":
    """Return what the options make.

    Raises
    ------
    UsageError
        The hours are none.
    """
    from consumer.limits import Limits  # noqa: PLC0415

    of_slots = ("drain_seconds", "slot_memory", "chunks_per_slot")
    limits = Limits(**{name: options.pop(name) for name in of_slots})
    return _rules(options), limits


def _rules(options: dict[str, Any]) -> "Rules":
    from consumer.courtesy import OnSuspend, Rules  # noqa: PLC0415 - keeps pydantic out of `--help`
    from consumer.hours import Hours  # noqa: PLC0415

    hours = options.pop("hours")
    return Rules(
        hours=None if hours is None else Hours.read(hours),
        pause_programs=frozenset(options.pop("pause_programs")),
        on_suspend=OnSuspend(options.pop("on_suspend")),
        **options,
    )
