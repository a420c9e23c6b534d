"""What a query may say, and the sentence where it says something else."""

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.errors import UsageError
from protocol.messages import RunState

MAX_LIMIT = 1_000
MAX_NUMBER = 1_000_000
MAX_SEARCH = 100


@dataclass(frozen=True)
class Listing:
    """Which runs are asked for; pages count from 1."""

    search: str = ""
    state: RunState | None = None
    page: int = 1
    limit: int = 100


def listing(query: Mapping[str, str]) -> Listing:
    """Return which runs a query asks for.

    Raises
    ------
    UsageError
        It says what is not allowed.
    """
    search, state = query.get("search", "").strip(), query.get("state") or None
    if len(search) > MAX_SEARCH:
        raise UsageError(f"search is not allowed: it may have at most {MAX_SEARCH} characters")
    if state is not None and state not in set(RunState):
        raise UsageError(f"state is not allowed: allowed are {', '.join(RunState)}")
    return Listing(
        search=search,
        state=RunState(state) if state else None,
        page=number(query, "page", 1, least=1),
        limit=number(query, "limit", Listing.limit, least=1, most=MAX_LIMIT),
    )


def number(
    query: Mapping[str, str], name: str, default: int, least: int = 0, most: int = MAX_NUMBER
) -> int:
    """Return a whole number of a query.

    Raises
    ------
    UsageError
        It is none, or out of range.
    """
    text = query.get(name, str(default))
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)):
        value = int(text)
        if least <= value <= most:
            return value
    raise UsageError(f"{name} is not allowed: it should be a whole number from {least} to {most}")
