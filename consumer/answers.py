"""How partials and failures name their chunk and their consumer; nothing is computed here."""

from dataclasses import dataclass
from typing import Any

from protocol.messages import ChunkScope, Failure, FailureKind

MAX_TEXT = 2048


@dataclass(frozen=True, slots=True)
class Worker:
    """Who computes."""

    consumer: str
    host: str


def scope(chunk: ChunkScope) -> dict[str, Any]:
    """Return the fields by which a partial or failure names the chunk that it answers."""
    return {name: getattr(chunk, name) for name in ChunkScope.model_fields}


def failure(
    chunk: ChunkScope, worker: Worker, kind: FailureKind, text: str, block: int | None = None
) -> Failure:
    """Return the failure of a chunk; a longer text is cut to what a message may carry."""
    return Failure(
        **scope(chunk),
        kind=kind,
        # Surrogates, as in undecodable file names, have no form in UTF-8.
        text=text[:MAX_TEXT].encode(errors="replace").decode(),
        consumer=worker.consumer,
        host=worker.host,
        block=block,
    )
