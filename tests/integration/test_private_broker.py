"""The private RabbitMQ node: it starts anywhere, hides nothing outside, and leaves nothing."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pika.exceptions import ProbableAuthenticationError

from ops import rabbitmq_programs
from ops.broker_directory import BrokerDirectory
from ops.child_process import Process, descendants
from ops.private_broker import PrivateBroker, free_port
from ops.simulation.events import Confirmed
from protocol.errors import BrokerError, TopologyMissingError, UsageError
from tests.conftest import require_rabbitmq
from tests.support.real_broker import RealChannel, RealConnection
from tests.support.stack_processes import eventually

ROOT = Path(__file__).parents[2]
NOBODY = 65534
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 20}
LISTENING = ("0A", "07")  # TCP's LISTEN, and an unconnected UDP socket

START_AND_WAIT = """
import sys
from ops.private_broker import PrivateBroker
from ops.child_process import descendants
node = PrivateBroker.start()
helpers = [process.pid for process in descendants(node.pid)]
print(node.directory.path, node.port, node.pid, *helpers, flush=True)
sys.stdin.read()
node.stop()
"""


@pytest.fixture(autouse=True)
def _rabbitmq() -> None:
    require_rabbitmq()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def channel_to(node: PrivateBroker) -> Iterator[RealChannel]:
    connection = RealConnection(node.broker)
    try:
        yield connection.channel()
    finally:
        connection.close()


def store(node: PrivateBroker, queue: str) -> None:
    """Publish a message and return when the broker has confirmed it."""
    with channel_to(node) as channel:
        channel.declare_queue(queue, durable=True, arguments=QUORUM)
        channel.confirm_select()
        channel.publish("", queue, b"kept", mandatory=True)
        eventually(lambda: channel.connection.pump() or bool(channel.inbox), "it is confirmed")
        assert channel.take() == [Confirmed(1)]


def stored(node: PrivateBroker, queue: str) -> bytes:
    with channel_to(node) as channel:
        eventually(lambda: channel.inspect_queue(queue).messages == 1, "it is there")
        delivery = channel.get(queue, no_ack=True)
        assert delivery is not None
        return delivery.body


def listening_addresses(pid: int) -> set[str]:
    """Return the local addresses, in hex, of all sockets that a process listens on."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(str(fd.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [
        line.split()
        for table in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return {row[1] for row in rows if row[9] in inodes and row[3] in LISTENING}


def start_in_a_process(*prefix: str, home: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home), "TMPDIR": str(home)}
    return subprocess.Popen(  # noqa: S603 - our own command line
        [*prefix, sys.executable, "-B", "-c", START_AND_WAIT],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
    )


def announced(process: "subprocess.Popen[str]") -> tuple[Path, int, list[int]]:
    """Return what the process says of its node: directory, port and process ids."""
    assert process.stdout is not None
    words = process.stdout.readline().split()
    if not words:
        pytest.fail(process.communicate()[1])
    return Path(words[0]), int(words[1]), [int(word) for word in words[2:]]


def test_two_nodes_run_at_once(private_broker: PrivateBroker) -> None:
    with PrivateBroker.start() as other:
        assert other.port != private_broker.port
        store(other, "only.there")
        store(private_broker, "only.here")
        assert stored(other, "only.there") == b"kept"
        assert stored(private_broker, "only.here") == b"kept"
        with channel_to(private_broker) as channel:
            channel.delete_queue("only.here")


def test_stopping_leaves_no_process_and_no_file() -> None:
    node = PrivateBroker.start()
    processes = [*descendants(node.pid), Process(node.pid, _started(node.pid))]
    assert len(processes) > 1
    assert all(process.alive() for process in processes)
    node.stop()
    assert not any(process.alive() for process in processes)
    assert not node.directory.path.exists()
    with pytest.raises(BrokerError, match="does not run"):
        _ = node.pid


def _started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


def assert_loopback_alone(node: PrivateBroker, *ports: int) -> None:
    """Check that a node listens on these ports, and nowhere but on loopback."""
    pids = [node.pid, *(child.pid for child in descendants(node.pid))]
    addresses = set.union(*map(listening_addresses, pids))
    loopback = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
    assert {f"{loopback}:{port:04X}" for port in ports} <= addresses
    assert {address.partition(":")[0] for address in addresses} == {loopback}


def test_it_listens_on_loopback_only(private_broker: PrivateBroker) -> None:
    assert private_broker.metrics_port is None
    assert_loopback_alone(private_broker, private_broker.port)


def test_it_serves_metrics_where_asked_for_on_loopback_only_and_at_the_same_port() -> None:
    with PrivateBroker.start(metrics=True) as node:
        port = node.metrics_port
        assert port is not None
        # The plug-in listens a moment after AMQP does.
        eventually(lambda: "rabbitmq_build_info{" in page_at(port), "the plug-in listens")
        assert_loopback_alone(node, node.port, port)
        node.restart()
        eventually(lambda: "rabbitmq_build_info{" in page_at(port), "the plug-in listens")


def page_at(port: int) -> str:
    """Return the page of metrics, empty while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            return str(page.read().decode())
    except urllib.error.URLError:
        return ""


@contextlib.contextmanager
def epmd_stays_away() -> Iterator[dict[str, str]]:
    """Say by variables where epmd would listen, and check in the end that it does not."""
    port = free_port("127.0.0.1")
    try:
        yield {"ERL_EPMD_PORT": str(port)}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    finally:
        subprocess.run(["epmd", "-port", str(port), "-kill"], capture_output=True, check=False)  # noqa: S603, S607


def test_rabbitmq_s_helper_that_starts_epmd_cannot(tmp_path: Path) -> None:
    taken = free_port("127.0.0.1")
    helper = ["erl", "-boot", "no_dot_erlang", "-sname", "starter", "-noinput", "-s", "erlang"]
    with epmd_stays_away() as variables:
        environment = BrokerDirectory(tmp_path).environment(taken) | variables
        # As rabbit_nodes_common:ensure_epmd/0 does once a minute.
        subprocess.run([*helper, "halt"], env=environment, capture_output=True, check=False)  # noqa: S603


def test_rabbitmqctl_finds_the_node_without_epmd_and_starts_none(
    private_broker: PrivateBroker,
) -> None:
    control = private_broker.directory.control()
    assert control.environment is not None
    with epmd_stays_away() as variables:
        alone = replace(control, environment={**control.environment, **variables})
        assert "guest" in alone.run("list_users")


def test_a_killed_node_comes_back_with_its_messages_on_the_same_port() -> None:
    with PrivateBroker.start() as node:
        port, pid = node.port, node.pid
        store(node, "q")
        node.persist()
        node.kill()
        assert not alive(pid)
        node.restart()
        assert node.port == port
        assert node.pid != pid
        assert stored(node, "q") == b"kept"


def test_a_wiped_node_comes_back_empty(tmp_path: Path) -> None:
    with PrivateBroker.start(data_dir=tmp_path) as node:
        store(node, "q")
        node.wipe()
        node.restart()
        with channel_to(node) as channel, pytest.raises(TopologyMissingError):
            channel.inspect_queue("q")


def test_a_data_directory_outlives_the_node_and_serves_one_at_a_time(tmp_path: Path) -> None:
    data = tmp_path / "new" / "a directory"
    with PrivateBroker.start(data_dir=data) as node:
        store(node, "q")
        with pytest.raises(UsageError, match="another broker uses the data directory"):
            PrivateBroker.start(data_dir=data)
    with PrivateBroker.start(data_dir=data) as node:
        assert stored(node, "q") == b"kept"


def test_a_user_of_its_own_replaces_guest() -> None:
    with PrivateBroker.start(user="me", password="p:/@ß") as node:  # noqa: S106
        store(node, "q")
        assert stored(node, "q") == b"kept"
        guest = replace(node.broker, user="guest", password="guest")  # noqa: S106
        with pytest.raises(ProbableAuthenticationError):
            RealConnection(guest)


def test_a_taken_port_is_named(private_broker: PrivateBroker) -> None:
    with pytest.raises(BrokerError, match=f"{private_broker.port}: Address already in use"):
        PrivateBroker.start(port=private_broker.port)


def test_a_start_that_fails_quotes_the_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "node").write_text("not a directory")
    with pytest.raises(BrokerError, match=r"did not start: (?s:.*)(eexist|enotdir)") as caught:
        PrivateBroker.start(data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert "log handlers" not in str(caught.value)  # the first line of any log


def test_the_node_ends_with_a_killed_parent(tmp_path: Path) -> None:
    parent = start_in_a_process(home=tmp_path)
    directory, _, pids = announced(parent)
    assert len(pids) > 1
    assert all(map(alive, pids))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    try:
        eventually(lambda: not any(map(alive, pids)), "all have ended")
        assert directory.parent == tmp_path  # what it leaves is in the temporary directory
    finally:
        if alive(pids[0]):
            os.kill(pids[0], signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(
    rabbitmq_programs.TREE_VARIABLE in os.environ, reason="only root can mount another release"
)
def test_an_ordinary_user_can_run_it(tmp_path: Path) -> None:
    # pytest's own directories are closed to other users.
    home = Path(f"/tmp/{tmp_path.parent.name}-{os.getpid()}")  # noqa: S108 - made here, with its mode
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    process = start_in_a_process(*become, home=home)
    try:
        directory, port, pids = announced(process)
        assert directory.parent == home
        assert Path(f"/proc/{pids[0]}").stat().st_uid == NOBODY
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        _, errors = process.communicate("")
        assert process.returncode == 0, errors
        assert not any(map(alive, pids))
        assert [*home.iterdir()] == []
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(home)


def test_without_rabbitmq_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrapper = tmp_path / "rabbitmq-server"  # as Debian has on PATH: no use without the rest
    wrapper.write_text("#!/bin/sh\n")
    wrapper.chmod(0o755)
    monkeypatch.setattr(rabbitmq_programs, "SERVER_PLACES", ("/nowhere/rabbitmq-server",))
    monkeypatch.delenv(rabbitmq_programs.TREE_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        PrivateBroker.start()
    assert str(caught.value).startswith("RabbitMQ is not installed: install it with `apt-get")
    assert "\n" not in str(caught.value)
    (tmp_path / "rabbitmq-env").touch()
    assert rabbitmq_programs.find_server() == str(wrapper)


def test_a_directory_without_another_release_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(rabbitmq_programs.TREE_VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match="holds no /usr/lib/rabbitmq/bin/rabbitmq-server: unset"):
        PrivateBroker.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount another release")
def test_the_programs_of_another_release_see_their_own_usr_and_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "usr/lib/rabbitmq/bin/rabbitmq-server"
    program.parent.mkdir(parents=True)
    monkeypatch.setenv(rabbitmq_programs.TREE_VARIABLE, str(tmp_path))
    program.write_text("a program of another release")
    command = list(rabbitmq_programs.rabbitmq_command())
    # The shell that mounts is still the system's: it can read the other program by itself.
    command[6] = command[6].replace('exec "$@"', 'read -r text <"$1"; echo "$text"')
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.stdout.strip() == "a program of another release", done.stderr
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
