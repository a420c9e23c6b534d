"""systemd units: what is written, what systemd thinks of it, and what services tell it."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.cli import cli
from ops.commands.install import _program, install
from ops.notify import notify, watchdog_seconds
from ops.systemd_units import Service, Unit
from protocol.errors import UsageError
from tests.support.stack_processes import ROOT, eventually
from tests.support.stack_site import Site

ETC = Path("/etc/montemq")
MOST_EXPOSED = 3.0
ANALYZE = shutil.which("systemd-analyze")
analyzed = pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
services = pytest.mark.parametrize("service", Service)


def unit(service: Service, program: Path = Path("/opt/montemq/bin/montemq")) -> Unit:
    return Unit(service, program, ETC, {"password": ETC / f"{service}.password"})


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    with tempfile.TemporaryDirectory() as folder:  # a user's manager wants one
        return subprocess.run(  # noqa: S603 - our own command line
            [ANALYZE, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=os.environ | {"XDG_RUNTIME_DIR": folder},
        )


def installed(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(install, ["--root", str(root), *arguments], catch_exceptions=False)


@services
def test_the_examples_are_what_is_installed_for_a_program_in_opt(service: Service) -> None:
    made = unit(service)
    assert (ROOT / "ops" / "systemd" / made.name).read_text(encoding="utf-8") == made.text


@analyzed
@services
def test_systemd_finds_nothing_wrong_with_a_unit(service: Service, tmp_path: Path) -> None:
    program = tmp_path / "montemq"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for user in (False, True):
        made = Unit(service, program, ETC, {"ca": ETC / "a b%.ca"}, ("--pool", 'a "$b" %c'), user)
        path = tmp_path / made.name
        path.write_text(made.text, encoding="utf-8")
        scope = "--user" if user else "--system"
        done = analyze("verify", "--man=no", scope, str(path))
        assert (done.returncode, done.stderr) == (0, "")
    path.write_text(made.text.replace("UMask=0077", "UMask=0999"), encoding="utf-8")
    assert "Failed to parse mode" in analyze("verify", "--man=no", scope, str(path)).stderr


@analyzed
@services
def test_a_service_is_exposed_as_little_as_systemd_can_have_it(
    service: Service, tmp_path: Path
) -> None:
    path = tmp_path / unit(service).name
    path.write_text(unit(service).text, encoding="utf-8")
    done = analyze("security", "--offline=true", "--no-pager", str(path))
    exposure = float(done.stdout.splitlines()[-1].split(": ")[-1].split()[0])
    assert exposure <= MOST_EXPOSED


def test_a_consumer_gets_what_others_leave_and_keeps_its_kernels() -> None:
    lines = unit(Service.CONSUMER).text.splitlines()
    assert {"CPUWeight=idle", "MemoryMax=80%", "DynamicUser=yes", "WatchdogSec=60"} <= {*lines}
    assert "Environment=MONTEMQ_CACHE_DIR=%C/montemq" in lines
    assert not any(line.startswith("MemoryDenyWriteExecute") for line in lines)


def test_install_writes_secrets_only_where_their_owner_alone_reads_them(tmp_path: Path) -> None:
    secret, ca = tmp_path / "pw", tmp_path / "ca.pem"
    secret.write_text("s3cret\n")
    ca.write_text("authority\n")
    url = "amqps://consumer.spare-1@broker.example/montemq"
    options = ("--amqp-url", url, "--password-file", str(secret), "--ca-file", str(ca))
    root = tmp_path / "root"
    arguments = ("--user", "consumer", *options, "--", "--slots", "2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", "/home/me/.config")
        done = installed(root, *arguments)
        again = installed(root, *arguments)
    assert (done.exit_code, again.stdout) == (0, done.stdout)
    folder = root / "home/me/.config/montemq"
    assert sorted(path.name for path in folder.iterdir()) == [
        "consumer.ca",
        "consumer.env",
        "consumer.password",
    ]
    assert (folder / "consumer.password").read_text() == "s3cret\n"
    assert (folder / "consumer.password").stat().st_mode & 0o777 == 0o600
    assert (folder / "consumer.env").read_text() == (
        "MONTEMQ_AMQP_URL=amqps://consumer.spare-1@broker.example:5671/montemq\n"
    )
    text = (root / "home/me/.config/systemd/user/montemq-consumer.service").read_text()
    assert "s3cret" not in text + done.output
    assert "--password-file /home/me/.config/montemq/consumer.password" in text
    assert text.count("--slots 2\n") == 1
    assert done.stdout.splitlines() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now montemq-consumer.service",
        "loginctl enable-linger  # so that it runs while you are not logged in",
    ]


def test_a_program_that_a_service_could_not_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    (closed / "bin").mkdir(parents=True)
    (closed / "bin" / "montemq").touch(mode=0o755)
    closed.chmod(0o700)
    monkeypatch.setattr("sys.prefix", str(closed))
    with pytest.raises(UsageError, match="is closed to them: install montemq elsewhere"):
        _program(user=False)
    assert _program(user=True) == closed / "bin" / "montemq"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def told(listener: socket.socket) -> list[bytes]:
    words = []
    try:
        while True:
            words.append(listener.recv(100))
    except BlockingIOError:
        return words


def test_services_say_that_they_are_ready_and_then_that_they_are_alive(
    site: Site, tmp_path: Path, systemd: socket.socket
) -> None:
    site.variables |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    for start in (site.aggregator, site.producer, site.consumer):
        service = start()
        service.ready()
        heard: list[bytes] = []

        def ready_and_alive(heard: list[bytes] = heard) -> bool:
            heard += told(systemd)
            return b"READY=1" in heard and heard.count(b"WATCHDOG=1") > 2

        eventually(ready_and_alive, f"{service.name} says that it is ready and alive")
        service.kill()
        told(systemd)


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notify("READY=1")
    assert watchdog_seconds() is None
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    assert watchdog_seconds() == 2.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None


@services
def test_install_refuses_what_the_service_would_refuse_at_every_start(
    service: Service, tmp_path: Path
) -> None:
    arguments = ["install", "--root", str(tmp_path), "--user", service.value]
    done = CliRunner().invoke(cli, [*arguments, "--", "--no-such-option"])
    assert done.exit_code == UsageError.exit_code
    assert "No such option" in done.stderr
    assert not any(tmp_path.iterdir())
