"""`montemq models`: what can be run."""

import json
from typing import Any

import click

from ops.commands import options
from protocol.model import Model
from protocol.registry import load_model, model_names


@click.command()
@click.argument("name", metavar="[MODEL]", required=False)
@options.as_json
def models(name: str | None, as_json: bool) -> None:
    """List the models, or show one with its parameters, outputs and source."""
    found = [load_model(n) for n in ([name] if name else model_names())]
    described = [describe(model) for model in found]
    if as_json:
        click.echo(json.dumps(described[0] if name else described))
        return
    for model in described:
        click.echo(f"{model['model']} (version {model['version']}): {model['summary']}")
        click.echo(f"  outputs: {', '.join(model['outputs'])}")
        click.echo(f"  sampling: {', '.join(model['methods'])}; block size {model['block_size']}")
        if model["source"]:
            click.echo(f"  source: {model['source']}")
        for parameter in model["parameters"]:
            click.echo(f"  {_line(parameter)}")


def describe(model: type[Model]) -> dict[str, Any]:
    """Return all that a person or program wants to know of a model."""
    schema = model.model_json_schema()
    required = set(schema.get("required", ()))
    return {
        "model": model.name,
        "version": model.version,
        "summary": (model.__doc__ or "").strip().splitlines()[0],
        "outputs": list(model.outputs),
        "methods": [method.value for method in model.methods],
        "block_size": model.block_size,
        "source": model.source,
        "parameters": [
            {"name": name, "required": name in required, **_flat(field)}
            for name, field in schema["properties"].items()
        ]
        if "properties" in schema
        else [],
    }


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
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}


def _line(parameter: dict[str, Any]) -> str:
    kind = "|".join(parameter["enum"]) if "enum" in parameter else parameter.get("type", "")
    if "const" in parameter:
        kind = str(parameter["const"])
    facts = [kind, parameter.get("unit", "")]
    facts += [text.format(parameter[key]) for key, text in _BOUNDS.items() if key in parameter]
    if parameter["required"]:
        facts.append("required")
    elif parameter.get("default") is not None:
        facts.append(f"default {parameter['default']}")
    listed = ", ".join(fact for fact in facts if fact)
    return f"{parameter['name']}: {parameter.get('description', '')} ({listed})"
