"""How much counters that arrive by message have grown; pure."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Totals = TypeVar("Totals", bound=BaseModel)


def growth(before: Totals, after: Totals) -> Totals:
    """Return what was counted in between; all of it where the sender began anew meanwhile."""
    try:
        grown: Totals = _difference(before, after)
    except ValidationError:
        return after  # something fell: no counter allows that
    return grown


def _difference(before: Any, after: Any) -> Any:
    match after:
        case BaseModel():
            fields = type(after).model_fields
            return type(after)(
                **{
                    name: _difference(getattr(before, name), getattr(after, name))
                    for name in fields
                }
            )
        case dict():  # of what was not there before, nothing was counted
            return {
                key: _difference(before[key], value) if key in before else value
                for key, value in after.items()
            }
        case tuple():
            return tuple(_difference(a, b) for a, b in zip(before, after, strict=True))
        case _:
            return after - before
