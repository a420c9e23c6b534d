"""Prometheus and its tool for checks: whether they are there, what one says, what we give it."""

import json
import math
import os
import shutil
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "ops" / "prometheus"


def require_promtool() -> str:
    """Return where promtool is; skip where it is not installed, and fail in CI."""
    return _require("promtool")


def require_prometheus() -> str:
    """Return where prometheus is; skip where it is not installed, and fail in CI."""
    return _require("prometheus")


def read(name: str) -> str:
    """Return one of our files for Prometheus."""
    return (FOLDER / name).read_text("utf-8")


def asked(url: str, path: str, **parameters: Any) -> Any:
    """Return the data of an answer of Prometheus' HTTP interface."""
    address = f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - our own address
        return json.load(answer)["data"]


def value(url: str, query: str) -> float:
    """Return the one value that a query has now, NaN where it has none."""
    found = asked(url, "query", query=query)["result"]
    assert len(found) <= 1, found
    return float(found[0]["value"][1]) if found else math.nan


def names(url: str, kind: str) -> set[str]:
    """Return the names of the rules that a Prometheus has: of kind `alert`, or `record`."""
    groups = asked(url, "rules", type=kind)["groups"]
    return {rule["name"] for group in groups for rule in group["rules"]}


def _require(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return found
