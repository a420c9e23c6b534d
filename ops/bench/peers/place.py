"""Where peers find broker, Redis and cores, and how their workers are started and ended."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from consumer.kernels.width import vector_environment
from ops.child_process import POLL_SECONDS, descendants, die_with_parent, wait_until_gone
from ops.private_broker import LOOPBACK, free_port

STOP_SECONDS = 15.0
START_SECONDS = 60.0
TASKS_SECONDS = 120.0
"""What a peer may take for the tasks that it is given at once; then it counts as hung."""


@dataclass(frozen=True)
class Place:
    """What there is to work with.

    Attributes
    ----------
    cores
        How many workers a peer has.
    amqp_url, redis_url
        A private RabbitMQ node and a private Redis server; empty where there is none.
    """

    cores: int
    amqp_url: str = ""
    redis_url: str = ""
    _environment: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a peer's workers, that of slots included.

        Addresses stand here, on no command line.
        """
        root = str(Path(__file__).parents[3])
        return (
            os.environ
            | vector_environment()
            | {
                "PYTHONPATH": os.pathsep.join(
                    [root, *filter(None, [os.environ.get("PYTHONPATH")])]
                ),
                "MONTEMQ_BENCH_AMQP": self.amqp_url,
                "MONTEMQ_BENCH_REDIS": self.redis_url,
            }
        )


@contextmanager
def process(command: Sequence[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a program, quiet, for as long as the context lasts."""
    child = subprocess.Popen(  # noqa: S603 - our own command line
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent(),  # noqa: PLW1509
    )
    try:
        yield
    finally:
        family = descendants(child.pid)
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        wait_until_gone(family, STOP_SECONDS)


def python(*arguments: str) -> list[str]:
    """Return the command line of a Python module."""
    return [sys.executable, "-m", *arguments]


def wait_for(
    ready: Callable[[], bool],
    what: str,
    within: float = START_SECONDS,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Wait until something is ready.

    Raises
    ------
    TimeoutError
        It is not after so many seconds.
    """
    deadline = time.monotonic() + within
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not ready after {within:.0f} s")
        time.sleep(poll_seconds)


@contextmanager
def redis_server() -> Iterator[str | None]:
    """Run a Redis server on loopback that keeps nothing; yield its address, None without one."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    port = free_port(LOOPBACK)
    with tempfile.TemporaryDirectory(prefix="montemq-redis-") as folder:
        command = [
            program, "--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no",
            "--dir", folder,
        ]  # fmt: skip
        with process(command):
            yield f"redis://{LOOPBACK}:{port}/0"
