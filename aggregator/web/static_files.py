"""The page's own files, and the plotting library as its package ships it."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
PLOTLY = "plotly.min.js"


@cache
def files() -> dict[str, Path]:
    """Return what is served under `/static/`, by name."""
    own = {path.name: path for path in FOLDER.iterdir() if path.suffix in {".js", ".css", ".svg"}}
    return own | {PLOTLY: plotly()}


@cache
def plotly() -> Path:
    """Return where the plotting library is; its package is not imported, which would take long."""
    spec = find_spec("plotly")
    assert spec is not None  # noqa: S101 - a dependency
    assert spec.origin is not None  # noqa: S101 - a regular package
    return Path(spec.origin).parent / "package_data" / PLOTLY


@cache
def page() -> str:
    """Return the page, the same for all runs: its scripts find out what to show."""
    return text("page.html").replace("<!-- stand-ins -->", stand_ins())


@cache
def stand_ins() -> str:
    """Return elements that the plotting library takes for styles of its maps.

    It would add these, which no policy of ours allows, and no map is drawn.
    """
    script = plotly().read_text(encoding="utf-8")
    ids = re.findall(r'getElementById\("([0-9a-f]{64})"\)', script)
    return "".join(f'<template id="{name}"></template>' for name in sorted(set(ids)))


def text(name: str) -> str:
    """Return one of our own files."""
    return (FOLDER / name).read_text(encoding="utf-8")
