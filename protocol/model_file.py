"""A model in a file of its own, for trying it out on one machine without installing anything.

Only a command line names such a file, never a message: whoever computes has been given the same
file by hand. Its hash is the model's version, so that two different files are never one model.
"""

import contextlib
import hashlib
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from protocol.errors import UsageError
from protocol.model import Model

MODULE = "montemq_model_file_"
MAX_BYTES = 1 << 20
VERSIONS = 2**31 - 1


@dataclass(frozen=True)
class ModelFile:
    """The source of a model, as it was when the command started.

    Attributes
    ----------
    path
        Where it stands, absolute.
    class_name
        Which class of it is the model.
    source
        What it holds. Kept, so that all slots of a consumer run the same code although somebody
        edits the file meanwhile.
    """

    path: str
    class_name: str
    source: bytes

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the file that `PATH.py:CLASS` names.

        Raises
        ------
        UsageError
            It reads otherwise, or the file cannot be read.
        """
        path, _, class_name = text.rpartition(":")
        if not path.endswith(".py") or not class_name.isidentifier():
            raise UsageError(f"--model-file {text!r} must read PATH.py:CLASS")
        try:
            source = Path(path).read_bytes()
        except OSError as error:
            raise UsageError(f"--model-file {path} cannot be read: {error.strerror}") from None
        if len(source) > MAX_BYTES:
            size = f"it has {len(source)} bytes, allowed are {MAX_BYTES}"
            raise UsageError(f"--model-file {path} cannot be read: {size}")
        return cls(str(Path(path).resolve()), class_name, source)

    @property
    def version(self) -> int:
        """The model's version: 31 bits of the source's SHA-256, at least 1."""
        return int.from_bytes(hashlib.sha256(self.source).digest()[:8], "big") % VERSIONS + 1

    def load(self) -> type[Model]:
        """Run the source and return its model.

        Raises
        ------
        UsageError
            It cannot be run (the text names the line), or has no such model.
        """
        module = types.ModuleType(f"{MODULE}{hashlib.sha256(self.source).hexdigest()[:16]}")
        module.__file__ = self.path
        # Pydantic and pickle look a class's module up by its name.
        sys.modules[module.__name__] = module
        try:
            # Our stdout carries results only.
            with contextlib.redirect_stdout(sys.stderr):
                # Compiled here and not by the import system, whose cached bytecode follows the
                # file's time and not its content.
                exec(compile(self.source, self.path, "exec"), module.__dict__)  # noqa: S102 - the user asked for it
        except (Exception, SystemExit) as error:
            del sys.modules[module.__name__]
            raise UsageError(f"--model-file {self.path}: {self._complaint(error)}") from error
        return self._model(module)

    def _model(self, module: types.ModuleType) -> type[Model]:
        model = vars(module).get(self.class_name)
        models = [name for name, value in vars(module).items() if _is_model_of(value, module)]
        if self.class_name not in models:
            what = "defines no" if model is None else "has no model of its own that is named"
            listed = f"its models are {', '.join(models)}" if models else "it defines no model"
            text = f"{what} {self.class_name}; {listed}"
            raise UsageError(f"--model-file {self.path} {text}")
        assert isinstance(model, type)  # noqa: S101 - it is one of `models`
        assert issubclass(model, Model)  # noqa: S101
        model.version = self.version
        return model

    def _complaint(self, error: BaseException) -> str:
        name = type(error).__name__
        if isinstance(error, SyntaxError) and error.filename == self.path:
            return f"line {error.lineno}: {name}: {error.msg}"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == self.path]
        text = f"line {lines[-1]}: " if lines else ""
        text += f"{name}: {' '.join(str(error).split())}"
        if isinstance(error, ModuleNotFoundError):
            text += " (a model file can import only what is installed)"
        return text


def is_from_file(model: type[Model]) -> bool:
    """Say whether a model came from a model file, so that its version is its source's hash."""
    return model.__module__.startswith(MODULE)


def _is_model_of(value: object, module: types.ModuleType) -> bool:
    return (
        isinstance(value, type) and issubclass(value, Model) and value.__module__ == module.__name__
    )
