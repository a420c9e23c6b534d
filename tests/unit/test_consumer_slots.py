import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest

from consumer import events as e
from consumer.answers import Worker
from consumer.models.asian import Asian
from consumer.slots import SlotEvent, Slots
from protocol.definition import Sampling
from protocol.messages import Chunk, Failure, FailureKind, Partial, decode, encode
from protocol.model_file import ModelFile

DEADLINE = 30.0


class Fleet:
    """Slots, and the descriptors that they asked to be watched."""

    def __init__(self, model_files: Sequence[ModelFile] = ()) -> None:
        self.watched: dict[int, int] = {}
        worker = Worker("host-1", "host")
        self.slots = Slots(worker, self.watched.__setitem__, self.unwatch, model_files)

    def unwatch(self, fd: int) -> None:
        os.fstat(fd)  # still open: a closed one cannot be taken out of a loop
        for slot in [slot for slot, other in self.watched.items() if other == fd]:
            del self.watched[slot]

    def next(self, slot: int) -> SlotEvent:
        assert wait([self.watched[slot]], DEADLINE), "the slot says nothing"
        (event,) = self.slots.read(slot)
        return event


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    result = Fleet()
    yield result
    result.slots.close()


def chunk(model: str = "asian", blocks: int = 1, block_size: int = 64) -> bytes:
    work = Chunk(
        run="r", definition=bytes(32), attempt=1, cell=0, first_block=0, blocks=blocks,
        block_size=block_size, model=model, model_version=2 if model == "asian" else 1,
        params=Asian().params() if model == "asian" else {},
        outputs=("price",) if model == "asian" else ("pi",), sampling=Sampling(), seed=1,
    )  # fmt: skip
    return encode(work)


def test_a_slot_answers_a_chunk_with_a_partial(fleet: Fleet) -> None:
    fleet.slots.start(0)
    assert fleet.next(0) == e.SlotReady(0)
    for _ in range(2):
        fleet.slots.give(0, [chunk()])
        done = fleet.next(0)
        assert isinstance(done, e.SlotDone)
        partial = decode(done.type, done.body, Partial)
        assert (done.kind, partial.statistics.samples, partial.consumer) == (None, 64, "host-1")


def test_a_slot_says_which_kind_of_failure_it_answers(fleet: Fleet) -> None:
    fleet.slots.start(0)
    fleet.next(0)
    fleet.slots.give(0, [chunk(model="unknown")])
    done = fleet.next(0)
    assert isinstance(done, e.SlotDone)
    assert done.kind is FailureKind.UNSUPPORTED_MODEL
    assert "'unknown' is not installed" in decode(done.type, done.body, Failure).text


def test_a_model_on_the_global_generator_draws_other_numbers_in_each_slot(tmp_path: Path) -> None:
    path = tmp_path / "careless.py"
    path.write_text(
        "import numpy as np\n"
        "from protocol.model import GeneratorModel\n"
        "class Careless(GeneratorModel):\n"
        "    name = 'careless'\n"
        "    outputs = ('pi',)\n"
        "    def sample(self, rng, n):\n"
        "        return np.random.random((n, 1))\n"
    )
    file = ModelFile.read(f"{path}:Careless")
    work = decode(Chunk.type, chunk(model="careless"), Chunk)
    body = encode(work.model_copy(update={"model_version": file.load().version}))
    fleet = Fleet((file,))
    sums = []
    try:
        for slot in range(2):
            fleet.slots.start(slot)
            fleet.next(slot)
            fleet.slots.give(slot, [body])
            done = fleet.next(slot)
            assert isinstance(done, e.SlotDone)
            sums.append(decode(done.type, done.body, Partial).statistics.sums)
    finally:
        fleet.slots.close()
    assert sums[0] != sums[1]


def test_an_answer_does_not_wait_for_the_chunk_that_follows(fleet: Fleet) -> None:
    fleet.slots.start(0)
    fleet.next(0)
    fleet.slots.give(0, [chunk(), chunk(blocks=10_000_000, block_size=1024)])
    done = fleet.next(0)
    assert isinstance(done, e.SlotDone)
    assert decode(done.type, done.body, Partial).blocks == 1


def test_a_killed_slot_is_noticed_and_can_be_started_again(fleet: Fleet) -> None:
    fleet.slots.start(0)
    fleet.slots.start(1)
    assert {fleet.next(0), fleet.next(1)} == {e.SlotReady(0), e.SlotReady(1)}
    fleet.slots.give(0, [chunk(blocks=100_000, block_size=1024)])
    fleet.slots.kill(0)
    assert fleet.next(0) == e.SlotCrashed(0, "killed by SIGKILL")
    assert set(fleet.watched) == {1}
    fleet.slots.start(0)
    assert fleet.next(0) == e.SlotReady(0)


def test_a_chunk_for_a_slot_that_has_just_died_is_not_an_error(fleet: Fleet) -> None:
    fleet.slots.start(0)
    fleet.next(0)
    fleet.slots.kill(0)
    assert wait([fleet.watched[0]], DEADLINE)
    fleet.slots.give(0, [chunk()])
    assert isinstance(fleet.next(0), e.SlotCrashed)


def proportional_set_size(pid: int) -> int:
    """Return the memory of a process in bytes, shared pages divided by those who share them."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")


def test_an_added_slot_takes_at_most_60_mb_once_it_has_computed(fleet: Fleet) -> None:
    # With the server's memory, which it shares with the slots: only what a slot adds counts.
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    sizes = [proportional_set_size(server)]
    for slot in range(3):
        fleet.slots.start(slot)
        fleet.next(slot)
        fleet.slots.give(slot, [chunk(blocks=4, block_size=1024)])
        assert isinstance(fleet.next(slot), e.SlotDone)
        running = [process.pid for process in multiprocessing.active_children()]
        processes = [server, *(pid for pid in running if pid is not None)]
        sizes.append(sum(map(proportional_set_size, processes)))
    assert max(np.diff(sizes)) < 60e6
    assert min(np.diff(sizes)) > 0


def test_slots_begin_with_the_kernels_loaded_and_the_agent_without(fleet: Fleet) -> None:
    fleet.slots.start(0)
    fleet.next(0)
    (process,) = multiprocessing.active_children()
    loaded = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    assert "llvmlite" in loaded
    agent = "import consumer.agent, sys; print('numba' in sys.modules)"
    said = subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", agent],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert said.stdout == "False\n"


AGENT = """
import multiprocessing, os, signal, sys
from consumer.answers import Worker
from consumer.slots import Slots
if __name__ == "__main__":
    fds = {}
    slots = Slots(Worker("host-1", "host"), fds.__setitem__, lambda fd: None)
    slots.start(0)
    slots.read(0)
    slots.give(0, [bytes.fromhex(sys.argv[1])])
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    signal.pause()
"""


def test_a_slot_dies_with_its_agent_in_the_middle_of_a_chunk(tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text(AGENT, encoding="utf-8")
    endless = chunk(blocks=1_000_000, block_size=1024)
    agent = subprocess.Popen(  # noqa: S603 - our own interpreter and text
        [sys.executable, script, endless.hex()],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert agent.stdout is not None
    with agent, agent.stdout:
        slot = os.pidfd_open(int(agent.stdout.readline()))
        assert not wait([slot], 0.0)
        agent.kill()
        assert wait([slot], DEADLINE), "the slot outlives its agent"
        os.close(slot)
