"""The table of metrics as its page has it, and the same of what a service serves."""

import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

PAGE = Path(__file__).parents[2] / "ops" / "prometheus" / "METRICS.md"


class Metric(NamedTuple):
    """What is said of one metric."""

    type: str
    labels: frozenset[str]
    meaning: str


def documented() -> dict[str, Metric]:
    """Return what the table says, by name."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    return {
        name: Metric(kind, frozenset(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
    }


def exposed(text: str) -> dict[str, Metric]:
    """Return what a page serves, by name."""
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    meanings = dict(re.findall(r"^# HELP (\w+) (.+)$", text, re.MULTILINE))
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = re.sub(r"_(bucket|sum|count)$", "", sample.name)
            labels[name] |= sample.labels.keys() - {"le"}
    assert labels.keys() == types.keys(), "every metric has a sample"
    return {
        name: Metric(kind, frozenset(labels[name]), meanings[name]) for name, kind in types.items()
    }
