"""Dashboards in Grafana's JSON: where each panel stands, and all that Grafana wants to be told."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from ops.grafana.model import Dashboard, Kind, Panel, Query, Row, Variable
from ops.runbook import BASE_URL, link

SCHEMA_VERSION = 41
COLUMNS = 24
HEIGHT, NOTE_HEIGHT = 8, 2
TAG = "montemq"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
REFS = "ABCDEF"


def document(dashboard: Dashboard, runbook: str = BASE_URL) -> str:
    """Return the file of a dashboard whose rows link to the runbook at this address."""
    content = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "links": [_siblings()],
        "templating": {"list": [_source(), *map(_variable, dashboard.variables)]},
        "panels": list(_panels(dashboard, runbook)),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _panels(dashboard: Dashboard, runbook: str) -> Iterator[dict[str, Any]]:
    ids, y = count(1), 0
    for row in dashboard.rows:
        yield _row(row, next(ids), y)
        yield _note(row, runbook, next(ids), y + 1)
        x, y = 0, y + 1 + NOTE_HEIGHT
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            yield _panel(panel, next(ids), {"x": x, "y": y, "w": panel.width, "h": HEIGHT})
            x += panel.width
        y += HEIGHT


def _row(row: Row, number: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": row.question,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        "panels": [],
    }


def _note(row: Row, runbook: str, number: int, y: int) -> dict[str, Any]:
    """Return the links of a row: Grafana shows none on the row itself."""
    links = " · ".join(f"[{alert}]({link(alert, runbook)})" for alert in row.alerts)
    return {
        "id": number,
        "type": "text",
        "title": "",
        "transparent": True,
        "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": NOTE_HEIGHT},
        "options": {"mode": "markdown", "content": f"Runbook: {links}"},
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel.kind),
        "targets": [_target(query, ref) for query, ref in zip(panel.queries, REFS, strict=False)],
    }


def _field(panel: Panel) -> dict[str, Any]:
    steps = [{"color": panel.base.value, "value": None}]
    field: dict[str, Any] = {
        "unit": panel.unit.value,
        "min": 0,
        "thresholds": {
            "mode": "absolute",
            "steps": steps + [{"color": s.color.value, "value": s.value} for s in panel.steps],
        },
        "color": {"mode": "palette-classic" if panel.kind is Kind.GRAPH else "thresholds"},
    }
    if panel.kind is Kind.GRAPH:
        field["custom"] = {
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.steps else "off"},
        }
    return field


def _options(kind: Kind) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if kind is Kind.GRAPH:
        return {
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind is Kind.NUMBER:
        return {"reduceOptions": last, "colorMode": "background", "graphMode": "area"}
    return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}


def _target(query: Query, ref: str) -> dict[str, Any]:
    return {
        "refId": ref,
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend,
        "range": True,
    }


def _source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "refresh": 1,
    }


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": SOURCE,
        "query": {
            "query": f"label_values({variable.metric}, {variable.name})",
            "refId": variable.name,
        },
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "hide": 0,
        "refresh": 2,
        "sort": 1,
    }


def _siblings() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "montemq",
        "tags": [TAG],
        "icon": "external link",
        "tooltip": "",
        "asDropdown": False,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
    }
