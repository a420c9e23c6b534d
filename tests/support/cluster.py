"""Three private RabbitMQ nodes as one cluster, each at a loopback address of its own.

Any of them can be killed and started again; nothing of it outlives the test.
"""

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ops.accounts import ControlProgram
from ops.broker_directory import BrokerDirectory
from ops.private_broker import PrivateBroker, free_port
from protocol.settings import Broker

NODES = 3


class NodeDirectory(BrokerDirectory):
    """That of a node which the others find at its own address, at the port that all share."""

    def __init__(self, path: Path, name: str, host: str, port: int, first: str) -> None:
        super().__init__(path, configuration=["cluster_partition_handling = pause_minority"])
        self._host, self._port, self._first = host, port, f"{name}@{first}"
        (path / "node_name").write_text(f"{name}@{host}", encoding="ascii")
        home = path / "home"
        home.mkdir(mode=0o700)
        cookie = home / ".erlang.cookie"
        cookie.write_text(f"{name}{port}", encoding="ascii")
        cookie.chmod(0o400)

    def environment(self, distribution_port: int) -> dict[str, str]:
        """Return that of a node alone, but for where it listens and how it is called."""
        del distribution_port
        alone = super().environment(self._port)
        interface = ",".join(self._host.split("."))
        return alone | {
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-noinput -name {self.node_name}",
            "ERL_FLAGS": alone["ERL_FLAGS"].replace("127,0,0,1", interface),
        }

    def control(self) -> ControlProgram:
        """Return rabbitmqctl for this node, by its long name."""
        alone = super().control()
        return replace(alone, environment={**alone.environment, "RABBITMQ_USE_LONGNAME": "true"})

    def join(self) -> None:
        """Join the others; the node that forms the cluster is there already.

        Those that look for each other at boot start, from 4.0, helpers that want the same port.
        """
        if self.node_name != self._first:
            for command in (("stop_app",), ("join_cluster", self._first), ("start_app",)):
                self.control().run(*command)


@dataclass(frozen=True)
class Cluster:
    """The nodes, the one that formed it first."""

    nodes: tuple[PrivateBroker, ...]

    @property
    def broker(self) -> Broker:
        """The address of all nodes."""
        first, *others = [node.broker for node in self.nodes]
        return replace(first, others=tuple((other.host, other.port) for other in others))


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Start one, and end it with the context."""
    name = f"montemq-{secrets.token_hex(6)}"
    hosts = [f"127.0.0.{number}" for number in range(2, 2 + NODES)]
    shared = free_port(hosts[0])
    with contextlib.ExitStack() as stack:
        nodes = []
        for host in hosts:
            path = Path(tempfile.mkdtemp(prefix="montemq-broker-"))
            directory = NodeDirectory(path, name, host, shared, hosts[0])
            address = Broker(host, free_port(host), "guest", "guest", "/")
            nodes.append(PrivateBroker(directory, address, temporary=True, pdeathsig=True))
            stack.callback(nodes[-1].stop)
            nodes[-1].restart()
            directory.join()
        yield Cluster(tuple(nodes))
