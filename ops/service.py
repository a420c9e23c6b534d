"""One service of a stack as a child process: started, told its broker, waited for, stopped.

The address travels through standard input, so that a service can load while the broker boots, and
no password stands on a command line or in an environment.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.child_process import (
    POLL_SECONDS,
    Process,
    descendants,
    die_with_parent,
    wait_until_gone,
)
from ops.logs import said
from protocol.errors import MontemqError, ServiceFailedError

READY_SECONDS = 600.0
"""The first start on a machine compiles the kernels; what ends meanwhile is noticed at once."""


@dataclass
class Service:
    """One child process: how to start it, and the process that runs now.

    Attributes
    ----------
    name, arguments
        What it is called in messages, and the command line after `montemq`.
    folder
        Where its ready file and, when it is quiet, its log go.
    environment
        All of it.
    quiet
        Whether it logs to a file instead of stderr.
    process, started
        The process, and when it was started (monotonic clock).
    """

    name: str
    arguments: list[str]
    folder: Path
    environment: dict[str, str]
    quiet: bool
    process: subprocess.Popen[bytes] = field(init=False)
    started: float = field(init=False, default=0.0)
    _family: list[Process] = field(init=False, default_factory=list)

    def start(self) -> None:
        """Start the process; it gets ready to connect, and then waits for `connect`."""
        self._ready_file.unlink(missing_ok=True)
        log = (self.folder / f"{self.name}.log").open("ab") if self.quiet else None
        command = [sys.executable, "-m", "ops.cli", *self.arguments, "--amqp-url", "-"]
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            [*command, "--ready-file", str(self._ready_file)],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the stack, which stops its parts in order
            preexec_fn=die_with_parent(),  # noqa: PLW1509
        )
        if log is not None:
            log.close()
        self.started = time.monotonic()

    def connect(self, amqp_url: str) -> None:
        """Tell the process where the broker is; if it has died, `wait_until_ready` says so."""
        pipe = self.process.stdin
        assert pipe is not None  # noqa: S101 - it was started with one
        with contextlib.suppress(BrokenPipeError), pipe:
            pipe.write(f"{amqp_url}\n".encode())

    def wait_until_ready(self) -> dict[str, Any]:
        """Return what the service says of itself once it is ready.

        Raises
        ------
        ServiceFailedError
            It ended; the error has its own sentence and exit code.
        MontemqError
            It took too long.
        """
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise self._failed()
            with contextlib.suppress(FileNotFoundError):
                content: dict[str, Any] = json.loads(self._ready_file.read_text(encoding="utf-8"))
                return content
            time.sleep(POLL_SECONDS)
        raise MontemqError(f"{self.name} is not ready after {READY_SECONDS:.0f} s")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        self._family = descendants(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def stop(self, seconds: float) -> None:
        """Wait for the end that a signal has asked for, and make sure of it."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def wait_for_family(self, seconds: float) -> None:
        """Wait for the processes that it had when it was last signalled: slots end by themselves.

        What is left after so many seconds is killed.
        """
        wait_until_gone(self._family, seconds)

    @property
    def _ready_file(self) -> Path:
        return self.folder / f"{self.name}.ready"

    def _failed(self) -> ServiceFailedError:
        """Return the error of a process that has ended too early."""
        code = self.process.returncode
        # Ended by a signal, or without a complaint: not ready all the same.
        return ServiceFailedError(
            f"{self.name} did not start (exit code {code}): {self._last_sentence()}", max(code, 1)
        )

    def _last_sentence(self) -> str:
        """Return the last line of the log, without the name of the program that it begins with."""
        if not self.quiet:
            return "it has said why on stderr"
        log = (self.folder / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in log.split("\n") if line.strip()]
        last = said(lines[-1]) if lines else "it said nothing"
        return last.removeprefix("montemq: ").removeprefix("Error: ")
