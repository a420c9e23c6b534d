"""Dockerfile, compose file and Kubernetes manifest: what can be told of them without an engine."""

import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from ops.broker_definitions import roles_and_machines
from ops.cli import COMMANDS
from protocol.settings import broker_from_url

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "ops" / "container"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
MANIFEST: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "ops/kubernetes/montemq.yaml").read_text(encoding="utf-8"))
)
ROLES = ("aggregator", "producer", "consumer")
HOSTS = {"consumer.compose": "compose", "consumer.kubernetes": "kubernetes"}
MADE_BEFORE = ("definitions.json", "passwords")
WORKLOADS = {
    d["metadata"]["name"]: d for d in MANIFEST if d["kind"] in {"Deployment", "StatefulSet"}
}


def understood(arguments: list[str]) -> dict[str, Any]:
    """Return what a command makes of its arguments, without running it."""
    module, _, name = COMMANDS[arguments[0]][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), name)
    return command.make_context(arguments[0], arguments[1:]).params


def stages() -> list[str]:
    return re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]


def test_the_image_copies_what_exists_and_the_ignore_file_lets_it_through() -> None:
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert allowed[0] == "*"
    for line in re.findall(r"^COPY (?!--from)(.*)$", stages()[0], re.MULTILINE):
        for source in shlex.split(line)[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in allowed
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"COPY {package} {package}" in DOCKERFILE


def test_the_image_runs_as_nobody_special_with_a_health_check_that_is_python() -> None:
    build, last = stages()
    assert "AS build" in build
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert last.index("USER ") < last.index("ENTRYPOINT")
    [check] = re.findall(r'^  CMD \["python", "-c", "(.*)"\]$', last, re.MULTILINE)
    compile(check, "HEALTHCHECK", "exec")
    assert "--require-hashes -r requirements.lock" in build


def test_compose_runs_one_image_in_all_roles_with_commands_that_are_understood() -> None:
    for role in ROLES:
        service = COMPOSE["services"][role]
        assert service["image"] == "montemq"
        assert service["command"][0] == role
        params = understood(service["command"])
        assert params["password_file"] == f"/run/secrets/{role}"
        assert service["secrets"] == [role]
        broker = broker_from_url(service["environment"]["MONTEMQ_AMQP_URL"])
        assert_known(broker.user)
        assert (broker.host in COMPOSE["services"], broker.vhost) == (True, "montemq")
        assert COMPOSE["secrets"][role]["file"] == f"./passwords/{broker.user}.password"
    build = COMPOSE["services"]["consumer"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()


def assert_known(user: str) -> None:
    assert user in {known.name for known in roles_and_machines(HOSTS.values())}


def test_compose_gives_no_service_more_than_it_needs() -> None:
    for role in ROLES:
        service = COMPOSE["services"][role]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["user"].startswith("${MONTEMQ_USER:?")
    for name, service in COMPOSE["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is reached from this machine alone"


def mounts() -> Iterator[tuple[str, str]]:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            yield volume.split(":")[0], volume.split(":")[1]


def test_compose_mounts_files_that_exist_and_volumes_that_are_declared() -> None:
    for source, _ in mounts():
        if source.startswith("."):
            made = source.removeprefix("./").split("/")[0] in MADE_BEFORE
            assert made or (FOLDER / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


def test_compose_provisions_the_dashboards_and_what_they_ask() -> None:
    places = dict(mounts())
    provider = yaml.safe_load(
        (ROOT / "ops/grafana/provisioning/dashboards/montemq.yml").read_text(encoding="utf-8")
    )
    [path] = [one["options"]["path"] for one in provider["providers"]]
    assert places["../grafana/dashboards"] == path
    mine = yaml.safe_load((FOLDER / "datasource.yml").read_text(encoding="utf-8"))
    theirs = yaml.safe_load(
        (ROOT / "ops/grafana/provisioning/datasources/montemq.yml").read_text(encoding="utf-8")
    )
    for one in (mine, theirs):
        one["datasources"][0].pop("url")
    assert mine == theirs


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "prometheus.yml", tmp_path)
    for name in ("rules.yml", "alerts.yml"):
        shutil.copy(ROOT / "ops" / "prometheus" / name, tmp_path)
    done = subprocess.run(  # noqa: S603 - our own command line
        [str(shutil.which("promtool")), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_the_manifest_runs_the_same_image_locked_down(role: str) -> None:
    spec = WORKLOADS[role]["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert container["image"] == "montemq"
    assert container["args"][0] == role
    params = understood(container["args"])
    assert params["password_file"] == f"/run/secrets/montemq/{role}"
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    [address] = [one["value"] for one in container["env"] if one["name"] == "MONTEMQ_AMQP_URL"]
    assert address.startswith("amqps://")
    assert_known(broker_from_url(address).user)


@pytest.mark.parametrize("role", ROLES)
def test_what_the_manifest_names_it_also_declares(role: str) -> None:
    workload = WORKLOADS[role]
    spec, template = workload["spec"], workload["spec"]["template"]
    [container] = template["spec"]["containers"]
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
    volumes = claims | {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert spec["selector"]["matchLabels"] == template["metadata"]["labels"]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe in container:
            assert container[probe]["httpGet"]["port"] in ports
    classes = {d["metadata"]["name"] for d in MANIFEST if d["kind"] == "PriorityClass"}
    assert template["spec"].get("priorityClassName") in {None, *classes}
