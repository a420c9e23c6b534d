"""Real `montemq` processes for tests: started, watched, waited for with a deadline, never leaked.

It knows nothing of runs and ledgers; `tests.support.stack_site` puts whole installations together.
"""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ops.child_process import descendants, die_with_parent
from ops.rabbitmq_programs import TREE_VARIABLE
from protocol.settings import AMQP_URL_VARIABLE
from tests.support.stack_terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 40.0
STEP_SECONDS = 0.01

Value = TypeVar("Value")


def eventually(
    condition: Callable[[], Value],
    what: str | Callable[[], str],
    seconds: float = DEADLINE_SECONDS,
) -> Value:
    """Return the first true value of a condition; fail when none comes in time.

    What did not come is a function where it tells how things are: as they are by then.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() >= deadline:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:g} s: {text}")
        time.sleep(STEP_SECONDS)
    return value


def environment(amqp_url: str | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a process that runs this checkout and no other broker."""
    plain = {
        k: v for k, v in os.environ.items() if k == TREE_VARIABLE or not k.startswith("MONTEMQ_")
    }
    path = os.pathsep.join(filter(None, [str(ROOT), more.pop("PYTHONPATH", "")]))
    address = {} if amqp_url is None else {AMQP_URL_VARIABLE: amqp_url}
    # Tests share their processors with other tests, and would wait for niced slots.
    usual = {"PYTHONPATH": path, "COLUMNS": "200", "MONTEMQ_NICE": "0"}
    return plain | address | usual | more


@dataclass(frozen=True)
class Ended:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        """What stands on stdout, which must be one JSON document."""
        return json.loads(self.out)


class Program:
    """One process of `montemq`, or of another module; its output goes to files.

    On a terminal it reads and writes there, and only stderr goes to a file.
    """

    def __init__(
        self,
        arguments: tuple[str, ...],
        folder: Path,
        env: Mapping[str, str],
        *,
        module: str,
        terminal: Terminal | None = None,
    ) -> None:
        self.name = " ".join([module, *arguments[:2]])
        number = len(list(folder.glob("*.err")))
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        self.began = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", module, *arguments],
                cwd=folder,
                env=dict(env),
                stdin=terminal.device if terminal else subprocess.DEVNULL,
                stdout=terminal.device if terminal else out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_at_start(terminal),  # noqa: PLW1509 - nothing outlives the tests
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def peak_mib(self) -> int:
        """The most memory that it has ever had, without its children."""
        return _peak_mib(self.pid)

    @property
    def children_peak_mib(self) -> int:
        """The most that one of its children has ever had, or one of theirs, of those that live."""
        return max((_peak_mib(child.pid) for child in descendants(self.pid)), default=0)

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop, and not yet to go on."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        return stat.rpartition(")")[2].split()[0] == "T"

    def says(self, text: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the text stands on stderr."""

        def said() -> bool:
            return text in self.err or not self.running

        eventually(said, lambda: f"{self.name} says {text!r}, it said: {self.err}", seconds)
        assert text in self.err, f"{self.name} ended without {text!r}: {self.err}"

    def wait(self, seconds: float = DEADLINE_SECONDS) -> Ended:
        """Wait for the end; a traceback is a failure of its own, whatever the test is about."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} still runs after {seconds:g} s: {self.err}"
            ) from None
        assert_no_traceback(self)
        return Ended(code, self.out, self.err, time.monotonic() - self.began)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()


def _peak_mib(pid: int) -> int:
    """Return the most memory that a process has ever had, shared pages too; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return max((int(line.split()[1]) // 1024 for line in lines), default=0)


def _at_start(terminal: Terminal | None) -> Callable[[], None]:
    die = die_with_parent()

    def prepare() -> None:
        die()
        if terminal is not None:
            terminal.take()

    return prepare


class Service(Program):
    """A `montemq` process that says in a file when it is ready."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> None:
        self.ready_file = folder / f"ready-{len(list(folder.glob('*.err')))}.json"
        arguments = (*arguments, "--ready-file", str(self.ready_file))
        super().__init__(arguments, folder, env, module="ops.cli")

    def ready(self, seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
        """Wait until it is ready, and return what it says of itself."""
        eventually(
            lambda: self.ready_file.exists() or not self.running, f"{self.name} is ready", seconds
        )
        assert self.ready_file.exists(), f"{self.name} did not start: {self.err}"
        content: dict[str, Any] = json.loads(self.ready_file.read_text(encoding="utf-8"))
        return content

    def http(self, path: str) -> tuple[int, str]:
        """Return status and body of a page of this aggregator."""
        try:
            url = f"{self.ready()['http_url']}{path}"
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """Return a sample of `/metrics`, by name with labels as Prometheus writes them.

        Without labels it is the sum of the metric's samples, 0 where there is none.
        """
        lines = self.http("/metrics")[1].splitlines()
        family = re.sub(r"(_bucket|_count|_sum)?(\{.*)?$", "", name)
        assert f"# TYPE {family} " in "\n".join(lines), f"{name} is a metric"
        begins = (f"{name} ",) if "{" in name else (f"{name} ", f"{name}{{")
        return math.fsum(float(line.split()[-1]) for line in lines if line.startswith(begins))


def assert_no_traceback(program: Program) -> None:
    for sign in ("Traceback", "never retrieved", "never awaited"):
        assert sign not in program.err, f"{program.name}: {program.err}"
