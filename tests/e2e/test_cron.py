"""The crontab and the systemd units of `ops/cron` and `ops/systemd`, read and run as they stand."""

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.private_broker import free_port
from tests.support.stack_processes import ROOT
from tests.support.stack_site import Site

CRON, SYSTEMD = ROOT / "ops" / "cron", ROOT / "ops" / "systemd"
UNITS = (*CRON.glob("montemq-*"), *SYSTEMD.glob("*.service"))
RUN_FILE = '[run]\nmodel = "pi"\n[stop]\nsamples = 100_000\n'
ANALYZE = shutil.which("systemd-analyze")


@dataclass(frozen=True)
class Crontab:
    """What cron makes of a crontab: variables, and commands with what they get on stdin."""

    variables: dict[str, str]
    commands: list[tuple[str, str]]


def crontab(text: str) -> Crontab:
    """Read a crontab as crontab(5) says: five fields, then a command up to the first bare `%`."""
    variables, commands = {}, []
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if setting := re.fullmatch(r"(\w+)\s*=\s*(.*)", line):
            variables[setting[1]] = setting[2]
            continue
        *times, command = line.split(maxsplit=5)
        assert len(times) == 5
        assert all(re.fullmatch(r"[\d*,/-]+", field) for field in times)
        shell, *stdin = re.split(r"(?<!\\)%", command)
        commands.append((shell.replace(r"\%", "%"), "\n".join(stdin)))
    return Crontab(variables, commands)


def test_the_reader_of_crontabs_knows_what_a_percent_sign_means() -> None:
    read = crontab('# x\nA=b c\n0 2 * * 1-5  cat > "$(date +\\%F)" %one%two\n')
    assert read == Crontab({"A": "b c"}, [('cat > "$(date +%F)" ', "one\ntwo")])


class Machine:
    """Where paths of the examples lead to, and what cron and systemd would start there."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        (folder / "nightly.toml").write_text(RUN_FILE)
        (folder / "mc.password").write_text(f"{site.broker.password}\n")
        program = folder / "montemq"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ops.cli "$@"\n')
        program.chmod(0o755)

    def here(self, text: str) -> str:
        """Return a text with this machine's paths and broker."""
        broker = self.site.broker
        for path in ("/opt/montemq/bin", "/etc/montemq", "/var/lib/montemq"):
            text = text.replace(path, str(self.folder))
        address = f"{broker.user}@{broker.host}:{broker.port}/"
        return text.replace("mc@broker.example:5672/", address)

    def start(self, shell: str, variables: dict[str, str], stdin: str) -> subprocess.Popen[str]:
        """Start a command as cron does: a bare environment, and whatever it says is mailed."""
        plain = {"HOME": str(self.folder), "LOGNAME": "montemq", "PATH": "/usr/bin:/bin"}
        process = subprocess.Popen(  # noqa: S603 - a command of ours
            ["/bin/sh", "-c", shell],
            env=plain | variables | {"PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(stdin)
        return process

    def runs(self) -> list[str]:
        return [run for (run,) in self.site.rows("SELECT run FROM runs")]


@pytest.fixture
def machine(site: Site, tmp_path: Path) -> Machine:
    folder = tmp_path / "machine"
    folder.mkdir()
    return Machine(site, folder)


def test_the_crontab_started_twice_at_the_same_time_and_once_more_is_one_run_and_sends_no_mail(
    machine: Machine,
) -> None:
    read = crontab(machine.here((CRON / "montemq.crontab").read_text()))
    [(shell, stdin)] = read.commands
    assert stdin == ""
    for service in (machine.site.aggregator(), machine.site.consumer()):
        service.ready()
    today = time.strftime("%F")
    shell = shell.replace("--max-age 6h", "--max-age 1d")  # the test runs at any time of day
    both = [machine.start(shell, read.variables, stdin) for _ in range(2)]
    mails = [process.communicate(timeout=60)[0] for process in both]
    mails.append(machine.start(shell, read.variables, stdin).communicate(timeout=60)[0])
    assert mails == [""] * 3
    assert [process.returncode for process in both] == [0, 0]
    assert machine.runs() == [f"nightly-{today}"]
    kept = machine.folder / f"nightly-{today}.json"
    text = kept.read_text()
    result = json.loads(text)
    assert (result["run"], result["state"]) == (f"nightly-{today}", "finished")
    # An hour later the broker is down.
    port = free_port("127.0.0.1")
    away = read.variables | {"MONTEMQ_AMQP_URL": f"amqp://mc@127.0.0.1:{port}/"}
    [mail] = machine.start(shell, away, stdin).communicate(timeout=60)[:1]
    assert str(port) in mail
    assert kept.read_text() == text
    assert [path for path in machine.folder.iterdir() if "nightly-" in path.name] == [kept]


def test_the_service_of_the_timer_does_the_same_as_the_crontab(machine: Machine) -> None:
    unit = machine.here((CRON / "montemq-nightly.service").read_text())
    [shell] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    variables = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))
    [(name, source)] = re.findall(r"^LoadCredential=(\w+):(.*)$", unit, re.MULTILINE)
    credentials = machine.folder / "credentials"
    credentials.mkdir()
    shutil.copy(source, credentials / name)
    variables["CREDENTIALS_DIRECTORY"] = str(credentials)
    aggregator, began = machine.site.aggregator(), time.time()
    aggregator.ready()
    machine.site.consumer().ready()
    shell = shell.replace("--max-age 6h", "--max-age 1d")
    lines = [machine.start(shell, variables, "").communicate(timeout=60)[0] for _ in range(2)]
    assert lines[0] == lines[1]
    assert json.loads(lines[0])["state"] == "finished"
    assert machine.runs() == [f"nightly-{time.strftime('%F')}"]
    # What tells that a night was missed.
    for what in ("start", "success"):
        name = f"montemq_run_last_{what}_timestamp_seconds"
        at = aggregator.metric(f'{name}{{name="nightly-{{date}}"}}')
        assert began <= at <= time.time(), what


def test_a_start_after_its_slot_is_refused_and_one_that_joins_a_run_is_not(site: Site) -> None:
    site.aggregator().ready()
    words = ("run", "pi", "--id", "late-{date}", "--samples", "9", "--max-age", "0", "--detach")
    late = site.command(*words)
    assert late.code == 2
    today = time.strftime("%F")
    assert late.err == (
        f"montemq: run 'late-{today}' is not started: its slot began at {today} 00:00, "
        "more than --max-age = 0s ago\n"
    )
    assert site.rows("SELECT * FROM runs") == []
    assert site.command(*words[:-3], "--detach").code == 0
    assert site.command(*words).out == f"late-{today}\n"
    without = site.command("run", "pi", "--id", "plain", "--max-age", "6h")
    assert without.code == 2
    assert "--max-age needs an --id with {date}, {week} or {hour}" in without.err
    wrong = site.command("run", "pi", "--max-age", "soon")
    assert (wrong.code, wrong.err) == (
        2, "montemq: --max-age = 'soon' must read like 90s, 30m, 6h or 1d\n",
    )  # fmt: skip


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
def test_systemd_takes_the_units_and_the_time_of_the_timer(tmp_path: Path) -> None:
    assert len(UNITS) == 5
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/montemq/bin/montemq", "/bin/true"))
        copies.append(str(copy))
    verified = subprocess.run(  # noqa: S603
        [str(ANALYZE), "verify", "--man=no", *copies], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    [when] = re.findall(
        r"^OnCalendar=(.*)$", (CRON / "montemq-nightly.timer").read_text(), re.MULTILINE
    )
    told = subprocess.run(  # noqa: S603
        [str(ANALYZE), "calendar", when], capture_output=True, text=True, check=True
    )
    assert re.search(r"Next elapse: \w+ \d{4}-\d\d-\d\d 02:00:00", told.stdout)
