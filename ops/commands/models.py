"""`montemq models`: what can be run."""

import json
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import click

from ops.commands import options
from ops.commands.model_check import check
from producer.run_sections import setting
from protocol.errors import UsageError
from protocol.model import Model
from protocol.registry import Registry

WIDEST = 100
"""Lines for people are no longer, however wide the terminal is."""


@click.command()
@click.argument("name", metavar="[MODEL]", required=False)
@click.option("--check", "checks", is_flag=True, help="Run quick statistical checks of MODEL.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="For --check.")
@options.model_files
@options.as_json
def models(
    name: str | None,
    checks: bool,
    settings: tuple[str, ...],
    model_files: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the models, or show one with its parameters, outputs and source, or check it.

    --check ends with exit code 5 when the model fails a check.
    """
    files = options.read_model_files(model_files)
    if checks or settings:
        if name is None or not checks:
            raise click.UsageError("--check needs MODEL, and --set needs --check")
        check(name, dict(map(setting, settings)), files, as_json=as_json)
        return
    registry = Registry(files)
    described = [describe(model) for model in _found(registry, name)]
    if as_json:
        click.echo(json.dumps(described[0] if name else described))
        return
    width = min(shutil.get_terminal_size().columns, WIDEST)
    click.echo("\n".join(layout(model, width) for model in described), nl=False)


def describe(model: type[Model]) -> dict[str, Any]:
    """Return all that a person or program wants to know of a model."""
    schema = model.model_json_schema()
    required = set(schema.get("required", ()))
    return {
        "model": model.name,
        "version": model.version,
        "summary": _summary(model),
        "outputs": list(model.outputs),
        "methods": [method.value for method in model.methods],
        "controls": list(model.controls),
        "block_size": model.block_size,
        "source": model.source,
        "parameters": [
            {"name": name, "required": name in required, **_flat(field)}
            for name, field in schema.get("properties", {}).items()
        ],
    }


def layout(model: dict[str, Any], width: int) -> str:
    """Return what `describe` has found as text for people, no line wider than asked."""
    title = f"{model['model']} (version {model['version']}): {model['summary']}"
    rows = [
        ("outputs", ", ".join(model["outputs"])),
        ("sampling", f"{', '.join(model['methods'])}; block size {model['block_size']}"),
        ("controls", ", ".join(model["controls"])),
        ("source", model["source"]),
        ("parameters", "" if model["parameters"] else "none"),
    ]
    lines = textwrap.wrap(title, width)
    lines += _aligned([row for row in rows if row[1]], 2, width)
    if model["parameters"]:
        lines.append("  parameters")
        lines += _aligned([(p["name"], _text(p)) for p in model["parameters"]], 4, width)
    return "".join(f"{line}\n" for line in lines)


def _aligned(rows: list[tuple[str, str]], indent: int, width: int) -> Iterator[str]:
    """Yield two columns of text, the second one wrapped."""
    first = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield from textwrap.wrap(
            text,
            width,
            initial_indent=f"{'':{indent}}{name:{first}}  ",
            subsequent_indent=" " * (indent + first + 2),
        )


def _found(registry: Registry, name: str | None) -> list[type[Model]]:
    if name is not None:
        return [registry.load(name)]
    found = []
    for each in registry.names():
        try:
            found.append(registry.load(each))
        except UsageError as error:  # one broken package must not hide the others
            click.echo(f"montemq: {error}", err=True)
    return found


def _summary(model: type[Model]) -> str:
    # Its own docstring: a class without one would show that of its base.
    lines = (vars(model).get("__doc__") or "").strip().splitlines()
    return lines[0] if lines else "(no docstring)"


def _flat(field: dict[str, Any]) -> dict[str, Any]:
    """Lay the alternative of an optional parameter flat."""
    parts = [part for part in field.get("anyOf", []) if part.get("type") != "null"]
    merged = {k: v for k, v in field.items() if k not in {"anyOf", "title"}}
    return merged | (parts[0] if len(parts) == 1 else {})


_BOUNDS = {
    "exclusiveMinimum": "above {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "below {}",
    "maximum": "at most {}",
    "minItems": "items: at least {}",
    "maxItems": "items: at most {}",
    "minLength": "characters: at least {}",
    "maxLength": "characters: at most {}",
    "pattern": "matching {}",
    "multipleOf": "a multiple of {}",
}


def _text(parameter: dict[str, Any]) -> str:
    unit = parameter.get("unit", "")
    facts = [_kind(parameter), "" if unit == "1" else unit, *_limits(parameter)]
    if parameter["required"]:
        facts.append("required")
    elif parameter.get("default") is not None:
        facts.append(f"default {_short(parameter['default'])}")
    listed = ", ".join(fact for fact in facts if fact)
    return " ".join(filter(None, (parameter.get("description"), f"({listed})" if listed else "")))


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return "|".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") != "array":
        return str(field.get("type", ""))
    item = field.get("items", {})
    return f"list of {', '.join(filter(None, (_kind(item), *_limits(item)))) or 'values'}"


def _limits(field: dict[str, Any]) -> list[str]:
    return [text.format(_short(field[key])) for key, text in _BOUNDS.items() if key in field]


def _short(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
