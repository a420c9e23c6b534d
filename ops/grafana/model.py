"""What a dashboard is made of, as values; `ops.grafana.document` says it in Grafana's JSON."""

from dataclasses import dataclass
from enum import StrEnum

RATE = "$__rate_interval"
"""The range of every rate: Grafana makes it fit the scrape interval and the width of the graph."""


class Kind(StrEnum):
    """How a panel draws its queries."""

    GRAPH = "timeseries"
    NUMBER = "stat"
    BARS = "bargauge"


class Unit(StrEnum):
    """Units by Grafana's names."""

    COUNT = "short"
    SHARE = "percentunit"
    SECONDS = "s"
    BYTES = "bytes"
    PER_SECOND = "cps"
    ON_OFF = "bool_on_off"


class Color(StrEnum):
    """What a threshold says."""

    GOOD = "green"
    DOUBTFUL = "orange"
    BAD = "red"


@dataclass(frozen=True)
class Query:
    """A query in PromQL, and what its series are called; `{{label}}` stands for a label's value."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Step:
    """From this value on, a panel shows this color."""

    value: float
    color: Color


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes
    ----------
    description
        What it shows and how to read it, in a sentence or two.
    steps
        Where it stops being good; below the first one it is, unless `base` says otherwise.
    width
        Of 24 columns.
    stacked
        Whether the series of a graph lie on top of each other.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit = Unit.COUNT
    kind: Kind = Kind.GRAPH
    steps: tuple[Step, ...] = ()
    base: Color = Color.GOOD
    width: int = 8
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels that answer one question of an operator's.

    Attributes
    ----------
    alerts
        Names of the alerts that are about it, each a section of the runbook.
    """

    question: str
    alerts: tuple[str, ...]
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice of the reader's: of all values that a label has in a metric, all at first."""

    name: str
    label: str
    metric: str


@dataclass(frozen=True)
class Dashboard:
    """A page; its `uid` is part of its address and never changes."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]


def query(expression: str, legend: str) -> tuple[Query, ...]:
    """Return the only query of a panel."""
    return (Query(expression, legend),)


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Return how fast a counter grows per second, summed, or by labels; `where` selects series."""
    return f"sum{by and f' by ({by}) '}(rate({metric}{where}[{RATE}]))"


def quantile(share: float, histogram: str, by: str = "", where: str = "") -> str:
    """Return what this share of a histogram's observations stays below."""
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, {rate(histogram + '_bucket', labels, where)})"


def flows(
    title: str, description: str, metric: str, by: str, where: str = "", width: int = 8
) -> Panel:
    """Return a panel of what happens per second, by labels, one upon the other."""
    legend = ": ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    series = query(rate(metric, by, where), legend)
    return Panel(title, description, series, Unit.PER_SECOND, width=width, stacked=True)
