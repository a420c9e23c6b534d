import os
import subprocess
import sys
from pathlib import Path

import pytest

AGENT = """
if __name__ == "__main__":
    from consumer.fork_server import loading
    print(loading().result())
"""


def verdict(folder: Path) -> str:
    """Return what an agent is told whose server cannot load; modules there come first."""
    script = folder / "agent.py"
    script.write_text(AGENT, encoding="utf-8")
    result = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout.strip()


@pytest.mark.parametrize(
    ("numpy", "said"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            (
                "the process that slots are forked from was killed by SIGKILL "
                "while it loaded the kernels"
            ),
        ),
        (
            "import sys; sys.exit(3)",
            (
                "the process that slots are forked from ended with exit code 3 "
                "while it loaded the kernels"
            ),
        ),
        (
            "raise ImportError('no such library')",
            "the kernels cannot be loaded: ImportError: no such library",
        ),
    ],
)
def test_a_server_that_cannot_load_says_why(numpy: str, said: str, tmp_path: Path) -> None:
    # Of what the server loads, the agent does not need numpy: it gets this far with another one.
    (tmp_path / "numpy.py").write_text(numpy, encoding="utf-8")
    assert verdict(tmp_path) == said


ENDING = """
import os, signal, sys, time

def give_up_and_linger(*_unused):
    os.closerange(3, 256)
    time.sleep(1.5)
    os._exit(1)

if any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
    signal.signal(signal.SIGUSR1, give_up_and_linger)
"""

SURVIVING = """
import os, signal, sys
from multiprocessing.connection import wait

from consumer.answers import Worker
from consumer.fork_server import _server_pid, server_lives
from consumer.slots import Slots

if __name__ == "__main__":
    pipes = []
    slots = Slots(Worker("w", "h"), lambda _number, pipe: pipes.append(pipe), pipes.remove)
    slots.start(0)
    slots.read(0)
    (slot,) = [running.process for running in slots._running.values()]
    os.kill(_server_pid(), signal.SIGUSR1)
    wait([slot.sentinel])  # from here on nobody answers there
    if sys.argv[1] == "slot":
        os.kill(slot.pid, signal.SIGKILL)
        print(slots.read(0)[0].text, server_lives())
    else:
        try:
            slots.start(1)
        except (OSError, EOFError):
            print("not started", server_lives())
    slots.close()
"""


@pytest.mark.parametrize(
    ("asked", "said"), [("slot", "exit code 255 False"), ("start", "not started False")]
)
def test_whoever_learns_that_the_server_ends_learns_it_once_it_has_ended(
    asked: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ENDING, encoding="utf-8")
    (tmp_path / "agent.py").write_text(SURVIVING, encoding="utf-8")
    result = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, tmp_path / "agent.py", asked],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == said


TIDYING = (
    AGENT
    + """
    import os, sys, time
    deadline = time.monotonic() + 20
    while os.path.exists(sys.argv[1]) and time.monotonic() < deadline:
        time.sleep(0.01)
"""
)


def test_once_loaded_old_caches_are_removed(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('not needed')", encoding="utf-8")
    old = tmp_path / f"kernels-{'0' * 16}"
    old.mkdir()
    os.utime(old, (0, 0))
    (tmp_path / "agent.py").write_text(TIDYING, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, tmp_path / "agent.py", old],
        env={**os.environ, "MONTEMQ_CACHE_DIR": str(tmp_path), "PYTHONPATH": path},
        check=True,
        capture_output=True,
    )
    assert not old.exists()
