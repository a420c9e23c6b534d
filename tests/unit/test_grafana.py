"""The dashboards: what is checked in is what is generated, and says what Grafana must be told."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ops import runbook
from ops.grafana import __main__ as grafana
from ops.grafana.document import COLUMNS
from ops.grafana.model import Dashboard, Panel
from ops.runbook import BASE_URL
from tests.support.metrics_table import documented
from tests.support.prometheus import read

PAGES = list(grafana.DASHBOARDS.values())
SECTIONS = re.findall(r"^## (\w+)$", (grafana.OPS / "RUNBOOK.md").read_text("utf-8"), re.MULTILINE)


def panels(page: Dashboard) -> list[Panel]:
    return [panel for row in page.rows for panel in row.panels]


def expressions(page: Dashboard) -> list[str]:
    return [query.expression for panel in panels(page) for query in panel.queries]


def everything(content: Any) -> list[dict[str, Any]]:
    """Return every object in a document."""
    inner = content.values() if isinstance(content, dict) else content
    below = [one for part in inner if isinstance(part, dict | list) for one in everything(part)]
    return [content, *below] if isinstance(content, dict) else below


def test_what_is_checked_in_is_what_is_generated() -> None:
    generated = grafana.files(BASE_URL)
    assert set(grafana.FOLDER.iterdir()) == {
        path for path in generated if path.parent == grafana.FOLDER
    }
    for path, text in generated.items():
        assert path.read_bytes() == text.encode(), f"{path.name}: run python -m ops.grafana"


def test_another_address_of_the_runbook_stands_in_every_link() -> None:
    base = "https://docs.example/runbook"
    changed = grafana.files(base)
    assert changed.keys() == grafana.files(BASE_URL).keys()
    for path, text in changed.items():
        assert BASE_URL not in text
        if path.suffix == ".yml":
            text = re.sub(f"{re.escape(base)}#", f"{BASE_URL}#", text)  # noqa: PLW2901
            assert text == path.read_text("utf-8"), "and nothing else is changed"
        elif path.suffix == ".json":
            assert f"]({base}#" in text


def test_the_command_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grafana, "FOLDER", tmp_path / "dashboards")
    alerts = tmp_path / "alerts.yml"
    alerts.write_text(read("alerts.yml"), encoding="utf-8")
    monkeypatch.setattr(grafana, "LINKED", (alerts,))
    monkeypatch.setattr(runbook, "PAGE", tmp_path / "runbook.html")
    words = ["--runbook", "https://docs.example/x"]
    assert CliRunner().invoke(grafana.main, words).exit_code == 0
    assert "https://docs.example/x#runmissed" in alerts.read_text("utf-8")
    assert (tmp_path / "runbook.html").read_text("utf-8") == runbook.page()
    written = {path.name for path in (tmp_path / "dashboards").iterdir()}
    assert written == {"runs.json", "fleet.json", "broker.json", "aggregator.json"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)
def test_a_page_is_complete(page: Dashboard) -> None:
    for row in page.rows:
        assert row.alerts, f"{row.question} links to the runbook"
        assert set(row.alerts) <= set(SECTIONS)
    titles = [panel.title for panel in panels(page)]
    assert len(titles) == len(set(titles))
    for panel in panels(page):
        assert panel.description.endswith("."), panel.title
        assert panel.queries
        values = [step.value for step in panel.steps]
        assert values == sorted(set(values))
    used = set(re.findall(r"\$(\w+)", " ".join(expressions(page)))) - {"__rate_interval"}
    assert used == {variable.name for variable in page.variables}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)
def test_rates_fit_the_scrape_interval(page: Dashboard) -> None:
    for text in expressions(page):
        assert re.findall(r"(?:rate|increase|deriv)\([^[]*\[(.*?)\]", text) == (
            ["$__rate_interval"] * len(re.findall(r"\b(?:rate|increase|deriv)\(", text))
        ), text


@pytest.mark.parametrize("name", grafana.DASHBOARDS)
def test_a_document_has_what_grafana_wants(name: str) -> None:
    content = json.loads((grafana.FOLDER / name).read_text("utf-8"))
    assert content["uid"] == f"montemq-{Path(name).stem}"
    assert content["schemaVersion"] >= 39
    assert "id" not in content, "the number is Grafana's to give"
    ids = [panel["id"] for panel in content["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    sources = [one["datasource"] for one in everything(content) if "datasource" in one]
    assert sources == [{"type": "prometheus", "uid": "${datasource}"}] * len(sources)
    (source,) = [v for v in content["templating"]["list"] if v["type"] == "datasource"]
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    for panel in content["panels"]:
        if panel["type"] not in {"row", "text"}:
            assert panel["targets"]
            assert panel["fieldConfig"]["defaults"]["unit"]
    cells = [cell for panel in content["panels"] for cell in covered(panel["gridPos"])]
    assert len(cells) == len(set(cells)), "no panel covers another one"


def covered(place: dict[str, int]) -> list[tuple[int, int]]:
    assert place["x"] + place["w"] <= COLUMNS
    return [(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])]


def test_every_metric_and_recorded_series_on_a_page_exists() -> None:
    known = documented().keys()
    recorded = set(re.findall(r"^ +- record: (\S+)$", read("rules.yml"), re.MULTILINE))
    text = " ".join(e for page in PAGES for e in expressions(page))
    named = {re.sub(r"_(bucket|count)$", "", n) for n in re.findall(r"\bmontemq_\w+", text)}
    assert named <= known
    assert set(re.findall(r"\bmontemq:[\w:]+", text)) <= recorded


def test_every_metric_of_ours_stands_on_a_page() -> None:
    known = documented().keys()
    pages = " ".join(path.read_text("utf-8") for path in grafana.FOLDER.iterdir())
    assert {name for name in known if name not in pages} == set()
