"""Sentences that several parts tell people, and what a validator complains of in their words."""

import re

from pydantic_core import ErrorDetails

_LIST = "it should be a list, in brackets and with commas between its items"
_TABLE = "it should be a table of names and values"
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$": (
        "a run id is A-Z, a-z, 0-9, _ and -, begins with a letter or digit, "
        "and has at most 100 characters"
    ),
    r"^[a-z][a-z0-9_]{0,39}$": (
        "a name is a-z, 0-9 and _, begins with a letter, and has at most 40 characters"
    ),
}
_RULES = {
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "dataclass_type": _TABLE,
}

_SIZE = re.compile(r"\w+ should have at (least|most) \d+ (item|character)s?\b")


def counted(number: int, what: str) -> str:
    """Return a number and what there are so many of: `1 chunk`, `1,200 chunks`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def no_consumer(pool: str) -> str:
    """Say that nothing can compute in a run's pool, and what helps."""
    consumer = "montemq consumer" + ("" if pool == "default" else f" --pool {pool}")
    nobody = "no consumer is live in this run's pool, or one is still loading or suspended"
    return f"{nobody}; start `{consumer}`"


def rule(error: ErrorDetails) -> str:
    """Return what is allowed where a validator has found something else.

    Parameters
    ----------
    error
        One of a `ValidationError`'s errors.
    """
    text = error["msg"].removeprefix("Value error, ")
    pattern = text.partition("match pattern ")[2].strip("'")
    if known := _RULES.get(error["type"]) or _PATTERNS.get(pattern):
        return known
    if size := _SIZE.match(text):
        return f"it should have {size[0].partition(' should have ')[2]}"
    return re.sub(r"^[A-Z][a-z]+ should ", "it should ", text)
