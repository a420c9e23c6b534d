"""Where compiled kernels are kept, and which vector width is chosen for a processor."""

import fcntl
import json
import logging
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consumer.kernels import cache, width
from tests.support.stack_processes import eventually


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Forget what is set and what was found."""
    monkeypatch.delenv(cache.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(cache, "cache_directory", cache.cache_directory.__wrapped__)
    return monkeypatch


def test_the_cache_is_where_the_environment_says(
    nowhere: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    directory = cache.cache_directory()
    assert directory is not None
    assert directory.parent == tmp_path
    assert directory.is_dir()


def test_the_cache_is_inside_the_virtual_environment(
    nowhere: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere.setattr(sys, "prefix", str(tmp_path))
    directory = cache.cache_directory()
    assert directory is not None
    assert directory.parent == tmp_path / "var" / "cache" / "montemq"


def test_without_a_virtual_environment_it_is_the_users_cache(
    nowhere: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere.setattr(sys, "prefix", sys.base_prefix)
    nowhere.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = cache.cache_directory()
    assert directory is not None
    assert directory.parent == tmp_path / "montemq"


def test_where_nothing_can_be_written_there_is_no_cache(
    nowhere: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    nowhere.setenv(cache.CACHE_VARIABLE, str(blocked))
    assert cache.cache_directory() is None


def test_another_source_has_another_cache(nowhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nowhere.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    sources = tmp_path / "kernels"
    sources.mkdir()
    nowhere.setattr(cache, "__file__", str(sources / "cache.py"))
    found = set()
    for text in ("x = 1", "x = 2"):
        (sources / "exp.py").write_text(text, encoding="utf-8")
        found.add(cache.cache_directory())
    (sources / "exp.py").rename(sources / "log.py")
    found.add(cache.cache_directory())
    assert len(found) == 3


@pytest.fixture
def others(nowhere: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a directory of caches with our own in it; `other` adds more."""
    nowhere.setenv(cache.CACHE_VARIABLE, str(tmp_path))
    assert cache.cache_directory() is not None
    return tmp_path


def other(base: Path, digit: str, days: float, used: str = "used") -> Path:
    """Make a cache of other sources that was used so many days ago."""
    directory = base / f"kernels-{digit * 16}"
    (directory / "code").mkdir(parents=True)
    (directory / "code" / "exp.nbc").touch()
    file = directory / used
    file.touch()
    os.utime(file, (time.time() - days * 86_400,) * 2)
    return directory


def test_what_no_sources_have_used_for_a_week_is_removed(others: Path) -> None:
    mine = cache.cache_directory()
    old, recent = other(others, "a", days=8), other(others, "b", days=6)
    foreign = [others / "kernels-of-somebody", others / "data"]
    for directory in foreign:
        directory.mkdir()
        os.utime(directory, (0, 0))
    cache.remove_unused()
    assert not old.exists()
    assert {recent, mine, *foreign} == set(others.iterdir())


def test_a_cache_without_a_word_about_its_use_is_as_old_as_its_directory(others: Path) -> None:
    fresh, old = (other(others, digit, 8, used="lock") for digit in "ab")
    os.utime(old, (0, 0))
    cache.remove_unused()
    assert fresh.exists()
    assert not old.exists()


HOLD = """
import sys
from pathlib import Path
from consumer.kernels import cache
cache._hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_cache_that_a_process_still_uses_is_kept_until_that_has_ended(others: Path) -> None:
    old = other(others, "a", days=0)
    with subprocess.Popen(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", HOLD, old],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        os.utime(old / "used", (0, 0))
        cache.remove_unused()
        assert old.exists()
        holder.communicate()
    cache.remove_unused()
    assert not old.exists()


def test_using_a_cache_makes_it_young(others: Path) -> None:
    again = other(others, "a", days=8)
    cache._hold(again)
    assert time.time() - (again / "used").stat().st_mtime < 3600


def test_what_a_removal_has_left_is_removed_by_the_next_one(others: Path) -> None:
    half = other(others, "a", days=0).rename(others / f"kernels-{'a' * 16}.removed")
    cache.remove_unused()
    assert not half.exists()


def test_who_comes_while_a_cache_is_removed_finds_an_empty_one(others: Path) -> None:
    wanted = other(others, "a", days=8)
    with (wanted / "used").open("a") as remover, ThreadPoolExecutor(1) as pool:
        fcntl.flock(remover, fcntl.LOCK_EX)
        newcomer = pool.submit(cache._hold, wanted)
        eventually(lambda: opened(wanted / "used") == 2, "the newcomer waits")
        wanted.rename(others / "gone")
        fcntl.flock(remover, fcntl.LOCK_UN)
        newcomer.result(timeout=10)
    assert [path.name for path in wanted.iterdir()] == ["used"]


def opened(path: Path) -> int:
    """Return how often this process has opened a file."""
    links = Path("/proc/self/fd").iterdir()
    return sum(link.is_symlink() and link.readlink() == path for link in links)


IN_ANOTHER_PROCESS = """
from numba.core import config
from consumer.kernels.elementary import exp
assert exp(0.0) == 1.0
assert not config.CACHE_DIR, "other people's kernels go into our cache"
print(sum(exp.stats.cache_hits.values()), sum(exp.stats.cache_misses.values()))
"""


def test_a_second_process_finds_what_the_first_one_compiled(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        cache.CACHE_VARIABLE: str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    runs = [
        subprocess.run(  # noqa: S603 - our own interpreter and text
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert runs == [["0", "1"], ["1", "0"]]


TIMING = """#!{python}
import json, os, sys
wide = "-prefer-256-bit" in os.environ.get("NUMBA_CPU_FEATURES", "")
with open({log!r}, "a") as log: log.write("timed\\n")
json.dump({{"nanoseconds": {wide} if wide else {usual}, "host_features": "+a,+b"}}, sys.stdout)
"""


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be a processor with 512-bit vectors and an empty cache."""
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(width, "_processor", lambda: " fpu avx512f avx2 ")
    monkeypatch.setattr(width, "cache_directory", lambda: tmp_path)
    return tmp_path


def times(processor: Path, monkeypatch: pytest.MonkeyPatch, usual: float, wide: float) -> Path:
    """Put a program in place of Python that says how long kernels take; return its log."""
    program, log = processor / "python", processor / "log"
    program.write_text(
        TIMING.format(python=sys.executable, log=str(log), usual=usual, wide=wide), "utf-8"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    return log


def test_the_faster_width_is_chosen_once_and_remembered(
    processor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = times(processor, monkeypatch, usual=3.0, wide=2.0)
    expected = {"NUMBA_CPU_FEATURES": "+a,+b,-prefer-256-bit"}
    assert width.vector_environment() == expected
    assert width.vector_environment() == expected
    assert log.read_text(encoding="utf-8") == "timed\n" * 4


def test_wide_vectors_must_be_clearly_faster(
    processor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = times(processor, monkeypatch, usual=3.0, wide=2.9)
    assert width.vector_environment() == {}
    assert width.vector_environment() == {}
    assert log.read_text(encoding="utf-8") == "timed\n" * 4


def test_a_timing_that_fails_leaves_the_usual_width(
    processor: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(processor / "missing"))
    with caplog.at_level(logging.WARNING):
        assert width.vector_environment() == {}
    assert "the vector width is not chosen" in caplog.text
    assert not list(processor.glob("width-*"))


ASKED_AGAIN = """
import sys
from consumer import fork_server
from consumer.kernels import width
width._processor = lambda: " fpu avx512f avx2 "
if __name__ == "__main__":
    sys.executable = sys.argv[1]
    fork_server.forkserver.ensure_running = lambda: None
    for _ in range(3):
        fork_server.start_server()
"""


def test_a_timing_that_fails_is_not_tried_again_at_every_start_of_a_slot(tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text(ASKED_AGAIN, encoding="utf-8")
    result = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, script, str(tmp_path / "missing")],
        env=without_choice(tmp_path),
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stderr.count("the vector width is not chosen") == 1, result.stderr


def without_choice(cache_base: Path) -> dict[str, str]:
    """Return an environment with a cache of its own, in which no vectors are chosen by hand."""
    chosen = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_CACHE_DIR")
    plain = {name: value for name, value in os.environ.items() if name not in chosen}
    path = os.pathsep.join(sys.path)
    return {**plain, cache.CACHE_VARIABLE: str(cache_base), "PYTHONPATH": path}


def test_a_choice_made_by_hand_is_kept(processor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = times(processor, monkeypatch, usual=3.0, wide=2.0)
    monkeypatch.setenv("NUMBA_CPU_NAME", "x86-64-v3")
    assert width.vector_environment() == {}
    assert not log.exists()


def test_a_processor_without_wide_vectors_has_nothing_to_choose(
    processor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = times(processor, monkeypatch, usual=3.0, wide=2.0)
    monkeypatch.setattr(width, "_processor", lambda: " fpu avx2 ")
    assert width.vector_environment() == {}
    assert not log.exists()


def test_the_timing_says_what_the_choice_needs() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "consumer.kernels.timing"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
    )
    found = json.loads(result.stdout)
    assert 0 < found["nanoseconds"] < 1000
    assert "+" in found["host_features"]
