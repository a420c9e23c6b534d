import fcntl
import os
import re
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


BROKEN_COMPILER = """
from consumer import golden
def check():
    raise OSError("no compiler")
golden.check = check
"""


def verdict(base: Path, program: str = SERVER, **more: str) -> str:
    """Return what a process that loads and checks kernels finds, with a cache of its own."""
    return subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", program],
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


def test_a_truncated_file_in_the_cache_is_replaced(filled: Path) -> None:
    indexes = sorted(filled.glob("**/*.nbi"))
    assert indexes
    for index in indexes:
        os.truncate(index, 10)
    assert verdict(filled) == ""
    assert all(index.stat().st_size > 10 for index in indexes)
    assert len(list(filled.glob("*/checked-*"))) == 1  # the other machine code went as well


def test_a_cache_that_cannot_be_put_right_is_named(filled: Path) -> None:
    broken = BROKEN_COMPILER + SERVER
    assert re.fullmatch(
        r"the kernels cannot be compiled or loaded, not even from an emptied cache "
        rf"\('{filled}/kernels-[0-9a-f]+'\): OSError: no compiler",
        verdict(filled, program=broken),
    )
