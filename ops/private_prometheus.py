"""A private Prometheus as a child process, for one machine: on loopback, ended with its parent.

It reads what `ops/prometheus` has for everybody, with other addresses to scrape.
"""

import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ops.child_process import POLL_SECONDS, die_with_parent
from ops.private_broker import LOOPBACK, free_port, is_free
from ops.runbook import BASE_URL, rebased
from protocol.errors import MontemqError

PREFERRED_PORT = 9090
"""Prometheus' own, where the data source of ops/grafana looks for it."""

START_SECONDS = 60.0
STOP_SECONDS = 30.0
ANSWER_SECONDS = 5.0
RETENTION = "15d"
SOURCE = Path(__file__).parent / "prometheus"
CONFIGURATION, ALERTS = "prometheus.yml", "alerts.yml"
AGGREGATOR, BROKER = "127.0.0.1:9464", "127.0.0.1:15692"
"""What the configuration scrapes as it is checked in."""

NOT_INSTALLED = (
    "Prometheus is not installed, so there is no monitoring: install it with "
    "`apt-get install prometheus` or from https://prometheus.io/download"
)


def find_prometheus() -> str | None:
    """Return the path of the program, None where it is not installed."""
    return shutil.which("prometheus")


def configuration(*, aggregator: str, broker: str, runbook: str = BASE_URL) -> dict[str, str]:
    """Return the files that Prometheus reads, by name.

    Parameters
    ----------
    aggregator, broker
        What to scrape, each as host:port.
    runbook
        The base of the alerts' links.
    """
    texts = {path.name: path.read_text(encoding="utf-8") for path in SOURCE.glob("*.yml")}
    del texts["alerts.test.yml"]
    exchanged = {AGGREGATOR: aggregator, BROKER: broker}
    for old, new in exchanged.items():
        texts[CONFIGURATION] = texts[CONFIGURATION].replace(f'"{old}"', f'"{new}"')
    return texts | {ALERTS: rebased(texts[ALERTS], runbook)}


class PrivatePrometheus:
    """A Prometheus of our own; `start` makes one, `stop` or leaving the context ends it.

    Attributes
    ----------
    folder
        Configuration, data and log.
    url
        Where it answers; the same over restarts.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder.absolute()  # it is started in there
        self.url = f"http://{LOOPBACK}:{port}"
        self._address = f"{LOOPBACK}:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, folder: Path, files: Mapping[str, str]) -> Self:
        """Start it on a free port, 9090 if that is one, and return once it answers.

        Parameters
        ----------
        folder
            For everything that it reads and writes; made if need be.
        files
            What it reads, by name; see `configuration`.

        Raises
        ------
        MontemqError
            It is not installed, or did not start; the text quotes its log.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        preferred = is_free(LOOPBACK, PREFERRED_PORT)
        prometheus = cls(folder, PREFERRED_PORT if preferred else free_port(LOOPBACK))
        try:
            prometheus.restart()
        except BaseException:
            prometheus.stop()
            raise
        return prometheus

    @property
    def pid(self) -> int:
        """The process id; it has been started."""
        assert self._process is not None  # noqa: S101 - see above
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Start it, also again: same data, same address.

        Raises
        ------
        MontemqError
            It is not installed, or did not start; the text quotes its log.
        """
        self.stop()
        program = find_prometheus()
        if program is None:
            raise MontemqError(NOT_INSTALLED)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program of the system
                [
                    program,
                    f"--config.file={self.folder / CONFIGURATION}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--storage.tsdb.retention.time={RETENTION}",
                    f"--web.listen-address={self._address}",
                    f"--web.external-url={self.url}/",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for us, who then stop it in order
                preexec_fn=die_with_parent(),  # noqa: PLW1509
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """End it in order, by force after 30 s; its data stay."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self.folder / "prometheus.log"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if not self.running or time.monotonic() > deadline:
                lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
                last = lines[-1] if lines else "it said nothing"
                raise MontemqError(f"the private Prometheus did not start: {last}")
            time.sleep(POLL_SECONDS)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=ANSWER_SECONDS):  # noqa: S310 - our own address
                return True
        except OSError:  # nobody listens yet, or it says that it is not ready
            return False
