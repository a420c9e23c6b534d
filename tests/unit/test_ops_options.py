"""Pure pieces of the command line: addresses, pools, passwords."""

from pathlib import Path

import pytest

from ops.commands import options
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
    with pytest.raises(UsageError, match="the password file cannot be read"):
        options.broker_of("amqp://u@h/", str(tmp_path / "none"))
