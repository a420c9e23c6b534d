"""A private RabbitMQ node as a child process, for one machine: on loopback, nothing left behind.

It is not for production: one node, no TLS, and it ends with the process that started it.
"""

import contextlib
import errno
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from ops.broker_directory import BrokerDirectory
from ops.child_process import POLL_SECONDS, descendants, die_with_parent, wait_until_gone
from ops.rabbitmq_programs import rabbitmq_command
from protocol.errors import BrokerError
from protocol.settings import Broker

START_SECONDS = 60.0
STOP_SECONDS = 30.0
PERSIST_SECONDS = 10.0
START_ATTEMPTS = 5
LOOPBACK = "127.0.0.1"
METHOD_FRAME = 1
PORTS = range(26_000, 32_000)
"""Ports for servers of our own: RabbitMQ's own are below, those that the system hands out above."""


class PrivateBroker:
    """A RabbitMQ node of our own; `start` makes one, `stop` or leaving the context ends it.

    Attributes
    ----------
    broker
        The address to connect to; the port stays the same over restarts.
    directory
        Data, log, configuration and cookie: temporary, or the `data_dir` given to `start`.
    metrics_port
        Where RabbitMQ serves metrics for Prometheus on loopback; None where it does not.
    """

    def __init__(
        self,
        directory: BrokerDirectory,
        broker: Broker,
        *,
        temporary: bool,
        pdeathsig: bool,
        metrics_port: int | None = None,
    ) -> None:
        self.broker = broker
        self.directory = directory
        self.metrics_port = metrics_port
        self._temporary = temporary
        self._pdeathsig = pdeathsig
        self._up = False
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        *,
        data_dir: Path | None = None,
        port: int | None = None,
        host: str = LOOPBACK,
        user: str = "guest",
        password: str = "guest",  # noqa: S107 - RabbitMQ lets guest in from loopback only
        pdeathsig: bool = True,
        metrics: bool = False,
        configuration: Sequence[str] = (),
        advanced: str = "[]",
        plugins: Sequence[str] = (),
    ) -> Self:
        """Start a node and return once all that it listens on answers, after 2 to 3 s.

        Parameters
        ----------
        data_dir
            Where queues and messages persist; a temporary directory, removed by `stop`, if None.
        port
            Of AMQP; a free one if None.
        host
            The address AMQP listens on; everything else is on loopback in any case.
        user, password
            The only user of the node, with all permissions on the virtual host "/".
        pdeathsig
            The node ends as soon as the thread that calls this has ended, however it ended.
        metrics
            Whether it serves metrics for Prometheus, on a free port of loopback.
        configuration
            Further lines of its `rabbitmq.conf`; one that loads definitions leaves no `guest`.
        advanced
            Its `advanced.config`: an Erlang term.
        plugins
            Those that it runs besides.

        Raises
        ------
        UsageError
            RabbitMQ is not installed, or the data directory is in use or cannot be written.
        BrokerError
            The node did not start; the text quotes its log.
        """
        rabbitmq_command()  # before anything exists that had to be removed again
        for attempt in range(1, START_ATTEMPTS + 1):
            path = data_dir or Path(tempfile.mkdtemp(prefix="montemq-broker-"))
            node = cls(
                BrokerDirectory(
                    path, configuration=configuration, advanced=advanced, plugins=plugins
                ),
                Broker(host, port or free_port(host), user, password, "/"),
                temporary=data_dir is None,
                pdeathsig=pdeathsig,
                metrics_port=free_port(LOOPBACK) if metrics else None,
            )
            try:
                node.restart()
            except BrokerError as error:
                node.stop()
                # Between the choice of a free port and its use somebody else can take it.
                collision = any(sign in str(error) for sign in ("eaddrinuse", "already in use"))
                if port or attempt == START_ATTEMPTS or not collision:
                    raise
            except BaseException:
                node.stop()
                raise
            else:
                return node
        raise AssertionError  # the last attempt returned or raised

    @property
    def url(self) -> str:
        """The AMQP address, password included."""
        return self.broker.url

    @property
    def port(self) -> int:
        """The AMQP port."""
        return self.broker.port

    @property
    def pid(self) -> int:
        """The process id of the node.

        Raises
        ------
        BrokerError
            The node does not run.
        """
        if self._process is None:
            raise BrokerError("the private broker does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the node's process lives."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Return only by raising: when the node has ended by itself.

        Raises
        ------
        BrokerError
            The text quotes its log.
        """
        # Not the process's own `wait`: a signal that comes just before that is seen when it ends.
        while self.running:
            time.sleep(POLL_SECONDS)
        raise BrokerError(f"the private broker has ended: {self.directory.last_words()}")

    def restart(self) -> None:
        """Start the node again after `kill`, `stop` or `wipe`: same data, same port.

        Raises
        ------
        UsageError
            The data directory is in use by another node, or cannot be written.
        BrokerError
            The node did not start; the text quotes its log.
        """
        self._end(signal.SIGTERM)
        self._up = False
        _check_port_is_free(self.broker)
        self.directory.prepare(self.broker, self.metrics_port)
        with self.directory.output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                rabbitmq_command(),
                env=self.directory.environment(free_port(LOOPBACK)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory.path,
                start_new_session=True,  # Ctrl-C is for us, who then stop the node in order
                preexec_fn=die_with_parent() if self._pdeathsig else None,  # noqa: PLW1509
            )
        name = self.directory.node_name.partition("@")[0].encode()
        self._wait(
            lambda: (
                name in _greeting(self.broker)
                and all(_answers(*listener) for listener in self.directory.tls_listeners)
            ),
            "start",
            START_SECONDS,
        )
        self._up = True

    def stop(self) -> None:
        """End the node in order, by force after 30 s; remove a temporary directory."""
        self._end(signal.SIGTERM)
        self.directory.release()
        if self._temporary:
            shutil.rmtree(self.directory.path, ignore_errors=True)

    def kill(self) -> None:
        """End the node at once, as a power cut would; its data stays for `restart`.

        A quorum queue declared in the last second may come back dead: see `persist`.
        """
        self._end(signal.SIGKILL)

    def wipe(self) -> None:
        """End the node at once and delete its queues, messages and users, as a lost disk would."""
        self.kill()
        self.directory.wipe()

    def persist(self) -> None:
        """Wait until the quorum queues that are declared now survive `kill`, at most about 1 s.

        Raises
        ------
        BrokerError
            The node does not run, or it takes longer than 10 s.
        """
        self._wait(self.directory.queues_persist, "write its queues to disk", PERSIST_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait(self, done: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                why = "" if ended else f" within {seconds:.0f} s"
                words = self.directory.last_words()
                raise BrokerError(f"the private broker did not {what}{why}: {words}")
            time.sleep(POLL_SECONDS)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        helpers = descendants(process.pid)
        if not self._up:
            how = signal.SIGKILL  # while it boots it answers no other signal, and has no data yet
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        wait_until_gone(helpers, STOP_SECONDS)


def free_port(host: str) -> int:
    """Return a TCP port that was free at this address a moment ago.

    It is none of those that the system hands out, which a connection may have by the time that
    somebody listens there.
    """
    family, *_, (address, _, *rest) = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket(family) as listener:
            try:
                listener.bind((address, port, *rest))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise BrokerError(f"no port of {host} from {PORTS.start} to {PORTS.stop - 1} is free")


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen on this port now."""
    try:
        _try_to_bind(host, port)
    except OSError:
        return False
    return True


def _check_port_is_free(broker: Broker) -> None:
    try:
        _try_to_bind(broker.host, broker.port)
    except OSError as error:
        address = f"{broker.host}:{broker.port}"
        raise BrokerError(
            f"the private broker cannot listen on {address}: {error.strerror}"
        ) from None


def _try_to_bind(host: str, port: int) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def _greeting(broker: Broker) -> bytes:
    """Return the Connection.Start frame; it names the cluster, by default after the node."""
    try:
        with socket.create_connection((broker.host, broker.port), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            kind, _, length = struct.unpack(">BHI", connection.recv(7, socket.MSG_WAITALL))
            return connection.recv(length, socket.MSG_WAITALL) if kind == METHOD_FRAME else b""
    except (OSError, struct.error):
        return b""
