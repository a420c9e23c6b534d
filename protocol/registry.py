"""Finds models by name: the installed ones, ours and users' alike, and those of model files.

Installed models are found through the entry-point group `montemq.models`.
"""

import difflib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from pydantic import TypeAdapter, ValidationError

from protocol.definition import Name
from protocol.errors import UsageError
from protocol.model import Model
from protocol.model_file import ModelFile

GROUP = "montemq.models"

_NAME = TypeAdapter(Name)
_NAME_RULE = "a name is a-z, 0-9 and _, begins with a letter, and has at most 40 characters"


class Registry:
    """The models that one command or slot knows: what is installed, and the files it was given.

    Parameters
    ----------
    files
        Model files; each is run at once.

    Raises
    ------
    UsageError
        A file is no model, or two models have the same name.
    """

    def __init__(self, files: Sequence[ModelFile] = ()) -> None:
        self._models: dict[str, type[Model]] = {}
        for file in files:
            model = file.load()
            where = f"--model-file {file.path}:{file.class_name}"
            _check(model, where)
            if model.name in self.names():
                raise UsageError(f"{where}: there is another model named '{model.name}'")
            self._models[model.name] = model

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted({*model_names(), *self._models})

    def load(self, name: str) -> type[Model]:
        """Return the model class of this name.

        Raises
        ------
        UsageError
            There is none, or it cannot be imported, or it is not a model.
        """
        if name in self._models:
            return self._models[name]
        if name not in model_names():
            raise UsageError(_unknown(name, self.names()))
        return load_model(name)


def model_names() -> list[str]:
    """Return the names of all installed models, sorted."""
    return sorted(_entries())


@cache
def load_model(name: str) -> type[Model]:
    """Return the installed model class of this name.

    Raises
    ------
    UsageError
        No installed package registers it, or it cannot be imported, or it is not a model.
    """
    entry = _entries().get(name)
    if entry is None:
        raise UsageError(_unknown(name, model_names()))
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
    _check(model, f"model '{name}' ({entry.value})")
    return model


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"model = {name!r} is not installed; installed are {', '.join(known)}{hint}"


def _check(model: type[Model], where: str) -> None:
    """Refuse a class that lacks what every model has; better here than in a slot."""
    for field in ("name", "outputs"):
        if not hasattr(model, field):
            raise UsageError(f"{where} lacks `{field}`")
    if not _is_name(model.name):
        raise UsageError(f"{where}: name = {model.name!r} is not allowed: {_NAME_RULE}")
    outputs: object = model.outputs
    if not isinstance(outputs, tuple) or not outputs or not all(map(_is_name, outputs)):
        rule = f'it should be a tuple of names, as in ("mean",); {_NAME_RULE}'
        raise UsageError(f"{where}: outputs = {outputs!r} is not allowed: {rule}")
    if len(set(outputs)) < len(outputs):
        raise UsageError(f"{where}: outputs = {outputs!r} is not allowed: a name stands twice")
    if missing := getattr(model, "__abstractmethods__", None):
        listed = ", ".join(f"`{name}`" for name in sorted(missing))
        raise UsageError(f"{where} does not define {listed}")


def _is_name(value: object) -> bool:
    try:
        _NAME.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


@cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
