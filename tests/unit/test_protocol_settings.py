"""The broker's address: every spelling, every mistake, and never the password."""

import pickle
from pathlib import Path

import pytest

from protocol.errors import UsageError
from protocol.settings import (
    broker_from_url,
)
from protocol.tls import TlsFiles

TRICKY = "s3cr:t/@#?%"
QUOTED = "s3cr%3At%2F%40%23%3F%25"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://host", ("host", 5672, "guest", "guest", "/")),
        ("amqp://host/", ("host", 5672, "guest", "guest", "/")),
        ("amqp://host/%2F", ("host", 5672, "guest", "guest", "/")),
        ("amqp://host/%2f", ("host", 5672, "guest", "guest", "/")),
        ("amqp://host/mc", ("host", 5672, "guest", "guest", "mc")),
        ("amqp://host/a%2Fb%20c", ("host", 5672, "guest", "guest", "a/b c")),
        ("amqp://host/%2Fmc", ("host", 5672, "guest", "guest", "/mc")),
        ("amqp://u:p@host:1234/v", ("host", 1234, "u", "p", "v")),
        ("amqp://u@host", ("host", 5672, "u", "guest", "/")),
        ("amqp://u:@host", ("host", 5672, "u", "", "/")),
        (f"amqp://a%40b:{QUOTED}@host", ("host", 5672, "a@b", TRICKY, "/")),
        ("amqp://u:p@[::1]:5673/v", ("::1", 5673, "u", "p", "v")),
        ("amqp://[2001:db8::7]", ("2001:db8::7", 5672, "guest", "guest", "/")),
    ],
)
def test_an_address_is_read(url: str, expected: tuple[str, int, str, str, str]) -> None:
    broker = broker_from_url(url)
    found = (broker.host, broker.port, broker.user, broker.password, broker.vhost)
    assert found == expected
    assert broker_from_url(broker.url) == broker


def test_the_nodes_of_a_cluster_stand_in_one_address_with_commas() -> None:
    broker = broker_from_url(f"amqp://u:{QUOTED}@one:1234,two,[::1]:5673/v?heartbeat=5")
    assert [str(node) for node in broker.nodes] == [
        "amqp://u@one:1234/v",
        "amqp://u@two:5672/v",
        "amqp://u@[::1]:5673/v",
    ]
    assert {(node.password, node.heartbeat) for node in broker.nodes} == {(TRICKY, 5)}
    assert str(broker) == "amqp://u@one:1234,two:5672,[::1]:5673/v"
    assert broker_from_url(broker.url) == broker
    assert broker_from_url("amqp://one").nodes == (broker_from_url("amqp://one"),)


def test_every_node_has_the_port_of_tls_unless_it_says_another() -> None:
    nodes = broker_from_url("amqps://one,two:1/v?ca_file=x").nodes
    assert [(node.port, node.tls) for node in nodes] == [(5671, TlsFiles("x")), (1, TlsFiles("x"))]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:5672",
        "http://host",
        "amqpss://host",
        "amqps://host:0",
        "amqps://host?cafile=x",
        "amqps://host?ca_file=x&ca_file=y",
        "amqp://",
        "amqp:///vhost",
        "amqp://host:0",
        "amqp://host:65536",
        "amqp://host:-1",
        "amqp://host:port",
        "amqp://[::1",
        "amqp://host/v?heartbeat=0",
        "amqp://host/v?heartbeat=61",
        "amqp://host/v?heartbeat=²",
        "amqp://host/v?heartbeat=5&heartbeat=6",
        "amqp://host/v?hartbeat=5",
        "amqp://host/v#fragment",
        "amqp://host,/v",
        "amqp://,host/v",
        "amqp://one,two:0/v",
        "amqp://one,two:x/v",
    ],
)
def test_a_wrong_address_is_told_how_it_should_read(url: str) -> None:
    with pytest.raises(UsageError, match="must read amqp://USER:PASSWORD@HOST:PORT/VHOST"):
        broker_from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://user:hunter2#x@host",
        "amqp://user:hunter2/x@host",
        "amqp://user:hunter2?x@host",
        "amqp://user:hunter2@host:port",
        "amqp://user:[hunter2]@host",
        "http://user:hunter2@host",
    ],
)
def test_a_wrong_address_is_refused_without_quoting_its_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        broker_from_url(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_password_never_shows_in_text() -> None:
    broker = broker_from_url("amqp://user:hunter2@host/v")
    for text in (str(broker), repr(broker), f"{broker}", repr([broker]), f"{broker!r}"):
        assert "hunter2" not in text
    assert str(broker) == "amqp://user@host:5672/v"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("amqp://u:p@[::1]:5673", "amqp://u@[::1]:5673/"),
        ("amqp://u:p@host/%2Fmc", "amqp://u@host:5672/%2Fmc"),
    ],
)
def test_the_text_of_an_address_is_an_address(url: str, text: str) -> None:
    assert str(broker_from_url(url)) == text


def test_a_password_file_wins_over_the_address(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{TRICKY}\n", encoding="utf-8")
    assert broker_from_url("amqp://u:p@host", str(file)).password == TRICKY


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"password file .*absent cannot be read: No such file or directory"
    ):
        broker_from_url("amqp://u@host", str(tmp_path / "absent"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match=r"password file .* cannot be read"):
        broker_from_url("amqp://u@host", str(tmp_path / "binary"))


def test_an_address_reaches_another_process_whole() -> None:
    broker = broker_from_url("amqp://u:p@host/v")
    assert pickle.loads(pickle.dumps(broker)) == broker  # noqa: S301 - our own bytes


def test_an_address_may_set_the_heartbeat() -> None:
    broker = broker_from_url("amqp://host/v?heartbeat=5")
    assert broker.heartbeat == 5
    assert broker_from_url(broker.url) == broker


@pytest.mark.parametrize(
    ("url", "port", "files"),
    [
        ("amqps://host", 5671, TlsFiles()),
        ("amqps://host:1234", 1234, TlsFiles()),
        ("amqps://host?ca_file=/a%20b/ca.pem", 5671, TlsFiles("/a b/ca.pem")),
        ("amqps://host?cert_file=c&key_file=k&heartbeat=5", 5671, TlsFiles(None, "c", "k")),
    ],
)
def test_an_encrypted_address_is_read(url: str, port: int, files: TlsFiles) -> None:
    broker = broker_from_url(url)
    assert (broker.port, broker.tls) == (port, files)
    assert broker_from_url(broker.url) == broker
    assert str(broker).startswith("amqps://guest@host:")


def test_options_come_before_the_address_and_the_address_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CA", "CERT", "KEY"):
        monkeypatch.setenv(f"MONTEMQ_{name}_FILE", f"{name}-of-environment")
    broker = broker_from_url(
        "amqps://host?ca_file=ca-of-url&cert_file=cert-of-url", None, TlsFiles(ca="ca-of-option")
    )
    assert broker.tls == TlsFiles("ca-of-option", "cert-of-url", "KEY-of-environment")
    assert broker_from_url("amqp://host").tls is None


def test_certificates_for_a_plain_address_are_refused_instead_of_forgotten() -> None:
    for url, files in (("amqp://host?ca_file=x", None), ("amqp://host", TlsFiles(ca="x"))):
        with pytest.raises(UsageError, match="amqp:// is not encrypted"):
            broker_from_url(url, None, files)


def test_a_certificate_takes_the_place_of_a_password_that_is_not_given() -> None:
    assert broker_from_url("amqps://u@host?cert_file=c").by_certificate
    assert not broker_from_url("amqps://u:p@host?cert_file=c").by_certificate
    assert not broker_from_url("amqps://u@host").by_certificate
