"""A private broker, an aggregator and consumers as child processes of this one, watched over.

A service that dies is started again; the stack leaves nothing behind but a data directory that it
was given.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ops.child_process import POLL_SECONDS, die_with_parent
from ops.private_broker import PrivateBroker, free_port
from protocol.errors import BrokerError, MontemqError
from protocol.model_file import ModelFile
from protocol.settings import AMQP_URL_VARIABLE, DEFAULT_PORT

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
RESTART_SECONDS = 1.0
"""A service that dies sooner than this after its start is given a pause before the next one."""

LOOPBACK = "127.0.0.1"
SHORT = 50


@dataclass
class Service:
    """One child process: how to start it, and the process that runs now."""

    name: str
    arguments: list[str]
    folder: Path
    environment: dict[str, str]
    quiet: bool
    process: subprocess.Popen[bytes] = field(init=False)
    started: float = field(init=False, default=0.0)

    def start(self) -> None:
        """Start the process; its log goes to stderr, or to a file when it shall be quiet."""
        self._ready_file.unlink(missing_ok=True)
        log = (self.folder / f"{self.name}.log").open("ab") if self.quiet else None
        command = [sys.executable, "-m", "ops.cli", *self.arguments]
        self.process = subprocess.Popen(  # noqa: S603 - our own command line
            [*command, "--ready-file", str(self._ready_file)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the stack, which stops its parts in order
            preexec_fn=die_with_parent(),  # noqa: PLW1509
        )
        if log is not None:
            log.close()
        self.started = time.monotonic()

    def wait_until_ready(self) -> dict[str, Any]:
        """Return what the service says of itself once it is ready.

        Raises
        ------
        MontemqError
            It ended, or took too long.
        """
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise MontemqError(f"{self.name} did not start: {self._last_line()}")
            with contextlib.suppress(FileNotFoundError):
                content: dict[str, Any] = json.loads(self._ready_file.read_text(encoding="utf-8"))
                return content
            time.sleep(POLL_SECONDS)
        raise MontemqError(f"{self.name} is not ready after {READY_SECONDS:.0f} s")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def stop(self, seconds: float) -> None:
        """Wait for the end that a signal has asked for, and make sure of it."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def _ready_file(self) -> Path:
        return self.folder / f"{self.name}.ready"

    def _last_line(self) -> str:
        log = self.folder / f"{self.name}.log"
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if self.quiet else []
        said = [line for line in lines if line.strip()]
        return said[-1] if said else f"exit code {self.process.returncode}"


class Stack:
    """Broker, aggregator and consumers; `start` makes one, leaving the context ends it.

    Attributes
    ----------
    node
        The private broker.
    folder, scratch
        What persists if a data directory was given, and what is removed by `stop`.
    amqp_url, http_url
        Where broker and aggregator listen.
    aggregator, consumers
        The services.
    """

    def __init__(
        self,
        node: PrivateBroker,
        folder: Path,
        scratch: Path,
        *,
        quiet: bool,
        model_files: Sequence[ModelFile],
    ) -> None:
        self.node = node
        self.folder = folder
        self.scratch = scratch
        self.amqp_url = node.url
        self.http_url = ""
        self.aggregator: Service | None = None
        self.consumers: list[Service] = []
        self._quiet = quiet
        self._models = [
            word
            for file in model_files
            for word in ("--model-file", f"{file.path}:{file.class_name}")
        ]
        self._names = 0

    @classmethod
    def start(
        cls,
        *,
        consumers: int = 1,
        slots: int | None = None,
        data_dir: Path | None = None,
        http: tuple[str, int] = (LOOPBACK, 0),
        prefer_port: int | None = DEFAULT_PORT,
        quiet: bool = False,
        model_files: Sequence[ModelFile] = (),
    ) -> Self:
        """Start everything and return once it is ready.

        Parameters
        ----------
        consumers, slots
            How many, and worker processes of each; as many as there are cores if None.
        data_dir
            Where broker and store persist; temporary if None.
        http
            Host and port of the aggregator, port 0 for any.
        prefer_port
            The AMQP port if it is free; None for any.
        quiet
            Services log to files instead of stderr.
        model_files
            Models that the consumers have besides the installed ones.

        Raises
        ------
        MontemqError
            A part did not start; what had been started is stopped again.
        """
        scratch = _scratch()
        try:
            folder = data_dir or scratch
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            node = start_broker(folder / "broker", prefer_port)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        stack = cls(node, folder, scratch, quiet=quiet, model_files=model_files)
        try:
            stack._start_services(consumers, slots, http)
        except BaseException:
            stack.stop()
            raise
        return stack

    def launch_consumer(self, slots: int | None) -> Service:
        """Start one more consumer, without waiting until it is ready."""
        service = self._service(
            f"consumer-{self._names}", ["consumer", *_slots(slots), *self._models]
        )
        self._names += 1
        service.start()
        self.consumers.append(service)
        return service

    def kill(self, service: Service) -> None:
        """Kill a consumer as a power cut would, and do not start it again."""
        self.consumers.remove(service)
        service.signal(signal.SIGKILL)
        service.stop(STOP_SECONDS)

    def revive(self) -> list[str]:
        """Start again what has died; return one sentence about each."""
        said = []
        if not self.node.running:
            self.node.restart()
            said.append("the broker had died and was started again")
        for service in self._services():
            if service.process.poll() is not None:
                if time.monotonic() - service.started < RESTART_SECONDS:
                    time.sleep(RESTART_SECONDS)
                service.start()
                service.wait_until_ready()
                said.append(f"{service.name} had died and was started again")
        return said

    def description(self) -> dict[str, Any]:
        """Return the content of the ready file."""
        assert self.aggregator is not None  # noqa: S101 - a started stack has one
        return {
            "amqp_url": self.amqp_url,
            "http_url": self.http_url,
            "pids": {
                "broker": self.node.pid,
                "aggregator": self.aggregator.process.pid,
                "consumer": [service.process.pid for service in self.consumers],
            },
        }

    def stop(self) -> None:
        """Stop consumers, aggregator and broker, in this order."""
        deadline = time.monotonic() + STOP_SECONDS
        for group in (self.consumers, [self.aggregator] if self.aggregator else []):
            for service in group:
                service.signal(signal.SIGTERM)
            for service in group:
                service.stop(max(1.0, deadline - time.monotonic()))
        self.node.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_services(self, consumers: int, slots: int | None, http: tuple[str, int]) -> None:
        store = str(self.folder / "store.sqlite")
        host, port = http
        # A fixed port, so that the address stays the same when the aggregator is started again.
        port = port or free_port(host)
        arguments = ["aggregator", "--store", store, "--http", f"{host}:{port}"]
        self.aggregator = self._service("aggregator", arguments)
        self.aggregator.start()
        starting = [self.launch_consumer(slots) for _ in range(consumers)]
        self.http_url = self.aggregator.wait_until_ready()["http_url"]
        for service in starting:
            service.wait_until_ready()

    def _services(self) -> list[Service]:
        return [*([self.aggregator] if self.aggregator else []), *self.consumers]

    def _service(self, name: str, arguments: list[str]) -> Service:
        # Killed processes leave temporary files behind, which go with the scratch directory.
        temporary = {"TMPDIR": str(self.scratch)}
        environment = os.environ | {AMQP_URL_VARIABLE: self.amqp_url} | temporary
        return Service(name, arguments, self.scratch, environment, self._quiet)


def _scratch() -> Path:
    """Make a temporary directory with a short name: sockets below it have 107 bytes in all."""
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="montemq-", dir="/tmp" if len(parent) > SHORT else None))  # noqa: S108 - mkdtemp makes it ours alone


def start_broker(data_dir: Path | None, prefer_port: int | None, **more: Any) -> PrivateBroker:
    """Start a private broker with its topology, on the preferred port or else on a free one."""
    try:
        node = PrivateBroker.start(data_dir=data_dir, port=prefer_port, **more)
    except BrokerError:
        if prefer_port is None:
            raise
        node = PrivateBroker.start(data_dir=data_dir, **more)
    try:
        declare_topology(node)
    except BaseException:
        node.stop()
        raise
    return node


def declare_topology(node: PrivateBroker) -> None:
    """Declare everything that montemq needs on a private broker."""
    import asyncio  # noqa: PLC0415 - only here

    from protocol.amqp_aio import Link  # noqa: PLC0415
    from protocol.topology import topology  # noqa: PLC0415

    async def declare() -> None:
        async with await Link.open(node.broker, "montemq broker init") as link:
            await link.declare(topology())

    asyncio.run(declare())


def _slots(slots: int | None) -> list[str]:
    return [] if slots is None else ["--slots", str(slots)]
