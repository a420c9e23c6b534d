"""Everything a private RabbitMQ node reads and writes, in one directory; it starts no process.

Nothing of the system's own node leaks in: configuration, cookie, plug-ins and data are all here.
"""

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ops.accounts import ControlProgram
from ops.broker_definitions import HASHING, password_hash
from ops.rabbitmq_programs import rabbitmq_command
from protocol.errors import UsageError
from protocol.settings import Broker

LOG_LINES = 8
TLS_LISTENER = re.compile(r"listeners\.ssl\.\w+ *= *(\S+):(\d+)")
LOG_PREFIX = re.compile(r"^[-\d]+ [:.+\d]+ \[\w+\] <[.\d]+> *")

# Quorum queues keep a write-ahead log in memory and on disk; the default is 512 MiB.
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

# RabbitMQ's own plug-in; by default it would listen on every address of the machine.
METRICS_CONFIG = """\
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {port}
"""

# The node is its own name server: with -erl_epmd_port neither it nor its start-up looks for epmd,
# so no daemon outlives it. As flags of the environment these reach the Erlang machine as well that
# RabbitMQ runs every minute only to have it start epmd: that one finds the port taken, and ends.
# Schedulers that spin while they wait would take the cores from those who compute; as many as cores
# would pass each message around: on two cores a single one takes a fifth less for it.
ERLANG_FLAGS = (
    "-start_epmd false -erl_epmd_port {port} -kernel inet_dist_use_interface {{127,0,0,1}}"
    " +sbwt none +sbwtdcpu none +sbwtdio none +S {schedulers}:{schedulers}"
)


class BrokerDirectory:
    """The directory of one private node.

    Attributes
    ----------
    path
        The directory.
    log
        The node's log file, of its latest start.
    output
        What the node prints: why it could not even open its log.
    configuration, advanced, plugins
        Further lines of its configuration, what only Erlang's terms can say, and its plug-ins.
    """

    def __init__(
        self,
        path: Path,
        *,
        configuration: Sequence[str] = (),
        advanced: str = "[]",
        plugins: Sequence[str] = (),
    ) -> None:
        self.path = path.absolute()
        self.configuration = configuration
        self.advanced = advanced
        self.plugins = plugins
        self.log = self.path / "log" / "node.log"
        self.output = self.path / "log" / "stdout.log"
        self._lock: IO[str] | None = None

    @property
    def node_name(self) -> str:
        """The node's name; quorum queues keep it in their data, so it never changes."""
        path = self.path / "node_name"
        if not path.exists():
            path.write_text(f"montemq-{secrets.token_hex(6)}@localhost", encoding="ascii")
        return path.read_text(encoding="ascii")

    def prepare(self, broker: Broker, metrics_port: int | None = None) -> None:
        """Write what a node at this address needs, and lock the directory.

        With a metrics port it serves metrics for Prometheus there, on loopback.

        Raises
        ------
        UsageError
            The directory cannot be written, or another node uses it.
        """
        try:
            for part in ("", "home", "log", "data"):
                (self.path / part).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self.log.unlink(missing_ok=True)
            self._write_cookie()
            self._write_configuration(broker, metrics_port)
        except OSError as error:
            raise UsageError(f"the data directory {self.path} is unusable: {error}") from None

    def release(self) -> None:
        """Unlock the directory."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wipe(self) -> None:
        """Delete queues, messages and users."""
        shutil.rmtree(self.path / "data", ignore_errors=True)

    def environment(self, distribution_port: int) -> dict[str, str]:
        """Return the node's whole environment; its distribution will listen on this port."""
        name = self.node_name
        (self.path / "distribution_port").write_text(str(distribution_port), encoding="ascii")
        files = {
            "CONFIG_FILE": "rabbitmq.conf",
            "ADVANCED_CONFIG_FILE": "advanced.config",
            "CONF_ENV_FILE": "absent.conf",
            "ENABLED_PLUGINS_FILE": "enabled_plugins",
            "PID_FILE": "node.pid",
            "LOG_BASE": "log",
            "LOGS": "log/node.log",
            "MNESIA_BASE": "data",
            "MNESIA_DIR": "data/node",
            "FEATURE_FLAGS_FILE": "data/feature_flags",
            "GENERATED_CONFIG_DIR": "data/config",
        }
        return {f"RABBITMQ_{key}": str(self.path / file) for key, file in files.items()} | {
            "RABBITMQ_NODENAME": name,
            # The start script then turns into the node instead of waiting for it, which makes
            # its pid and its death signal ours; -noinput takes back what the variable promises.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput -sname {name}",
            "ERL_FLAGS": ERLANG_FLAGS.format(
                port=distribution_port, schedulers=max(1, len(os.sched_getaffinity(0)) // 2)
            ),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "HOME": str(self.path / "home"),
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
        }

    def control(self) -> ControlProgram:
        """Return rabbitmqctl for the node that runs here.

        Raises
        ------
        UsageError
            None has run here.
        """
        try:
            port = (self.path / "distribution_port").read_text(encoding="ascii")
        except OSError:
            raise UsageError(f"no broker has run in the data directory {self.path}") from None
        environment = {
            "RABBITMQ_NODENAME": self.node_name,
            # It asks at the node's port, and must not want to listen there as well. Not ERL_FLAGS,
            # in whose place its script puts its own from 4.0 on.
            "ERL_ZFLAGS": f"-start_epmd false -erl_epmd_port {port} -dist_listen false",
            "HOME": str(self.path / "home"),
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
        }
        return ControlProgram(rabbitmq_command("rabbitmqctl"), environment)

    @property
    def tls_listeners(self) -> list[tuple[str, int]]:
        """Where the node listens for TLS besides: RabbitMQ opens these after the plain one."""
        found = filter(None, map(TLS_LISTENER.fullmatch, self.configuration))
        return [(listener[1], int(listener[2])) for listener in found]

    def last_words(self) -> str:
        """Return what the log says of why a node did not start, on one line."""
        lines = [
            line
            for path in (self.log, self.output)
            if path.exists()
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        ]
        errors = [line for line in lines if "[error]" in line or "not found" in line]
        texts = (LOG_PREFIX.sub("", line).strip(" =") for line in errors or lines)
        return " ".join([text for text in texts if text][:LOG_LINES]) or "it left no log"

    def queues_persist(self) -> bool:
        """Return whether every quorum queue stands in the registry on disk.

        RabbitMQ writes it up to 1 s after a queue was declared; a node that is killed before
        comes back with a queue that exists and answers nothing.
        """
        for registry in self.path.glob("data/node/quorum/*/names.dets"):
            written = registry.read_bytes()
            queues = (entry.name for entry in registry.parent.iterdir() if entry.is_dir())
            if not all(queue.encode() in written for queue in queues):
                return False
        return True

    def _take_lock(self) -> None:
        if self._lock is None:
            self._lock = (self.path / "lock").open("w", encoding="ascii")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another broker uses the data directory {self.path}") from None

    def _write_cookie(self) -> None:
        cookie = self.path / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(), encoding="ascii")
            cookie.chmod(0o400)

    def _write_configuration(self, broker: Broker, metrics_port: int | None) -> None:
        (self.path / "advanced.config").write_text(f"{self.advanced}.\n", encoding="utf-8")
        plugins = [*self.plugins, *(["rabbitmq_prometheus"] if metrics_port is not None else [])]
        enabled = f"[{','.join(plugins)}].\n"
        (self.path / "enabled_plugins").write_text(enabled, encoding="ascii")
        config = CONFIG.format(host=broker.host, port=broker.port, wal_bytes=WAL_BYTES)
        if metrics_port is not None:
            config += METRICS_CONFIG.format(port=metrics_port)
        if broker.user != "guest":
            definitions = self.path / "definitions.json"
            definitions.touch(mode=0o600)
            definitions.write_text(json.dumps(_definitions(broker)), encoding="utf-8")
            config += f"load_definitions = {definitions}\n"
        config += "".join(f"{line}\n" for line in self.configuration)
        (self.path / "rabbitmq.conf").write_text(config, encoding="utf-8")


def _definitions(broker: Broker) -> dict[str, object]:
    """Return what the node loads at boot: one user that may do everything, and no guest."""
    user = {
        "name": broker.user,
        "password_hash": password_hash(broker.password),
        "hashing_algorithm": HASHING,
        "tags": "administrator",
    }
    rights = {"user": broker.user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return {"vhosts": [{"name": "/"}], "users": [user], "permissions": [rights]}
