"""The broker's address: every spelling, every mistake, and never the password."""

import pickle
from pathlib import Path

import pytest

from protocol.errors import UsageError
from protocol.settings import (
    broker_from_url,
)

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


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:5672",
        "http://host",
        "amqps://host",
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
    with pytest.raises(UsageError, match=r"password file cannot be read: .*absent"):
        broker_from_url("amqp://u@host", str(tmp_path / "absent"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="password file cannot be read"):
        broker_from_url("amqp://u@host", str(tmp_path / "binary"))


def test_an_address_reaches_another_process_whole() -> None:
    broker = broker_from_url("amqp://u:p@host/v")
    assert pickle.loads(pickle.dumps(broker)) == broker  # noqa: S301 - our own bytes


def test_an_address_may_set_the_heartbeat() -> None:
    broker = broker_from_url("amqp://host/v?heartbeat=5")
    assert broker.heartbeat == 5
    assert broker_from_url(broker.url) == broker
