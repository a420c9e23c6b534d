"""The examples that we ship: built, installed and run as a user would; and what our wheel holds."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack_jobs import SIGMAS
from tests.support.stack_processes import ROOT, environment
from tests.support.stack_site import Site

EXAMPLES = ROOT / "ops" / "examples"
P = 0.9
TWO_TERMINAL = 2 * P**2 + 2 * P**3 - 5 * P**4 + 2 * P**5
ALL_TERMINAL = 8 * P**3 * (1 - P) ** 2 + 5 * P**4 * (1 - P) + P**5
SHARED_BIRTHDAY = 0.5072972343239854
"""1 - 365! / (342! 365^23)."""


def pip(*arguments: str) -> None:
    """Run pip without any network; without pip and hatchling skip, except in CI."""
    missing = [name for name in ("pip", "hatchling") if find_spec(name) is None]
    if missing:
        text = f"not in this environment: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    quiet = ("--disable-pip-version-check", "--no-cache-dir", "--quiet")
    alone = ("--no-index", "--no-deps", "--no-build-isolation")
    subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-m", "pip", *arguments, *quiet, *alone],
        check=True,
        timeout=120,
        env=os.environ | {"PIP_ROOT_USER_ACTION": "ignore"},
    )


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example package, so that nothing is built inside the checkout."""
    return Path(
        shutil.copytree(
            EXAMPLES / "network_reliability", tmp_path_factory.mktemp("source") / "package"
        )
    )


@pytest.fixture(scope="module")
def installed(example: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder into which the example package is installed."""
    target = str(tmp_path_factory.mktemp("installed"))
    pip("install", str(example), "--target", target)
    return target


def assert_close(estimate: dict[str, Any], exact: float) -> None:
    assert abs(estimate["mean"] - exact) < SIGMAS * estimate["standard_error"]


def test_the_example_package_is_installed_and_gives_the_exact_reliability(
    site: Site, installed: str
) -> None:
    site.aggregator().ready()
    site.consumer(2, path=installed).ready()
    words = ("network_reliability", "--samples", "1000000", "--seed", "1", "--json")
    result = site.command("run", *words, path=installed).json
    assert (result["state"], result["samples"]) == ("finished", 1_015_808)
    outputs = result["cells"][0]["outputs"]
    assert_close(outputs["two_terminal"], TWO_TERMINAL)
    assert_close(outputs["all_terminal"], ALL_TERMINAL)
    assert outputs["two_terminal"]["standard_error"] < 2e-4


def test_the_example_package_runs_the_run_file_of_its_readme(
    site: Site, example: Path, installed: str
) -> None:
    readme = (example / "README.md").read_text(encoding="utf-8")
    run_file = site.folder / "ring.toml"
    run_file.write_text(fenced(readme, "toml")[0], encoding="utf-8")
    site.aggregator().ready()
    site.consumer(2, path=installed).ready()
    command = site.command("run", str(run_file), "--samples", "100000", "--json", path=installed)
    ring, with_chord = (cell["outputs"]["two_terminal"] for cell in command.json["cells"])
    half = 0.95**3
    assert_close(ring, 1 - (1 - half) ** 2)
    assert with_chord["mean"] > ring["mean"]


def test_the_example_package_says_what_it_takes_and_what_is_wrong(
    site: Site, installed: str
) -> None:
    shown = site.command("models", "network_reliability", "--json", path=installed).json
    checked = site.command("models", "network_reliability", "--check", "--json", path=installed)
    assert (checked.code, checked.json["ok"]) == (0, True)
    assert [parameter["name"] for parameter in shown["parameters"]] == [
        "links", "reliability", "start", "end",
    ]  # fmt: skip
    refused = site.command("run", "network_reliability", "--set", "end=x", path=installed)
    assert refused.code == 2
    assert refused.err.endswith("end = 'x' is no node; nodes are a, b, s, t\n")


def test_the_tests_of_the_example_package_pass(example: Path, installed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=example,
        env=environment(PYTHONPATH=installed),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b14 passed", done.stdout)


def test_the_model_of_the_page_for_authors_has_15_lines_and_runs(site: Site) -> None:
    (source,) = fenced((EXAMPLES / "README.md").read_text(encoding="utf-8"), "python")
    assert len([line for line in source.splitlines() if line]) <= 15
    path = site.folder / "birthdays.py"
    path.write_text(source, encoding="utf-8")
    options = ("--model-file", f"{path}:Birthdays")
    checked = site.command("models", "birthdays", "--check", "--json", *options)
    assert (checked.code, checked.json["ok"]) == (0, True)
    site.aggregator().ready()
    site.consumer(1, *options).ready()
    words = ("birthdays", "--samples", "100000", "--seed", "1", "--json")
    result = site.command("run", *words, *options).json
    assert_close(result["cells"][0]["outputs"]["shared"], SHARED_BIRTHDAY)


def test_our_wheel_holds_what_runs_and_nothing_that_needs_a_clone(tmp_path: Path) -> None:
    pip("wheel", str(ROOT), "--wheel-dir", str(tmp_path))
    (wheel,) = tmp_path.glob("montemq-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "protocol", "producer", "consumer", "aggregator", "ops", "montemq",
    }  # fmt: skip
    assert {"ops/cli.py", "aggregator/store/queries.sql", "consumer/models/pi.py"} <= {*names}
    monitoring = {"prometheus/prometheus.yml", "prometheus/alerts.yml", "runbook.html"}
    assert {f"ops/{name}" for name in monitoring} <= {*names}
    # Our annotations count for whoever builds on us.
    parts = ("protocol", "producer", "consumer", "aggregator", "ops")
    assert {f"{part}/py.typed" for part in parts} <= {*names}
    needs_a_clone = {
        "examples", "bench", "simulation", "demo", "demo.py", "test", "setup.sh",
        "container", "kubernetes", "rabbitmq-4", "FAULTS.md",
    }  # fmt: skip
    assert {
        name.split("/")[1] for name in names if name.startswith("ops/")
    } & needs_a_clone == set()
    assert [name for name in names if name.endswith((".toml", ".sh"))] == []
    assert [
        name for name in names if re.search(r"(^|/)(tests?|test_[^/]*|conftest\.py)(/|$)", name)
    ] == []


def fenced(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
