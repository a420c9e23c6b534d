"""Pure pieces of the command line: addresses, pools, passwords."""

import io
import os
import signal
import socket
from pathlib import Path

import click
import pytest

from ops.commands import options
from ops.private_broker import free_port
from protocol.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        ("h:65535", ("h", 65535)),
    ],
)
def test_an_address_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert options.address(text, "--http") == expected


@pytest.mark.parametrize("text", ["", "host", ":80", "host:", "host:x", "host:65536", "host:-1"])
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match=r"--http = .* must read HOST:PORT"):
        options.address(text, "--http")


def test_an_address_to_listen_on_may_be_of_either_family_and_any_port() -> None:
    for text in ("127.0.0.1:0", "[::1]:0" if socket.has_ipv6 else "127.0.0.1:0"):
        host, port = options.listening_address(text, "--http")
        assert port == 0
        assert 0 < free_port(host) < 65_536


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(UsageError, match=rf"^--http = '{host}:0' cannot be listened on: \w"):
        options.listening_address(f"{host}:0", "--http")


@pytest.mark.parametrize("text", ["default", "a", "gpu_2", "a" * 40])
def test_a_pool_is_a_short_lower_case_word(text: str) -> None:
    assert options.pool_name(text) == text


@pytest.mark.parametrize("text", ["", "GPU", "2a", "a.b", "a b", "a" * 41, "pool\n", "ä"])
def test_anything_else_is_no_pool(text: str) -> None:
    with pytest.raises(UsageError, match="is not allowed: a pool is a-z, 0-9 and _"):
        options.pool_name(text)


def test_a_password_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    assert options.broker_of("amqp://u@h/", str(file)).password == "s3cret"  # noqa: S105 - a made-up one
    with pytest.raises(UsageError, match=r"the password file .* cannot be read"):
        options.broker_of("amqp://u@h/", str(tmp_path / "none"))


def test_a_dash_reads_the_broker_address_from_standard_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("amqp://mc:secret@broker.example:5673/\n"))
    broker = options.broker_of("-", None)
    assert (broker.host, broker.port, broker.password) == ("broker.example", 5673, "secret")


def test_a_standard_input_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UsageError, match="the AMQP address must read"):
        options.broker_of("-", None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_and_a_closed_terminal_interrupt(number: signal.Signals) -> None:
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {kind: signal.getsignal(kind) for kind in kinds}
    try:
        options.interrupt_on_signals()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    others = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        options.interrupt_on_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
        for kind, handler in others.items():
            signal.signal(kind, handler)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("9465", ("127.0.0.1", 9465)),
        ("0", ("127.0.0.1", 0)),
        ("10.0.0.7:9465", ("10.0.0.7", 9465)),
        ("[::1]:9465", ("::1", 9465)),
    ],
)
def test_metrics_are_served_on_loopback_unless_a_host_is_given(
    text: str, place: tuple[str, int]
) -> None:
    assert options.metrics_address(text) == place


@pytest.mark.parametrize("text", ["", "metrics", "host:", ":9465", "70000", "-1", "1.5"])
def test_what_is_no_port_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"--metrics-port = '.*' must read PORT or HOST:PORT"):
        options.metrics_address(text)


@pytest.mark.parametrize("text", ["nan", "-NaN", "2"])
def test_what_is_in_no_range_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        options.Number(0.0, 1.0).convert(text, None, None)
    assert options.Number(0.0, 1.0).convert("0.5", None, None) == 0.5
