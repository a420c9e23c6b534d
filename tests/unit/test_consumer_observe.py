"""What is seen of a machine, on this one as it is."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from consumer.courtesy import Observation, Rules
from consumer.observe import Observer, OwnLoad, ProcessorUse, Watch, idle_desktops, idle_seconds
from tests.support.stack_processes import eventually


@contextmanager
def running(*command: str) -> Iterator[psutil.Process]:
    with subprocess.Popen(command) as process:  # noqa: S603 - our own
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def test_only_what_the_rules_ask_for_is_looked_at() -> None:
    seen = Observer(Rules()).look()
    assert seen == Observation(local=seen.local)
    assert abs((seen.local - datetime.now().astimezone()).total_seconds()) < 60


def test_a_program_is_seen_by_its_name_while_it_runs(tmp_path: Path) -> None:
    name = f"game-{os.getpid()}"
    game = shutil.copy(shutil.which("sleep") or "", tmp_path / name)
    observer = Observer(Rules(pause_programs=frozenset({name, "another"})))

    # Our own children are no reason to pause: this one belongs to nobody's.
    script = f"import subprocess; print(subprocess.Popen([{str(game)!r}, '60'], stdout=2).pid)"
    answer = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script], stdout=subprocess.PIPE, check=True
    )
    process = psutil.Process(int(answer.stdout))
    try:
        eventually(lambda: observer.look().programs == {name}, "it is seen")
    finally:
        process.kill()
    eventually(lambda: not observer.look().programs, "it is gone")


def test_what_we_run_ourselves_is_no_reason_to_pause(tmp_path: Path) -> None:
    name = f"slot-{os.getpid()}"
    copy = str(shutil.copy(shutil.which("sleep") or "", tmp_path / name))
    with running(copy, "60") as process:
        eventually(lambda: process.name() == name, "it runs")
        assert not Observer(Rules(pause_programs=frozenset({name}))).look().programs


BURN = "while True: pass"


def test_the_processor_use_of_others_leaves_out_our_own() -> None:
    with running(sys.executable, "-c", BURN) as burning:
        apart, together = ProcessorUse(), ProcessorUse()
        assert apart.look([]) is None
        together.look([burning])
        begun = burning.cpu_times().user
        eventually(lambda: burning.cpu_times().user > begun + 1.0, "it has used a second")
        as_others, as_ours = apart.look([]), together.look([burning])
    assert as_others is not None
    assert as_ours is not None
    assert 0.0 <= as_ours < as_others <= 100.0


def test_our_own_share_of_the_load_decays_as_the_kernels() -> None:
    own = OwnLoad()
    assert own.update(2, 0.0) == 0.0
    assert own.update(2, 60.0) == pytest.approx(2 * (1 - 0.3678794))
    assert own.update(2, 1000.0) == pytest.approx(2.0, abs=1e-5)
    assert own.update(0, 1060.0) == pytest.approx(2 * 0.3678794, abs=1e-5)


def test_load_and_memory_are_those_of_the_machine() -> None:
    seen = Observer(Rules(max_load=1.0, min_free_memory=1)).look()
    assert seen.load == pytest.approx(psutil.getloadavg()[0], abs=1.0)
    assert seen.free_memory is not None
    assert 0 < seen.free_memory <= psutil.virtual_memory().total


def test_a_key_on_a_terminal_is_seen() -> None:
    keyboard, terminal = os.openpty()
    try:
        if not Path(os.ttyname(terminal)).exists():
            pytest.skip("terminals are not shown here")
        os.write(keyboard, b"x\n")
        assert os.read(terminal, 10) == b"x\n"
        idle = idle_seconds()
        assert idle is not None
        assert idle < 30
        os.utime(os.ttyname(terminal), (0, 0))  # long ago, as far as this one goes
    finally:
        os.close(keyboard)
        os.close(terminal)


SESSIONS = """\
Type=tty
Class=user
State=active
IdleHint=no
IdleSinceHint=0

Type=wayland
Class=user
State=online
IdleHint=yes
IdleSinceHint=900000000

Type=x11
Class=greeter
State=active
IdleHint=no
IdleSinceHint=0
"""


@pytest.mark.parametrize(
    ("old", "new", "idle"),
    [
        ("", "", [100.0]),
        ("State=online\nIdleHint=yes", "State=active\nIdleHint=no", [0.0]),
        ("State=online", "State=closing", []),
        ("Type=wayland", "Type=unspecified", []),
        ("IdleSinceHint=900000000", "IdleSinceHint=", [0.0]),
    ],
)
def test_desktops_tell_how_long_they_have_been_idle(old: str, new: str, idle: list[float]) -> None:
    assert idle_desktops(SESSIONS.replace(old, new).splitlines(), now=1000.0) == idle


def test_a_watch_tells_what_it_sees_until_it_is_stopped() -> None:
    seen: list[Observation] = []
    enough = threading.Event()

    def tell(observation: Observation) -> None:
        seen.append(observation)
        if len(seen) == 3:
            watch.stop()
            enough.set()

    watch = Watch(Observer(Rules()).look, tell, every=0.01)
    watch.start()
    assert enough.wait(40)
    watch._thread.join(40)
    assert not watch._thread.is_alive()
    assert len(seen) == 3
