"""Child processes: told apart from later ones of the same pid, followed, and ended."""

import os
import subprocess
import sys
import time

from ops.child_process import Process, descendants, wait_until_gone

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:])
print(child.pid, flush=True)
child.wait()
"""
SLEEP_IN_A_CHILD = [sys.executable, "-c", PARENT, *SLEEP]


def test_descendants_are_found_at_any_depth() -> None:
    with subprocess.Popen(SLEEP_IN_A_CHILD, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        found = {process.pid for process in descendants(os.getpid())}
        assert {parent.pid, grandchild} <= found
        assert [process.pid for process in descendants(parent.pid)] == [grandchild]
        os.kill(grandchild, 9)


def test_what_does_not_end_in_time_is_killed() -> None:
    with subprocess.Popen(SLEEP) as child:  # noqa: S603
        (process,) = [found for found in descendants(os.getpid()) if found.pid == child.pid]
        assert process.alive()
        before = time.monotonic()
        wait_until_gone([process], 0.1)
        assert child.wait() == -9
        assert time.monotonic() - before < 10
        assert not process.alive()
        wait_until_gone([process], 10)
        assert time.monotonic() - before < 10


def test_another_process_of_the_same_pid_is_left_alone() -> None:
    with subprocess.Popen(SLEEP) as child:  # noqa: S603
        (process,) = [found for found in descendants(os.getpid()) if found.pid == child.pid]
        earlier = Process(process.pid, process.started - 1)
        assert not earlier.alive()
        wait_until_gone([earlier], 0)
        assert process.alive()
        child.kill()
