"""A node that takes nothing from publishers for a while, as one does whose disk is nearly full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.private_broker import PrivateBroker

PLENTY, TOO_MUCH = 50_000_000, 10**15
"""Bytes that must be free: the private node's own setting, and more than any disk has."""


@contextmanager
def disk_alarm(node: PrivateBroker) -> Iterator[None]:
    """Raise the node's disk alarm while the context lasts."""
    _require_free(node, TOO_MUCH)
    try:
        yield
    finally:
        _require_free(node, PLENTY)


def _require_free(node: PrivateBroker, amount: int) -> None:
    """Set the limit in the running node, over Erlang's distribution, which has no tool here."""
    block = Path(f"/proc/{node.pid}/environ").read_text(encoding="utf-8")
    env = dict(entry.split("=", 1) for entry in block.split("\0") if "=" in entry)
    home = node.directory.path / "home"
    cookie = (home / ".erlang.cookie").read_text(encoding="ascii")
    call = f"rpc:call('{node.directory.node_name}', rabbit_disk_monitor, set_disk_free_limit"
    answer = subprocess.run(  # noqa: S603 - our own command line
        [  # noqa: S607 - RabbitMQ needs it as well
            "erl", "-noinput", "-sname", "test@localhost", "-setcookie", cookie,
            "-start_epmd", "false", "-erl_epmd_port", env["RABBITMQ_DIST_PORT"],
            "-dist_listen", "false", "-eval",
            f'io:format("~p", [{call}, [{amount}])]), halt().',
        ],
        env={"PATH": env["PATH"], "HOME": str(home)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout == "ok", answer.stdout
