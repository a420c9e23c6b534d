"""`montemq enrol` and `montemq revoke` on real brokers: both ways, again and again, no secrets."""

from collections.abc import Iterator
from pathlib import Path

import pika
import pika.exceptions as pika_errors
import pytest
from click.testing import CliRunner, Result

from ops.accounts import ControlProgram, Management
from ops.commands.enrolment import enrol, revoke
from ops.private_broker import PrivateBroker, free_port
from protocol.errors import BrokerRefusedError, BrokerUnreachableError, UsageError
from protocol.settings import Broker
from tests.conftest import require_rabbitmq
from tests.support.enrolled import enrolled_broker, login
from tests.support.stack_processes import eventually

ADMINISTRATOR = "root"
SECRET = "a secret"  # noqa: S105
USER = "consumer.new-1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("broker")


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port('127.0.0.1')}"


@pytest.fixture(scope="module")
def node(folder: Path, url: str) -> Iterator[PrivateBroker]:
    require_rabbitmq()
    port = url.rpartition(":")[2]
    more = ("management.tcp.ip = 127.0.0.1", f"management.tcp.port = {port}")
    with enrolled_broker(folder, plugins=("rabbitmq_management",), more=more) as started:
        control = started.directory.control()
        control.run("add_user", ADMINISTRATOR, given=f"{SECRET}\n")
        control.run("set_user_tags", ADMINISTRATOR, "administrator")
        yield started


@pytest.fixture(params=["rabbitmqctl", "management"])
def way(request: pytest.FixtureRequest, node: PrivateBroker, url: str, folder: Path) -> list[str]:
    """Return the options that say how the broker's users are kept."""
    passwords = ["--passwords", str(folder / "passwords")]
    if request.param == "rabbitmqctl":
        return [*passwords, "--data-dir", str(node.directory.path)]
    secret = folder / "administrator.password"
    secret.write_text(f"{SECRET}\n")
    return [
        *(*passwords, "--management-url", url, "--management-user", ADMINISTRATOR),
        *("--management-password-file", str(secret)),
    ]


def enrolled(node: PrivateBroker, way: list[str], host: str = "new-1") -> Result:
    address = f"amqp://operator@{node.broker.host}:{node.port}/montemq"
    arguments = [host, "--amqp-url", address, *way]
    return CliRunner().invoke(enrol, arguments, catch_exceptions=False)


def revoked(way: list[str], host: str = "new-1") -> Result:
    return CliRunner().invoke(revoke, [host, *way], catch_exceptions=False)


def open_connection(broker: Broker) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(broker.url))


def test_a_machine_is_enrolled_connects_and_is_cut_off_when_it_is_revoked(
    node: PrivateBroker, folder: Path, way: list[str]
) -> None:
    first = enrolled(node, way)
    assert first.exit_code == 0, first.output
    broker = login(node, folder, USER)
    lines = first.stdout.splitlines()
    assert lines[0] == "(umask 077; cat > montemq.password)"
    assert lines[1] == (
        f"montemq consumer --amqp-url amqp://{USER}@127.0.0.1:{node.port}/montemq "
        "--password-file montemq.password"
    )
    assert len(lines) == 2
    assert "ssh new-1" in first.stderr
    assert broker.password not in first.output

    connection = open_connection(broker)
    assert enrolled(node, way).stdout == first.stdout
    assert login(node, folder, USER) == broker, "it keeps its password"
    connection.process_data_events(0)

    gone = revoked(way)
    assert gone.stdout == f"{USER} is removed: new-1 is disconnected, and its chunks go to others\n"

    def is_cut_off() -> bool:
        try:
            connection.process_data_events(0.1)
        except pika_errors.AMQPConnectionError:
            return True
        return False

    eventually(is_cut_off, "the broker closes its connection")
    with pytest.raises(pika_errors.ProbableAuthenticationError):
        open_connection(broker)
    again = revoked(way)
    assert (again.exit_code, again.stdout) == (
        0,
        f"the broker knows no {USER}: nothing to remove\n",
    )
    assert not (folder / "passwords" / f"{USER}.password").exists()


def test_a_revoked_machine_stays_out_when_the_broker_boots_again(tmp_path: Path) -> None:
    require_rabbitmq()
    with enrolled_broker(tmp_path, "spare-1", "spare-2") as node:
        way = ["--passwords", str(tmp_path / "passwords"), "--data-dir"]
        before = login(node, tmp_path, "consumer.spare-1")
        assert revoked([*way, str(node.directory.path)], "spare-1").exit_code == 0
        node.restart()
        with pytest.raises(pika_errors.ProbableAuthenticationError):
            open_connection(before)
        open_connection(login(node, tmp_path, "consumer.spare-2")).close()


def test_a_wrong_administrator_is_refused_in_one_sentence(node: PrivateBroker, url: str) -> None:
    del node
    with pytest.raises(BrokerRefusedError, match="user 'root' is no administrator there"):
        Management(url, ADMINISTRATOR, "wrong").drop(USER)


def test_nobody_at_the_url_is_said_in_one_sentence() -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(BrokerUnreachableError, match=f"management API at {url} cannot be reached"):
        Management(url, ADMINISTRATOR, SECRET).drop(USER)


@pytest.mark.parametrize("url", ["http://broker.example:15672", "ftp://localhost", "localhost:1"])
def test_an_administrators_password_never_crosses_a_network_in_clear(url: str) -> None:
    with pytest.raises(UsageError, match="must read https://HOST:PORT"):
        Management(url, ADMINISTRATOR, SECRET)


def test_an_administrators_password_is_not_shown() -> None:
    assert SECRET not in repr(Management("https://h", ADMINISTRATOR, SECRET))


def test_a_missing_rabbitmqctl_and_one_without_a_node_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no-such-program is not installed here"):
        ControlProgram(("no-such-program",)).drop(USER)
    require_rabbitmq()
    with PrivateBroker.start(data_dir=tmp_path) as node:
        control = node.directory.control()
    with pytest.raises(BrokerRefusedError, match="rabbitmqctl ended with"):
        control.drop(USER)


@pytest.mark.parametrize("host", ["", "a b", "-x", "a_b", "x" * 64, "a/../b", "a\n"])
def test_what_is_no_host_name_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a host name is"):
        CliRunner().invoke(
            revoke, ["--passwords", str(tmp_path), "--", host], catch_exceptions=False
        )


def test_half_of_the_management_options_is_refused() -> None:
    with pytest.raises(UsageError, match="go together"):
        CliRunner().invoke(revoke, ["h", "--management-url", "https://h"], catch_exceptions=False)
