"""msgpack in and out: strict, with explicit limits, no pickle, no surprises."""

from typing import Any

import msgpack
from pydantic import BaseModel

from protocol.errors import MessageRefusedError
from protocol.exact import MAX_BYTES, Exact

EXACT_TYPE = 1
"""msgpack extension type of an `Exact`."""

MAX_ARRAY = 200_000
MAX_MAP = 1_000
MAX_TEXT = 1 << 16


def pack(value: Any) -> bytes:
    """Return the msgpack form of plain values, `Exact` numbers, and models as maps of fields."""
    packed: bytes = msgpack.packb(value, default=_pack_own)
    return packed


def canonical(value: Any) -> bytes:
    """Return the one msgpack form of a value: maps sorted by key; for hashes."""
    return pack(_sorted(value))


def unpack(body: bytes, limit: int, max_array: int = MAX_ARRAY, max_text: int = MAX_TEXT) -> Any:
    """Decode an untrusted body; arrays become tuples.

    Parameters
    ----------
    body
        The bytes of one message.
    limit
        The largest length allowed, in bytes.
    max_array
        The largest number of elements allowed in one array. Room for an array is made when its
        header is read, so that nested headers cost far more memory than they have bytes.
    max_text
        The largest number of bytes allowed in one str or bin.

    Raises
    ------
    MessageRefusedError
        With reason `oversized` or `malformed`.
    """
    if len(body) > limit:
        raise MessageRefusedError("oversized", f"{len(body)} bytes, allowed are {limit}")
    try:
        return msgpack.unpackb(
            body,
            raw=False,
            use_list=False,
            strict_map_key=True,
            ext_hook=_unpack_exact,
            object_pairs_hook=_no_duplicates,
            max_str_len=max_text,
            max_bin_len=max_text,
            max_array_len=min(max_array, len(body)),
            max_map_len=MAX_MAP,
            max_ext_len=MAX_BYTES,
        )
    # msgpack raises a family of its own beside ValueError; a nesting bomb is its StackError.
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException, RecursionError) as error:
        text = f"{type(error).__name__} {error}"[:200]
        raise MessageRefusedError("malformed", text) from None


def _pack_own(value: Any) -> msgpack.ExtType | dict[str, Any]:
    if isinstance(value, Exact):
        return msgpack.ExtType(EXACT_TYPE, value.to_bytes())
    if isinstance(value, BaseModel):
        # As `model_dump` gives it, without a copy of all that is in it.
        held, names = value.__dict__, type(value).__pydantic_fields__
        # What is held beside the fields are cached properties.
        return held if len(held) == len(names) else {name: held[name] for name in names}
    raise TypeError(f"{type(value).__name__} has no place in a message")


def _unpack_exact(code: int, data: bytes) -> Exact:
    if code != EXACT_TYPE:
        raise ValueError(f"extension type {code}, allowed is {EXACT_TYPE}")
    return Exact.from_bytes(data)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in a map")
    return result


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value
