"""A private broker and all services as child processes of this one, watched over.

A service that dies is started again; the stack leaves nothing behind but a data directory that it
was given.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from ops.private_broker import PrivateBroker, free_port
from ops.private_prometheus import PrivatePrometheus, configuration
from ops.service import Service
from protocol.errors import BrokerError, UsageError
from protocol.model_file import ModelFile
from protocol.settings import DEFAULT_PORT

STOP_SECONDS = 20.0
RESTART_SECONDS = 1.0
"""A service that dies sooner than this after its start is given a pause before the next one."""

LOOPBACK = "127.0.0.1"
SHORT = 50


class Stack:
    """Broker, aggregator, producer and consumers; `start` makes one, leaving the context ends it.

    Attributes
    ----------
    folder, scratch
        What persists if a data directory was given, and what is removed by `stop`.
    http_url
        Where the aggregator listens.
    aggregator, producer, consumers
        The services.
    prometheus
        What watches them, if that was asked for.
    """

    def __init__(
        self, folder: Path, scratch: Path, *, quiet: bool, model_files: Sequence[ModelFile] = ()
    ) -> None:
        self.folder = folder
        self.scratch = scratch
        self.http_url = ""
        self.aggregator: Service | None = None
        self.producer: Service | None = None
        self.consumers: list[Service] = []
        self.prometheus: PrivatePrometheus | None = None
        self._node: PrivateBroker | None = None
        self._killed: list[Service] = []
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
        monitoring: bool = False,
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
        monitoring
            Whether a private Prometheus watches aggregator and broker; it must be installed.

        Raises
        ------
        MontemqError
            A part did not start; what had been started is stopped again.
        """
        scratch = _scratch()
        stack = cls(data_dir or scratch, scratch, quiet=quiet, model_files=model_files)
        try:
            _make_directory(stack.folder)
            stack._start(consumers, slots, http, prefer_port, monitoring=monitoring)
        except BaseException:
            stack.stop()
            raise
        return stack

    @property
    def node(self) -> PrivateBroker:
        """The private broker."""
        assert self._node is not None  # noqa: S101 - a started stack has one
        return self._node

    @property
    def amqp_url(self) -> str:
        """Where the broker listens, password included."""
        return self.node.url

    def launch_consumer(self, slots: int | None) -> Service:
        """Start one more consumer, without waiting until it is ready."""
        service = self._load_consumer(slots)
        service.connect(self.amqp_url)
        return service

    def kill(self, service: Service) -> None:
        """Kill a consumer as a power cut would, and do not start it again."""
        self.consumers.remove(service)
        self._killed.append(service)
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
                service.connect(self.amqp_url)
                service.wait_until_ready()
                said.append(f"{service.name} had died and was started again")
        if self.prometheus is not None and not self.prometheus.running:
            self.prometheus.restart()
            said.append("Prometheus had died and was started again")
        return said

    def description(self) -> dict[str, Any]:
        """Return the content of the ready file."""
        assert self.aggregator is not None  # noqa: S101 - a started stack has one
        assert self.producer is not None  # noqa: S101 - likewise
        urls = {"amqp_url": self.amqp_url, "http_url": self.http_url}
        pids: dict[str, Any] = {
            "broker": self.node.pid,
            "aggregator": self.aggregator.process.pid,
            "producer": self.producer.process.pid,
            "consumer": [service.process.pid for service in self.consumers],
        }
        if self.prometheus is not None:
            urls["prometheus_url"] = self.prometheus.url
            pids["prometheus"] = self.prometheus.pid
        return {**urls, "pids": pids}

    def stop(self) -> None:
        """Stop Prometheus, consumers and producer, then the aggregator, then the broker."""
        if self.prometheus is not None:
            self.prometheus.stop()
        deadline = time.monotonic() + STOP_SECONDS
        last = [self.aggregator] if self.aggregator else []
        for group in ([s for s in self._services() if s not in last], last):
            for service in group:
                service.signal(signal.SIGTERM)
            for service in group:
                service.stop(max(1.0, deadline - time.monotonic()))
        for service in (*self._services(), *self._killed):
            service.wait_for_family(STOP_SECONDS)
        if self._node is not None:
            self._node.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(
        self,
        consumers: int,
        slots: int | None,
        http: tuple[str, int],
        prefer_port: int | None,
        *,
        monitoring: bool,
    ) -> None:
        # The services load while the broker boots: neither keeps two cores busy.
        self.aggregator = self._load_aggregator(http)
        for _ in range(consumers):
            self._load_consumer(slots)
        self.producer = self._service("producer", ["producer"])
        self.producer.start()
        self._node = start_broker(self.folder / "broker", prefer_port, metrics=monitoring)
        for service in self._services():
            service.connect(self.amqp_url)
        self.http_url = self.aggregator.wait_until_ready()["http_url"]
        for service in self._services():
            service.wait_until_ready()
        if monitoring:
            self._start_prometheus()

    def _start_prometheus(self) -> None:
        files = configuration(
            aggregator=self.http_url.removeprefix("http://"),
            broker=f"{LOOPBACK}:{self.node.metrics_port}",
            runbook=f"{self.http_url}/runbook",
        )
        self.prometheus = PrivatePrometheus.start(self.folder / "prometheus", files)

    def _load_aggregator(self, http: tuple[str, int]) -> Service:
        host, port = http
        # A fixed port, so that the address stays the same when the aggregator is started again.
        address = f"{host}:{port or free_port(host)}"
        store = str(self.folder / "store.sqlite")
        service = self._service("aggregator", ["aggregator", "--store", store, "--http", address])
        service.start()
        return service

    def _load_consumer(self, slots: int | None) -> Service:
        arguments = [] if slots is None else ["--slots", str(slots)]
        service = self._service(f"consumer-{self._names}", ["consumer", *arguments, *self._models])
        self._names += 1
        service.start()
        self.consumers.append(service)
        return service

    def _services(self) -> list[Service]:
        alone = [service for service in (self.aggregator, self.producer) if service is not None]
        return [*alone, *self.consumers]

    def _service(self, name: str, arguments: list[str]) -> Service:
        # Killed processes leave temporary files behind, which go with the scratch directory.
        temporary = {"TMPDIR": str(self.scratch)}
        return Service(name, arguments, self.scratch, os.environ | temporary, self._quiet)


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


def _make_directory(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the data directory {folder} is unusable: {error.strerror}") from None
