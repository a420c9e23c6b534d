"""Finds models by name through the entry-point group `montemq.models`, ours and users' alike."""

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from protocol.errors import UsageError
from protocol.model import Model

GROUP = "montemq.models"


def model_names() -> list[str]:
    """Return the names of all installed models, sorted."""
    return sorted(_entries())


@cache
def load_model(name: str) -> type[Model]:
    """Return the model class of this name.

    Raises
    ------
    UsageError
        No installed package registers it, or it cannot be imported, or it is not a model.
    """
    entry = _entries().get(name)
    if entry is None:
        known = ", ".join(model_names())
        close = difflib.get_close_matches(name, model_names(), n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise UsageError(f"model = {name!r} is not installed; installed are {known}{hint}")
    try:
        model = entry.load()
    except Exception as error:
        raise UsageError(f"model '{name}' ({entry.value}) cannot be loaded: {error}") from error
    if not (
        isinstance(model, type)
        and issubclass(model, Model)
        and getattr(model, "name", None) == name
    ):
        raise UsageError(
            f"model '{name}' ({entry.value}) is not a protocol.model.Model of that name"
        )
    return model


@cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
