"""The files for Prometheus: valid, every alert tested both ways and explained in the runbook."""

import re
import subprocess
from pathlib import Path

from ops import runbook
from ops.runbook import BASE_URL
from tests.support.prometheus import require_promtool

OPS = Path(__file__).parents[2] / "ops"
FOLDER = OPS / "prometheus"
ALERTS = (FOLDER / "alerts.yml").read_text("utf-8")
RULES = (FOLDER / "rules.yml").read_text("utf-8")
CASES = (FOLDER / "alerts.test.yml").read_text("utf-8")
RUNBOOK = (OPS / "RUNBOOK.md").read_text("utf-8")
NAMES = re.findall(r"^ +- alert: (\w+)$", ALERTS, re.MULTILINE)


def promtool(*arguments: str) -> None:
    answer = subprocess.run(  # noqa: S603 - a program of the system
        [require_promtool(), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_configuration_and_its_rules_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")


def test_every_alert_fires_and_is_quiet_where_it_should() -> None:
    promtool("test", "rules", "alerts.test.yml")


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet() -> None:
    cases = re.split(r"^ +- name: ", CASES, flags=re.MULTILINE)[1:]
    assert len(NAMES) == len(set(NAMES)) >= 12
    for case in cases:
        name, verb = case.split()[:2]
        assert re.findall(r"alertname: (\w+)", case) == [name]
        assert ("exp_alerts" in case) is (verb == "fires"), case
    tested = [tuple(case.split()[:2]) for case in cases]
    for name in NAMES:
        assert {(name, "fires"), (name, "is")} <= set(tested), name
    assert {name for name, _ in tested} == set(NAMES)


def test_every_alert_links_to_its_section_of_the_runbook_and_no_section_is_left() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == NAMES
    links = re.findall(r"runbook_url: (\S+)$", ALERTS, re.MULTILINE)
    assert links == [f"{BASE_URL}#{name.lower()}" for name in NAMES]
    for text in re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]:
        for part in ("**Means.**", "**Look at.**", "**Do.**"):
            assert part in text, text.split()[0]


def test_the_page_of_the_runbook_has_an_anchor_for_every_alert_and_links_only_to_its_server() -> (
    None
):
    page = runbook.page()
    assert {name.lower() for name in NAMES} <= set(re.findall(r' id="([^"]+)"', page))
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert [link for link in links if not re.match(r"/(?!/)|#", link)] == []


def test_every_metric_of_ours_that_is_named_is_one_that_exists() -> None:
    page = (FOLDER / "METRICS.md").read_text("utf-8")
    known = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    for text in (ALERTS, RULES, CASES, RUNBOOK):
        named = set(re.findall(r"\bmontemq_\w+", text))
        assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} <= known


def test_every_recorded_series_that_is_named_is_recorded() -> None:
    recorded = set(re.findall(r"^ +- record: (\S+)$", RULES, re.MULTILINE))
    named = set(re.findall(r"\bmontemq:\w+:\w+|\bmontemq:\w+\b(?!:)", ALERTS + RULES))
    assert named <= recorded
