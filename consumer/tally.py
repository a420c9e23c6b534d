"""What an agent has answered since it started, for telemetry; pure and bounded."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from protocol.messages import (
    CHUNK_SECONDS,
    MAX_MODELS,
    Chunk,
    FailureKind,
    ModelTotals,
    Totals,
)

OTHER = "other"


@dataclass(slots=True)
class _Model:
    samples: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    chunks: list[int] = field(default_factory=lambda: [0] * (len(CHUNK_SECONDS) + 1))


class Tally:
    """Counts of one agent, by model and by kind of failure."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._failures = Counter[FailureKind]()

    def answered(
        self,
        chunk: Chunk,
        kind: FailureKind | None,
        seconds: float = 0.0,
        cpu_seconds: float = 0.0,
    ) -> None:
        """Count an answer.

        Parameters
        ----------
        chunk
            What was answered.
        kind
            Of the failure, None for a partial.
        seconds
            How long a partial took its slot.
        cpu_seconds
            CPU time spent on it.
        """
        if kind is not None:
            self._failures[kind] += 1
            return
        model = self._of(chunk.model)
        model.samples += chunk.blocks * chunk.block_size
        model.seconds += seconds
        model.cpu_seconds += cpu_seconds
        model.chunks[bisect_left(CHUNK_SECONDS, seconds)] += 1

    def totals(self, reconnections: int, cancels: int, rejected: int) -> Totals:
        """Return all counts, with those of the connection and of what came over it."""
        return Totals(
            models={
                name: ModelTotals(
                    samples=model.samples,
                    seconds=model.seconds,
                    cpu_seconds=model.cpu_seconds,
                    chunks=tuple(model.chunks),
                )
                for name, model in self._models.items()
            },
            failures=dict(self._failures),
            reconnections=reconnections,
            cancels=cancels,
            rejected=rejected,
        )

    def _of(self, model: str) -> _Model:
        if model not in self._models and len(self._models) >= MAX_MODELS - 1:
            model = OTHER
        return self._models.setdefault(model, _Model())
