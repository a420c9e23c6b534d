"""A node that takes nothing from publishers for a while: its disk or its memory is nearly full."""

from collections.abc import Iterator
from contextlib import contextmanager

from ops.private_broker import PrivateBroker

PLENTY, TOO_MUCH = "50MB", "1000000GB"
"""What must be free: the private node's own setting, and more than any disk has."""

MEMORY, NO_MEMORY = "0.4", "0.00001"
"""Shares of the machine's that the node may take: its default, and less than any node takes."""


@contextmanager
def disk_alarm(node: PrivateBroker) -> Iterator[None]:
    """Raise the node's disk alarm while the context lasts."""
    with _set(node, "set_disk_free_limit", TOO_MUCH, PLENTY):
        yield


@contextmanager
def memory_alarm(node: PrivateBroker) -> Iterator[None]:
    """Raise the node's memory alarm while the context lasts."""
    with _set(node, "set_vm_memory_high_watermark", NO_MEMORY, MEMORY):
        yield


@contextmanager
def _set(node: PrivateBroker, what: str, for_now: str, afterwards: str) -> Iterator[None]:
    control = node.directory.control()
    control.run(what, for_now)
    try:
        yield
    finally:
        control.run(what, afterwards)
