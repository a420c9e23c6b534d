"""What a line of a log is about, under the same names in all services; how lines look is not here.

Give the names as `extra` to a logger. Run, cell and attempt are what a chunk is called everywhere.
"""

from protocol.messages import ChunkScope

LOGGER = "montemq"
"""All services log below it."""

IDS = ("run", "cell", "attempt")


def of_run(run: str) -> dict[str, object]:
    """Return what a line about a run carries."""
    return {"run": run}


def of_chunk(scope: ChunkScope) -> dict[str, object]:
    """Return what a line about a chunk, or about the answer to one, carries."""
    return {name: getattr(scope, name) for name in IDS}
