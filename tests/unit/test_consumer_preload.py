import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.kernels.cache import CACHE_VARIABLE

DEADLINE = 100.0

SERVER = """
from consumer import golden
golden.PARAMS = {"pi": ({},)}  # few kernels
from consumer.preload import VERDICT
print(VERDICT)
"""


def verdict(base: Path, **more: str) -> str:
    """Return what a process that loads and checks kernels finds, with a cache of its own."""
    return subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", SERVER],
        env={
            **{name: value for name, value in os.environ.items() if name[:5] != "NUMBA"},
            CACHE_VARIABLE: str(base),
            "PYTHONPATH": os.pathsep.join(sys.path),
            **more,
        },
        check=True,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    ).stdout.strip()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that one process has filled."""
    base = tmp_path_factory.mktemp("cache")
    assert verdict(base) == ""
    return base


def test_nobody_waits_for_others_once_the_kernels_are_in_the_cache(filled: Path) -> None:
    (lock,) = filled.glob("*/lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert verdict(filled) == ""


def test_other_machine_code_is_checked_under_the_lock_again(filled: Path) -> None:
    before = set(filled.glob("*/checked-*"))
    assert len(before) == 1
    assert verdict(filled, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == ""
    assert len(set(filled.glob("*/checked-*")) - before) == 1
