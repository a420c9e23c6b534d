"""References from a run's parameters to results of other runs: a closed grammar, never evaluated.

    reference = "{" run [".cells." number] "." value "}"
    value     = "samples" | "outputs." output "." field
    field     = "mean" | "standard_error" | "standard_deviation" | "ci_low" | "ci_high"

A reference is the whole of a text, and stands for a number with all its bits.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protocol.errors import UsageError
from protocol.results import Result


class Field(StrEnum):
    """What an estimate can be asked for."""

    MEAN = "mean"
    STANDARD_ERROR = "standard_error"
    STANDARD_DEVIATION = "standard_deviation"
    CI_LOW = "ci_low"
    CI_HIGH = "ci_high"


SAMPLES = "samples"
GRAMMAR = re.compile(
    r"\{(?P<run>[a-z][a-z0-9_]{0,39})"
    r"(\.cells\.(?P<cell>0|[1-9][0-9]{0,3}))?"
    r"\.(samples|outputs\.(?P<output>[a-z][a-z0-9_]{0,39})\.(?P<field>[a-z_]{1,40}))\}"
)
PARAMETERS = ("params", "cells", "sweep")
"""The sections of a run whose values may be references."""


@dataclass(frozen=True)
class Reference:
    """One reference.

    Attributes
    ----------
    run
        Name of the run within its campaign.
    cell
        Number of the cell; None is the only one, or, for samples, all of them.
    output, field
        Of which estimate what; None for the number of samples.
    """

    run: str
    cell: int | None
    output: str | None
    field: Field | None

    def __str__(self) -> str:
        cell = "" if self.cell is None else f".cells.{self.cell}"
        value = SAMPLES if self.output is None else f"outputs.{self.output}.{self.field}"
        return f"{{{self.run}{cell}.{value}}}"

    @property
    def placeholder(self) -> int | float:
        """A number of the type that the reference will have."""
        return 1 if self.output is None else 1.0

    def check(self, outputs: tuple[str, ...], cells: int) -> None:
        """Refuse what a run with these outputs and so many cells cannot answer.

        Raises
        ------
        UsageError
            One sentence that names the reference and what is allowed.
        """
        if self.cell is not None and self.cell >= cells:
            raise UsageError(
                f"{self}: run '{self.run}' has {cells} cell{'s' * (cells > 1)}, counted from 0"
            )
        if self.output is None:
            return
        if self.output not in outputs:
            raise UsageError(
                f"{self}: run '{self.run}' has no output '{self.output}'; "
                f"allowed are {', '.join(outputs)}"
            )
        if self.cell is None and cells > 1:
            raise UsageError(
                f"{self}: run '{self.run}' has {cells} cells; name one, such as "
                f"{Reference(self.run, 0, self.output, self.field)}"
            )

    def of(self, result: Result) -> int | float:
        """Return the number that the reference stands for.

        Raises
        ------
        UsageError
            The result does not have it, such as the standard error of a single sample.
        """
        if self.output is None or self.field is None:
            return result.samples if self.cell is None else result.cells[self.cell].samples
        estimate = result.cells[self.cell or 0].outputs[self.output]
        found: float | None = getattr(estimate, self.field.value)  # one of a closed set
        if found is None:
            raise UsageError(f"{self}: the result of run '{self.run}' has no such number")
        return found


def reference(text: str) -> Reference | None:
    """Read a text; one without braces is no reference.

    Raises
    ------
    UsageError
        It has braces and is not a reference from end to end.
    """
    if "{" not in text and "}" not in text:
        return None
    found = GRAMMAR.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r:.120} is no reference; one reads {{run.outputs.price.mean}}, "
            "{run.cells.0.outputs.price.mean} or {run.samples}, and nothing stands beside it"
        )
    field = found["field"]
    if field is not None and field not in set(Field):
        raise UsageError(
            f"{text}: '{field}' is no field of an estimate; allowed are {', '.join(Field)}"
        )
    cell = None if found["cell"] is None else int(found["cell"])
    return Reference(found["run"], cell, found["output"], None if field is None else Field(field))


def references(content: Mapping[str, Any]) -> Iterator[tuple[str, Reference]]:
    """Yield every reference in the sections of a run, after the field that it stands in.

    Raises
    ------
    UsageError
        A text of a parameter has braces and is no reference; the sentence names the field.
    """
    for section in PARAMETERS:
        yield from _within(content.get(section), section)


def replaced(
    content: Mapping[str, Any], value: Callable[[Reference], int | float]
) -> dict[str, Any]:
    """Return the sections of a run with numbers in the place of references."""
    return {
        name: _replaced(section, value) if name in PARAMETERS else section
        for name, section in content.items()
    }


def _within(value: Any, where: str) -> Iterator[tuple[str, Reference]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _within(item, f"{where}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _within(item, f"{where}[{number}]")
    elif isinstance(value, str):
        try:
            found = reference(value)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        if found is not None:
            yield where, found


def _replaced(value: Any, number: Callable[[Reference], int | float]) -> Any:
    if isinstance(value, Mapping):
        return {name: _replaced(item, number) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, number) for item in value]
    if isinstance(value, str) and (found := reference(value)) is not None:
        return number(found)
    return value
