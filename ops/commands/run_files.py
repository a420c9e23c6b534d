"""The run that a command line describes: a run file, or a model's name, and options over it."""

from pathlib import Path
from typing import Any

import click

from ops.commands import options
from producer.run_sections import RunFile, parse, read_run_file

SUFFIX = ".toml"

OPTIONS = {
    "seed": ("run", "seed", "--seed"),
    "samples": ("stop", "samples", "--samples"),
    "standard_error": ("stop", "standard_error", "--standard-error"),
    "relative_error": ("stop", "relative_error", "--relative-error"),
    "seconds": ("stop", "seconds", "--seconds"),
    "run_id": ("run", "id", "--id"),
    "pool": ("run", "pool", "--pool"),
    "lane": ("run", "lane", "--lane"),
}
"""Section and field of a run file that each option overrides."""

_OPTIONS = (
    click.option(
        "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A model parameter."
    ),
    click.option(
        "--seed", type=int, help="0 to 2^64-1; if not given, made from --id, else random."
    ),
    click.option("--samples", type=int, help="Samples of each cell, rounded up to whole blocks."),
    click.option("--standard-error", type=float, help="End each cell at this standard error."),
    click.option(
        "--relative-error", type=float, help="The same as a share of the mean, 0.01 for 1 %."
    ),
    click.option("--seconds", type=float, help="End with what there is after so long."),
    click.option("--pool", help="The pool of consumers that computes it."),
)


def describing_a_run(function: options.Function) -> options.Function:
    """Add the options that describe a run, without its name and urgency."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def run_file(what: str, fields: dict[str, Any]) -> RunFile:
    """Return the run file with the command line's fields laid over it.

    Parameters
    ----------
    what
        Path of a TOML file, or the name of a model.
    fields
        By the names of `OPTIONS`; None where not given.

    Raises
    ------
    UsageError
        The file cannot be read, or a field or option is wrong.
    """
    content = _content(what)
    said = {}
    for name, value in fields.items():
        if value is not None:
            section, field, option = OPTIONS[name]
            content[section] = content.get(section, {}) | {field: value}
            said[f"{section}.{field}"] = option
    return parse(content, what, said)


def is_file(what: str) -> bool:
    """Say whether a word of the command line means a file, there or not, rather than a model."""
    return what.endswith(SUFFIX) or "/" in what or Path(what).is_file()


def _content(what: str) -> dict[str, Any]:
    if is_file(what):
        return read_run_file(Path(what)).model_dump(exclude_unset=True)
    return {"run": {"model": what}}
