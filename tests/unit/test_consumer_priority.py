"""How nice the process is that slots are forked from, as the system tells."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SCRIPT = """
import os, pathlib, sys, psutil
from consumer.priority import choose_niceness, step_back
if len(sys.argv) > 1:
    choose_niceness(int(sys.argv[1]))
if not os.fork():
    step_back()
    me = psutil.Process()
    group = pathlib.Path("/proc/self/autogroup")  # empty in a session that was never grouped
    grouped = group.read_text().split() if group.exists() else []
    print(me.nice(), me.ionice().ioclass.name, os.getsid(0) == os.getpid(),
          grouped[-1] if grouped else me.nice(),
          pathlib.Path("/proc/self/oom_score_adj").read_text().strip(), flush=True)
else:
    ended = os.wait()[1]
    print(psutil.Process().nice())
    sys.exit(ended != 0)
"""


def lines(*arguments: str) -> list[str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MONTEMQ_")}
    result = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", SCRIPT, *arguments],
        check=False,
        cwd=Path(__file__).parents[2],
        env=plain,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("chosen", [19, psutil.Process().nice() + 1])
def test_slots_are_niced_with_idle_disks_in_a_session_of_their_own(chosen: int) -> None:
    slots, agent = lines(str(chosen))
    assert slots == f"{chosen} IOPRIO_CLASS_IDLE True {chosen} 1000"
    assert int(agent) == psutil.Process().nice()  # it sends heartbeats


@pytest.mark.parametrize("chosen", [("0",), ()])
def test_nothing_is_changed_where_nothing_is_asked_for(chosen: tuple[str, ...]) -> None:
    slots, agent = lines(*chosen)
    nice, disks, own_session, _, memory = slots.split()
    assert memory == Path("/proc/self/oom_score_adj").read_text("ascii").strip()
    assert (int(nice), own_session) == (psutil.Process().nice(), "False")
    assert disks != "IOPRIO_CLASS_IDLE"
    assert nice == agent


def test_a_machine_that_is_nicer_already_stays_so() -> None:
    if psutil.Process().nice() == 0:
        pytest.skip("this process is not niced")
    assert lines("1")[0].startswith(f"{psutil.Process().nice()} IOPRIO_CLASS_IDLE")
