"""A process that is stopped in the middle of a commit does not keep the store for itself."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.store.holder import end_stopped_holder
from aggregator.store.sqlite import Store
from protocol.errors import StoreError

COMMIT = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE store SET epoch = 77")
print("writing", flush=True)
if sys.argv[2] == "stopped":
    os.kill(os.getpid(), signal.SIGSTOP)
sys.stdin.read()
"""


def writer(path: Path, state: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-c", COMMIT, str(path), state],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def test_a_stopped_writer_is_ended_and_what_it_had_begun_is_undone(path: Path) -> None:
    with Store(path) as store, writer(path, "stopped") as stopped:
        with pytest.raises(StoreError, match="locked"):
            store.take_over()
        assert end_stopped_holder(path) == stopped.pid
        assert stopped.wait(10) == -signal.SIGKILL
        assert store.take_over() == 1


def test_a_writer_that_only_takes_long_is_left_alone(path: Path) -> None:
    with Store(path) as store, writer(path, "busy") as busy:
        assert end_stopped_holder(path) is None
        assert busy.poll() is None
        busy.communicate("")
        assert store.take_over() == 1


def test_nobody_is_ended_where_nobody_writes(path: Path) -> None:
    assert end_stopped_holder(path) is None
    with Store(path):
        assert end_stopped_holder(path) is None
