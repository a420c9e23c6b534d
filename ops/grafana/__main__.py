"""Writes what is generated: dashboards, the runbook's page, and the links of alerts to it."""

from pathlib import Path

import click

from ops import runbook
from ops.grafana import aggregator, broker, fleet, runs
from ops.grafana.document import document

OPS = Path(__file__).parents[1]
FOLDER = OPS / "grafana" / "dashboards"
DASHBOARDS = {
    f"{module.__name__.rpartition('.')[2]}.json": module.DASHBOARD
    for module in (runs, fleet, broker, aggregator)
}
LINKED = tuple(OPS / "prometheus" / name for name in ("alerts.yml", "alerts.test.yml"))


def files(base: str) -> dict[Path, str]:
    """Return all that is generated, by path."""
    dashboards = {FOLDER / name: document(page, base) for name, page in DASHBOARDS.items()}
    alerts = {path: runbook.rebased(path.read_text(encoding="utf-8"), base) for path in LINKED}
    return dashboards | alerts | {runbook.PAGE: runbook.page()}


@click.command()
@click.option(
    "--runbook", "base", default=runbook.BASE_URL, show_default=True, help="Where it is read."
)
def main(base: str) -> None:
    """Write dashboards and the runbook's page, and into the alerts where that is read."""
    FOLDER.mkdir(exist_ok=True)
    for path, text in files(base).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
