"""How a metric that is read at each scrape is declared: once, with where its numbers come from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

State = TypeVar("State")


States = Mapping[Any, State]
"""What is shown, by the values of the labels that tell them apart, a tuple."""


class Buckets(NamedTuple):
    """What a histogram shows: up to each end, all that was no larger; and the sum."""

    cumulative: list[tuple[str, int]]
    total: float

    @classmethod
    def of(cls, ends: Sequence[float], classes: Iterable[int], total: float) -> "Buckets":
        """Return the buckets of classes, of which the last one is open."""
        names = [*map(str, ends), "+Inf"]
        return cls([*zip(names, accumulate(classes), strict=True)], total)


Amount = float | Mapping[str, float] | Buckets | None
"""A number; or one for each value of the last label; None, and nothing is shown."""


@dataclass(frozen=True, slots=True)
class Family(Generic[State]):
    """One metric.

    Attributes
    ----------
    kind, name, meaning
        Its type, its name without the prefix, and one sentence.
    labels
        Names of all labels; those first by which states are told apart.
    read
        What a state has to show.
    """

    kind: Callable[..., Any]
    name: str
    meaning: str
    labels: tuple[str, ...]
    read: Callable[[State], Amount]

    def of(self, states: States[State]) -> Metric:
        """Return the metric of all states, by the labels that tell them apart."""
        metric = self.kind(f"montemq_{self.name}", self.meaning, labels=self.labels)
        for values, state in states.items():
            match self.read(state):
                case Buckets() as buckets:
                    metric.add_metric(values, *buckets)
                case Mapping() as amounts:
                    for value, amount in amounts.items():
                        metric.add_metric([*values, value], amount)
                case None:
                    pass
                case amount:
                    metric.add_metric(values, amount)
        return metric  # type: ignore[no-any-return]


def shown(families: Iterable[Family[State]], states: States[State]) -> Iterator[Metric]:
    """Yield the metrics of states."""
    return (family.of(states) for family in families)


GAUGE, COUNTER, HISTOGRAM = GaugeMetricFamily, CounterMetricFamily, HistogramMetricFamily
