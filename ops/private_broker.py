"""A private RabbitMQ node as a child process, for one machine: on loopback, nothing left behind.

It is not for production: one node, no TLS, and it ends with the process that started it.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from ops.child_process import POLL_SECONDS, descendants, die_with_parent, wait_until_gone
from protocol.errors import BrokerError, UsageError
from protocol.settings import Broker

START_SECONDS = 60.0
STOP_SECONDS = 30.0
START_ATTEMPTS = 5
LOG_LINES = 12
LOOPBACK = "127.0.0.1"
METHOD_FRAME = 1

SERVER_PLACES = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",  # Debian, Ubuntu, Fedora
    "/opt/rabbitmq/sbin/rabbitmq-server",  # the official container image
    "/usr/local/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
)
"""Where to look before PATH: what Debian has on PATH is a wrapper for the system's own node."""

# Quorum queues preallocate a write-ahead log in memory and on disk; the default is 512 MiB.
WAL_BYTES = 64 * 1024**2

CONFIG = """\
listeners.tcp.1 = {host}:{port}
num_acceptors.tcp = 2
heartbeat = 60
consumer_timeout = 1800000
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = {wal_bytes}
log.console = false
log.file.level = info
log.file.rotation.size = 10485760
log.file.rotation.count = 2
"""

# The node is its own name server: with -erl_epmd_port neither it nor its start-up looks for epmd,
# so no daemon outlives it. The distribution port listens on loopback.
ERLANG_ARGS = (
    "-noinput -sname {name} -start_epmd false -erl_epmd_port {port} "
    "-kernel inet_dist_use_interface {{127,0,0,1}}"
)


class PrivateBroker:
    """A RabbitMQ node of our own; `start` makes one, `stop` or leaving the context ends it.

    Attributes
    ----------
    broker
        The address to connect to; the port stays the same over restarts.
    directory
        Data, log, configuration and cookie: temporary, or the `data_dir` given to `start`.
    """

    def __init__(
        self, directory: Path, broker: Broker, *, temporary: bool, pdeathsig: bool
    ) -> None:
        self.broker = broker
        self.directory = directory
        self._temporary = temporary
        self._pdeathsig = pdeathsig
        self._server = find_server()
        self._lock: IO[str] | None = None
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
    ) -> Self:
        """Start a node and return once it answers AMQP, after 2 to 3 s.

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

        Raises
        ------
        UsageError
            RabbitMQ is not installed, or the data directory is in use.
        BrokerError
            The node did not start; the text quotes its log.
        """
        find_server()
        for attempt in range(1, START_ATTEMPTS + 1):
            broker = Broker(host, port or free_port(host), user, password, "/")
            directory = data_dir or Path(tempfile.mkdtemp(prefix="montemq-broker-"))
            node = cls(
                directory.absolute(), broker, temporary=data_dir is None, pdeathsig=pdeathsig
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
    def log(self) -> Path:
        """The node's log file."""
        return self.directory / "log" / "node.log"

    @property
    def running(self) -> bool:
        """Whether the node's process lives."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Wait until the node ends by itself.

        Raises
        ------
        BrokerError
            It has ended.
        """
        if self._process is not None:
            self._process.wait()
        raise BrokerError(f"the private broker ended: {self._last_words()}")

    def restart(self) -> None:
        """Start the node again after `kill`, `stop` or `wipe`: same data, same port.

        Raises
        ------
        UsageError
            The data directory is in use by another node.
        BrokerError
            The node did not start; the text quotes its log.
        """
        self._end(signal.SIGTERM, STOP_SECONDS)
        _check_port_is_free(self.broker)
        self._prepare()
        with (self.directory / "log" / "stdout.log").open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                [self._server],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C is for us, who then stop the node in order
                preexec_fn=die_with_parent() if self._pdeathsig else None,  # noqa: PLW1509
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """End the node in order, by force after 30 s; remove a temporary directory."""
        self._end(signal.SIGTERM, STOP_SECONDS)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End the node at once, as a power cut would; its data stays for `restart`."""
        self._end(signal.SIGKILL, STOP_SECONDS)

    def wipe(self) -> None:
        """End the node at once and delete its queues, messages and users, as a lost disk would."""
        self.kill()
        shutil.rmtree(self.directory / "data", ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> None:
        for part in ("", "home", "log", "data"):
            (self.directory / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_directory()
        self.log.unlink(missing_ok=True)
        cookie = self.directory / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(), encoding="ascii")
            cookie.chmod(0o400)
        (self.directory / "enabled_plugins").write_text("[].\n", encoding="ascii")
        config = CONFIG.format(host=self.broker.host, port=self.port, wal_bytes=WAL_BYTES)
        if self.broker.user != "guest":
            path = self.directory / "definitions.json"
            path.touch(mode=0o600)
            path.write_text(json.dumps(_definitions(self.broker)), encoding="utf-8")
            config += f"load_definitions = {path}\n"
        (self.directory / "rabbitmq.conf").write_text(config, encoding="utf-8")

    def _node_name(self) -> str:
        """Return this node's name, which quorum queues keep in their data: it must not change."""
        path = self.directory / "node_name"
        if not path.exists():
            path.write_text(f"montemq-{secrets.token_hex(6)}@localhost", encoding="ascii")
        return path.read_text(encoding="ascii")

    def _lock_directory(self) -> None:
        if self._lock is None:
            self._lock = (self.directory / "lock").open("w", encoding="ascii")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another broker uses the data directory {self.directory}") from None

    def _environment(self) -> dict[str, str]:
        """Return the node's whole environment: nothing of the system's own node leaks in."""
        files = {
            "NODENAME": self._node_name(),
            "CONFIG_FILE": self.directory / "rabbitmq.conf",
            "ADVANCED_CONFIG_FILE": self.directory / "absent.config",
            "CONF_ENV_FILE": self.directory / "absent.conf",
            "ENABLED_PLUGINS_FILE": self.directory / "enabled_plugins",
            "PID_FILE": self.directory / "node.pid",
            "LOG_BASE": self.directory / "log",
            "LOGS": self.log,
            "MNESIA_BASE": self.directory / "data",
            "MNESIA_DIR": self.directory / "data" / "node",
            "FEATURE_FLAGS_FILE": self.directory / "data" / "feature_flags",
            "GENERATED_CONFIG_DIR": self.directory / "data" / "config",
            # The start script then turns into the node instead of waiting for it, which makes
            # its pid and its death signal ours; -noinput takes back what the name promises.
            "ALLOW_INPUT": "true",
        }
        distribution = free_port(LOOPBACK)
        return {f"RABBITMQ_{name}": str(value) for name, value in files.items()} | {
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGS.format(
                name=self._node_name(), port=distribution
            ),
            "HOME": str(self.directory / "home"),
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "ERL_CRASH_DUMP": str(self.directory / "log" / "crash.dump"),
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        identity = self._node_name().partition("@")[0].encode()
        while identity not in _greeting(self.broker):
            if self._process is None or self._process.poll() is not None:
                raise BrokerError(f"the private broker did not start: {self._last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise BrokerError(
                    f"the private broker did not answer within {START_SECONDS:.0f} s: "
                    f"{self._last_words()}"
                )
            time.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        lines = [
            line
            for path in (self.log, self.directory / "log" / "stdout.log")
            if path.exists()
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.strip()
        ]
        errors = [line for line in lines if "error" in line.lower() or "not found" in line]
        return "\n".join((errors or lines)[:LOG_LINES]) or "it left no log"

    def _end(self, how: signal.Signals, seconds: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        helpers = descendants(process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        wait_until_gone(helpers, seconds)


def find_server() -> str:
    """Return the path of RabbitMQ's start script.

    Raises
    ------
    UsageError
        RabbitMQ is not installed.
    """
    for place in _places():
        path = Path(place).resolve()
        # Debian's wrapper on PATH, which only starts the system's own node, stands alone.
        if os.access(path, os.X_OK) and (path.parent / "rabbitmq-env").exists():
            return str(path)
    raise UsageError(
        "RabbitMQ is not installed: install it with `apt-get install rabbitmq-server` "
        "or from https://www.rabbitmq.com/docs/download"
    )


def free_port(host: str) -> int:
    """Return a TCP port that was free at this address a moment ago."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def _places() -> Iterator[str]:
    yield from SERVER_PLACES
    if on_path := shutil.which("rabbitmq-server"):
        yield on_path


def _check_port_is_free(broker: Broker) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((broker.host, broker.port))
        except OSError as error:
            raise BrokerError(
                f"the private broker cannot use {broker.host}:{broker.port}: {error.strerror}"
            ) from None


def _greeting(broker: Broker) -> bytes:
    """Return the Connection.Start frame; it names the cluster, by default after the node.

    RabbitMQ opens its listener when everything else is up, so that a greeting means readiness.
    """
    try:
        with socket.create_connection((broker.host, broker.port), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            kind, _, length = struct.unpack(">BHI", connection.recv(7, socket.MSG_WAITALL))
            return connection.recv(length, socket.MSG_WAITALL) if kind == METHOD_FRAME else b""
    except (OSError, struct.error):
        return b""


def _definitions(broker: Broker) -> dict[str, object]:
    """Return what the node loads at boot: one user that may do everything, and no guest."""
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + broker.password.encode()).digest()
    user = {
        "name": broker.user,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "administrator",
    }
    rights = {"user": broker.user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return {"vhosts": [{"name": "/"}], "users": [user], "permissions": [rights]}
