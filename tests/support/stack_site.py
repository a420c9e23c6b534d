"""One installation for a test: aggregators, consumers and commands around a real broker.

Everything runs as its own process; leaving the context kills what is left of them, and fails when
one of them had left a traceback. The store is read as a stranger would, with SQL.
"""

import os
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import msgpack

from protocol.settings import Broker
from tests.support.stack_jobs import Job
from tests.support.stack_processes import (
    Ended,
    Program,
    Service,
    assert_no_traceback,
    environment,
    eventually,
)
from tests.support.stack_terminal import Terminal

PLUGIN = Path(__file__).parent / "stack_plugin"
PEAK_MIB = 256
"""The most memory that a service, a command or a slot may ever have had."""

TABLES = ("store", "runs", "cells", "segments", "history", "failures")


class Site:
    """A folder with a store and logs, and the processes that work there.

    Attributes
    ----------
    broker
        Where they connect to, unless told otherwise.
    store
        The aggregators' database.
    variables
        Of the environment of what is started from now on.
    answers
        A few words about every run whose answer was right.
    peak_mib, slot_peak_mib
        The most memory that one of its programs had by then, and one of their children, which are
        slots or what these are forked from; of those that still ran. It must never be much.
    """

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.store = folder / "store.sqlite"
        self.variables: dict[str, str] = {}
        self.programs: list[Program] = []
        self.answers: list[str] = []
        self.peak_mib = self.slot_peak_mib = 0
        # Killed processes leave what they had there; the path of a Unix socket must be short.
        self._temporary = tempfile.TemporaryDirectory(prefix="mc-")

    def aggregator(
        self,
        *options: str,
        broker: Broker | None = None,
        store: Path | None = None,
        path: str = "",
    ) -> Service:
        """Start an aggregator; `ready` waits for it; `path` is where it finds further packages."""
        place = str(store or self.store)
        options = ("aggregator", "--store", place, "--http", "127.0.0.1:0", *options)
        return self._service(options, broker, {"PYTHONPATH": path})

    def consumer(
        self,
        slots: int = 1,
        *options: str,
        broker: Broker | None = None,
        plugin: bool = True,
        path: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Service:
        """Start a consumer; `ready` waits for it."""
        more = {"PYTHONPATH": os.pathsep.join(filter(None, [str(PLUGIN) if plugin else "", path]))}
        more |= environment or {}
        return self._service(("consumer", "--slots", str(slots), *options), broker, more)

    def producer(self, *options: str, broker: Broker | None = None) -> Service:
        """Start a producer service; `ready` waits for it."""
        return self._service(("producer", *options), broker, {})

    def start(self, *arguments: str, broker: Broker | None = None, path: str = "") -> Program:
        """Start a command; `path` is where it finds further packages."""
        more = {"PYTHONPATH": os.pathsep.join(filter(None, [str(PLUGIN), path]))}
        env = self._environment(broker, more)
        return self._keep(Program(arguments, self.folder, env, module="ops.cli"))

    def on_terminal(
        self,
        terminal: Terminal,
        *arguments: str,
        broker: Broker | None = None,
        kind: str = "xterm-256color",
    ) -> Program:
        """Start a command on a terminal, which tells it its size and its kind."""
        env = self._environment(broker, {"PYTHONPATH": str(PLUGIN), "TERM": kind})
        del env["COLUMNS"]
        return self._keep(Program(arguments, self.folder, env, module="ops.cli", terminal=terminal))

    def command(self, *arguments: str, broker: Broker | None = None, path: str = "") -> Ended:
        """Run a command to its end."""
        return self.start(*arguments, broker=broker, path=path).wait()

    def run(self, job: Job, *options: str, broker: Broker | None = None, path: str = "") -> Program:
        """Start `montemq run` for a job; its result will stand on stdout."""
        file = job.file(self.folder)
        return self.start("run", file, "--json", *options, broker=broker, path=path)

    def samples(self, run: str) -> int:
        """Return how many samples of a run the store has, 0 before it is declared."""
        rows = self.rows("SELECT samples FROM runs WHERE run = ?", run)
        return int(rows[0][0]) if rows else 0

    def reached(self, job: Job, share: float) -> None:
        """Wait until so much of a run is merged."""
        wanted = share * job.samples
        eventually(lambda: self.samples(job.run) >= wanted, f"{job.run} reaches {share:.0%}")

    def rows(self, query: str, *values: Any, store: Path | None = None) -> list[tuple[Any, ...]]:
        """Return what a query finds in the store."""
        path = store or self.store
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all that the store holds."""
        return {table: self.rows(f"SELECT * FROM {table}") for table in TABLES}  # noqa: S608

    def assert_every_block_counts_once(self, job: Job) -> None:
        """Check the ledger's own ranges against the sums that it keeps beside them."""
        blocks, size = job.definition.blocks, job.definition.block_size
        ranges = self.rows("SELECT merged FROM cells WHERE run = ?", job.run)
        assert [msgpack.unpackb(merged) for (merged,) in ranges] == [[[0, blocks]]] * len(
            job.definition.cells
        )
        segments = self.rows(
            "SELECT cell, statistics FROM segments WHERE run = ? ORDER BY cell, segment", job.run
        )
        bounds = (0, *job.definition.checkpoints)
        lengths = [stop - start for start, stop in pairwise(bounds)]
        kept = [msgpack.unpackb(statistics, ext_hook=_bytes) for _, statistics in segments]
        assert [s["blocks"] for s in kept] == lengths * len(job.definition.cells)
        assert [s["samples"] for s in kept] == [
            length * size for length in lengths * len(job.definition.cells)
        ]

    def assert_answer(self, job: Job, ended: Ended) -> dict[str, Any]:
        """Check that a run ended with the one answer it can have; return its result."""
        assert ended.code == 0, ended.err
        result: dict[str, Any] = ended.json
        assert (result["run"], result["state"]) == (job.run, "finished")
        assert result["digest"] == job.digest
        self.assert_every_block_counts_once(job)
        self._assert_memory_is_bounded()
        blocks = job.definition.blocks * len(job.definition.cells)
        self.answers.append(
            f"{blocks} blocks once, digest {job.digest[:8]}, in {ended.seconds:.1f} s"
        )
        return result

    @property
    def memory(self) -> str:
        """Tell the most memory that was seen."""
        return f"{self.peak_mib} MiB, slots {self.slot_peak_mib} MiB"

    def close(self) -> None:
        """Kill what still runs, by its pid."""
        for program in self.programs:
            program.kill()
        self._temporary.cleanup()
        for program in self.programs:
            assert_no_traceback(program)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _assert_memory_is_bounded(self) -> None:
        running = [program for program in self.programs if program.running]
        self.peak_mib = max([self.peak_mib, *(p.peak_mib for p in running)])
        self.slot_peak_mib = max([self.slot_peak_mib, *(p.children_peak_mib for p in running)])
        assert max(self.peak_mib, self.slot_peak_mib) <= PEAK_MIB, self.memory

    def _service(
        self, options: tuple[str, ...], broker: Broker | None, more: Mapping[str, str]
    ) -> Service:
        service = Service(options, self.folder, self._environment(broker, more))
        self._keep(service)
        return service

    def _environment(self, broker: Broker | None, more: Mapping[str, str]) -> dict[str, str]:
        return environment(
            (broker or self.broker).url, TMPDIR=self._temporary.name, **self.variables, **more
        )

    def _keep(self, program: Program) -> Program:
        self.programs.append(program)
        return program


def _bytes(_: int, data: bytes) -> bytes:
    return data
