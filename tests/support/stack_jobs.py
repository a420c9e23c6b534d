"""Runs for tests, as run files, and the answer that each must have, computed without a broker."""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aggregator.result import digest
from consumer.answers import Worker
from consumer.execution import execute
from producer.run_sections import parse
from producer.runfile import Submission, submission
from protocol.definition import Definition
from protocol.messages import Chunk, Partial
from protocol.statistics import Statistics

ASIAN_REFERENCE = 5.781824408
"""Price of the default contract of the model `asian`."""

SIGMAS = 4.5
"""An honest estimate is further off once in 150,000 seeds; the seeds here are fixed."""

WORKER = Worker("test", "test")


@dataclass(frozen=True)
class Job:
    """One run as its run file has it."""

    run: str
    text: str

    @cached_property
    def submission(self) -> Submission:
        return submission(parse(tomllib.loads(self.text), self.run))

    @property
    def definition(self) -> Definition:
        return self.submission.definition

    @property
    def samples(self) -> int:
        return self.definition.blocks * self.definition.block_size * len(self.definition.cells)

    @property
    def digest(self) -> str:
        """The digest that the pipeline must arrive at."""
        return _digest(self)

    def file(self, folder: Path) -> str:
        path = folder / f"{self.run}.toml"
        path.write_text(self.text, encoding="utf-8")
        return str(path)

    def chunk(self, **fields: Any) -> Chunk:
        """Return a chunk of this run, one block unless said otherwise."""
        plain = Chunk.of(self.run, self.definition, 0, (0, 1), attempt=0).model_dump()
        return Chunk.model_validate(plain | fields)

    def partial(self, **fields: Any) -> Partial:
        """Return the honest answer to a chunk of this run."""
        answer = execute(self.chunk(**fields), WORKER)
        assert isinstance(answer, Partial), answer
        return answer


def asian(run: str, *, seed: int = 1, blocks: int = 400, block_size: int = 4096) -> Job:
    """Return the default contract of the model `asian`, about 1 s of CPU."""
    return _job(run, "asian", seed, blocks, block_size)


def pi(run: str, *, seed: int = 1, blocks: int = 400, block_size: int = 4096) -> Job:
    """Return a run of the model `pi`, less than 0.1 s of CPU."""
    return _job(run, "pi", seed, blocks, block_size)


def gate(
    run: str, folder: Path, *, closed_from: int = 0, blocks: int = 64, seconds: float = 0.0
) -> "GateJob":
    """Return a run whose blocks wait, from the given one on, until its `open` is called.

    The earlier ones take so many seconds each.
    """
    params = f'folder = "{folder}"\nclosed_from = {closed_from}\nseconds = {seconds}'
    job = _job(run, "gate", 1, blocks, 512, params)
    return GateJob(job.run, job.text, folder)


@dataclass(frozen=True)
class GateJob(Job):
    """A run of the model `gate` of `tests/support/stack_plugin`."""

    folder: Path

    def open(self) -> None:
        """Let all blocks pass."""
        (self.folder / "open").touch()

    def waiting(self) -> list[int]:
        """Return the process ids of the slots in which a block has waited."""
        return [
            int(file.read_text()) for file in self.folder.glob("waiting-*") if file.stat().st_size
        ]


def paced(run: str, folder: Path, *, blocks: int, seconds: float) -> "PacedJob":
    """Return a run whose blocks take so long each, and leave word of who began them in which order.

    Its chunks must be forced to one block: time that a block only waits is not measured.
    """
    params = f'folder = "{folder}"\ntag = "{run}"\nseconds = {seconds}'
    job = _job(run, "paced", 1, blocks, 512, params)
    return PacedJob(job.run, job.text, folder)


@dataclass(frozen=True)
class PacedJob(Job):
    """A run of the model `paced` of `tests/support/stack_plugin`."""

    folder: Path

    def begun(self) -> list[tuple[str, int]]:
        """Return run and slot of every block that was begun, of all runs in this folder."""
        file = self.folder / "begun"
        lines = file.read_text(encoding="ascii").splitlines() if file.exists() else []
        return [(tag, int(slot)) for tag, slot, _ in map(str.split, lines)]


def _job(run: str, model: str, seed: int, blocks: int, block_size: int, params: str = "") -> Job:
    text = f"""
[run]
model = "{model}"
id = "{run}"
seed = {seed}
[params]
{params}
[sampling]
block_size = {block_size}
[stop]
samples = {blocks * block_size}
"""
    return Job(run, text)


def _digest(job: Job) -> str:
    definition = job.definition
    if definition.hash not in _DIGESTS:
        cells: list[Statistics | None] = [
            job.partial(cell=cell, params=params, blocks=definition.blocks).statistics
            for cell, params in enumerate(definition.cells)
        ]
        _DIGESTS[definition.hash] = digest(definition.hash, cells)
    return _DIGESTS[definition.hash]


_DIGESTS: dict[bytes, str] = {}
