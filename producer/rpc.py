"""Asks the aggregator: the requests of the protocol as functions, refusals as errors."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from protocol.amqp_aio import Link
from protocol.errors import (
    MessageRefusedError,
    MontemqError,
    NoAggregatorError,
    ResultTooLargeError,
    RunIdTakenError,
    UnknownRunError,
    UsageError,
)
from protocol.messages import Message, explain
from protocol.rpc_messages import ErrorCode, ErrorReply

Answer = TypeVar("Answer", bound=Message)
Request = TypeVar("Request", bound=Message)

RPC_SECONDS = 5.0

FEW_CELLS = 100
"""Up to so many cells, progress comes with the estimates: these cost the aggregator time."""

_ERRORS: dict[ErrorCode, type[MontemqError]] = {
    ErrorCode.INVALID: UsageError,
    ErrorCode.UNKNOWN_RUN: UnknownRunError,
    ErrorCode.RUN_ID_TAKEN: RunIdTakenError,
    ErrorCode.TOO_LARGE: ResultTooLargeError,
}


async def ask(
    link: Link, request: Message, answer: type[Answer], within: float = RPC_SECONDS
) -> Answer:
    """Send a request and return its answer.

    Raises
    ------
    UsageError, UnknownRunError, RunIdTakenError, ResultTooLargeError
        The aggregator did not carry it out, and says why.
    NoAggregatorError
        Nobody answered within this many seconds, or not in a way that we understand.
    """
    try:
        reply = await link.call(request, answer, within)
    except MessageRefusedError as error:
        raise NoAggregatorError(
            f"the aggregator answered what we do not understand: {error}"
        ) from None
    if isinstance(reply, ErrorReply):
        raise _ERRORS[ErrorCode(reply.code)](reply.text)
    assert isinstance(reply, answer)  # noqa: S101 - decode allows nothing else
    return reply


def valid(request: Callable[[], Request]) -> Request:
    """Return a request that was made of what the user gave.

    Raises
    ------
    UsageError
        It is wrong, such as an impossible run id.
    """
    try:
        return request()
    except ValidationError as error:
        raise UsageError(explain(error)) from None
