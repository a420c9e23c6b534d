"""Releases of RabbitMQ beside each other: the system's, and 4 where ops/rabbitmq-4 got it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.rabbitmq_programs import TREE_VARIABLE

CACHE = "XDG_CACHE_HOME"


def require_rabbitmq_4() -> str:
    """Return the directory that has it; skip where there is none, nothing is downloaded here."""
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache")
    tree = os.environ.get(TREE_VARIABLE) or str(cache / "montemq" / "rabbitmq-4")
    if not Path(tree, "usr", "lib", "rabbitmq").exists():
        pytest.skip("RabbitMQ 4 is not here; ops/rabbitmq-4 gets it")
    return tree


@contextmanager
def release(tree: str) -> Iterator[None]:
    """Start nodes from this directory while the context lasts, the system's where it is empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TREE_VARIABLE, tree)
        yield
