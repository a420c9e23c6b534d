"""What the chunks of one cell have in common, made ready once: its model and how to simulate it.

Nothing is computed here. What is kept from one chunk to the next cannot change an answer: it is
found again by every field that it was made of.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from consumer.blocks import Simulate, block_simulation
from consumer.engine import engine
from protocol.codec import pack
from protocol.errors import UnsupportedError, UsageError
from protocol.messages import Chunk, FailureKind
from protocol.model import Model, validated

REMEMBERED = 16
"""Cells whose preparation is kept: as many as may come in turns, in little memory."""

Load = Callable[[str], type[Model]]
"""Finds a model by name; raises UsageError where there is none."""


class ChunkError(Exception):
    """The chunk cannot be computed here."""

    def __init__(self, kind: FailureKind, text: str, block: int | None = None) -> None:
        super().__init__(text)
        self.kind, self.text, self.block = kind, text, block


@dataclass(frozen=True, slots=True)
class Prepared:
    """A cell that can be simulated.

    Attributes
    ----------
    simulate
        Simulates one of its blocks.
    engine
        What tells its numerics from those of other machines.
    """

    simulate: Simulate
    engine: str


class Preparations:
    """Prepares chunks, and remembers the last few preparations; a refusal is never remembered."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._known: OrderedDict[bytes, Prepared] = OrderedDict()

    def of(self, chunk: Chunk) -> Prepared:
        """Return the preparation of a chunk.

        Raises
        ------
        ChunkError
            It cannot be computed here.
        """
        # As bytes: 1, 1.0 and True are equal in Python, and not the same parameter.
        key = pack(
            (
                chunk.model, chunk.model_version, chunk.params, chunk.outputs, chunk.bump,
                chunk.sampling, chunk.block_size,
            )
        )  # fmt: skip
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _prepared(chunk, self._load)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return found


def named(error: Exception) -> str:
    """Return what somebody else's code has raised, with its class."""
    return f"{type(error).__name__}: {error}"


def _prepared(chunk: Chunk, load: Load) -> Prepared:
    cell = _model(chunk, load)
    try:
        simulate = block_simulation(cell, chunk.sampling, chunk.outputs, chunk.bump)
    except UsageError as error:
        raise ChunkError(FailureKind.INVALID_PARAMS, str(error)) from None
    except Exception as error:  # noqa: BLE001 - the bumped parameters are validated as well
        raise ChunkError(FailureKind.MODEL_ERROR, named(error)) from None
    return Prepared(simulate, engine(type(cell)))


def _model(chunk: Chunk, load: Load) -> Model:
    try:
        model = load(chunk.model)
    except UsageError as error:
        raise ChunkError(FailureKind.UNSUPPORTED_MODEL, str(error)) from None
    except Exception as error:  # noqa: BLE001 - somebody else's code, as where it simulates
        raise ChunkError(FailureKind.MODEL_ERROR, named(error)) from None
    if model.version != chunk.model_version:
        text = (
            f"model '{chunk.model}' has version {model.version} here, "
            f"the run needs {chunk.model_version}"
        )
        raise ChunkError(FailureKind.UNSUPPORTED_MODEL, text)
    for output in chunk.outputs:
        if output not in model.outputs:
            text = f"model '{chunk.model}' has no output '{output}'"
            raise ChunkError(FailureKind.INVALID_PARAMS, text)
    try:
        cell = validated(model, chunk.params, complete=True)
        _check_complete(cell, chunk)
        cell.check_sampling(chunk.sampling, chunk.block_size)
    except UnsupportedError as error:
        raise ChunkError(FailureKind.UNSUPPORTED_MODEL, str(error)) from None
    except (UsageError, ValueError) as error:
        raise ChunkError(FailureKind.INVALID_PARAMS, str(error)) from None
    except Exception as error:  # noqa: BLE001 - a validator is somebody else's code too
        raise ChunkError(FailureKind.MODEL_ERROR, named(error)) from None
    return cell


def _check_complete(cell: Model, chunk: Chunk) -> None:
    """Refuse parameters that leave something to this machine's defaults."""
    missing = [name for name in cell.params() if name not in chunk.params]
    if missing:
        raise UsageError(f"params.{missing[0]} is missing; a chunk has all parameters")
