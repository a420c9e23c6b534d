"""One answer from two consumers of different instruction sets, for every built-in model and method.

One computes as this processor does best, the other for x86-64-v2, which has vectors of two doubles
and no fused multiply-add.
"""

import asyncio
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer import golden
from producer.session import RunSession
from protocol.definition import Method
from protocol.registry import load_model
from tests.support.stack_jobs import Job
from tests.support.stack_partials import listening
from tests.support.stack_processes import Program, Service, environment
from tests.support.stack_site import Site

PLAIN_CPU = {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": "+sse4.2"}
CHUNKS = 32
"""Of one block each; the broker gives them out in turns, to two consumers of one slot."""

PAIRS = ("EURUSD", "EURJPY", "GBPUSD", "USDJPY", "EURGBP", "EURCHF", "USDCHF", "AUDUSD")

CELLS: dict[str, tuple[str, ...]] = {
    "pi": ("",),
    "european": ("", 'option_type = "put"\nstrike = 110.0'),
    "asian": (
        "fixings = 7",
        'fixing_times = [0.0, 0.3, 1.0]\noption_type = "put"',
        'payoff = "average_strike"\nfixings = 5',
    ),
    "barrier": (
        "fixings = 6\nrebate = 2.0",
        'barrier_type = "up_and_in"\nbarrier = 120.0\nmonitoring = "continuous"\nfixings = 3',
    ),
    "backtest": (
        'last_date = "2001-12-31"',
        'legs = ["EURUSD", "GBPJPY"]\nvolatility_target = 0.1\nlast_date = "2001-12-31"',
    ),
}
"""Cells of every built-in model that take each of its methods, with control variates and without.

What they leave out has runs of its own below.
"""

GEOMETRIC = (
    'averaging = "geometric"\nfixings = 7',
    'averaging = "geometric"\nfixing_times = [0.5]',
)
HISTORY = tuple(f'mode = "history"\npair = "{pair}"' for pair in PAIRS)


def job_of(run: str, model: str, cells: tuple[str, ...], sampling: str, size: int) -> Job:
    blocks = max(1, CHUNKS // len(cells)) if size > 1 else 1
    listed = "\n".join(f"[[cells]]\n{cell}" for cell in cells)
    text = f"""
[run]
model = "{model}"
id = "{run}"
seed = 20260101
[sampling]
block_size = {size}
{sampling}
[stop]
samples = {blocks * size}
{listed}
"""
    return Job(run, text)


def jobs() -> Iterator[Job]:
    """Yield a run of every built-in model with every method, with and without control variates."""
    for model, cells in CELLS.items():
        loaded = load_model(model)
        for method in loaded.methods:
            for controlled in (False, True)[: 1 + bool(loaded.controls)]:
                sampling = f'method = "{method}"\ncontrol_variates = {str(controlled).lower()}'
                run = f"{model}-{method}{'-controls' * controlled}"
                yield job_of(run, model, cells, sampling, 256)
    for method in Method:
        yield job_of(f"geometric-{method}", "asian", GEOMETRIC, f'method = "{method}"', 256)
    yield job_of("history", "backtest", HISTORY, "", 1)


def name_of(consumer: Service) -> str:
    """Return what a consumer calls itself in its partials."""
    found = re.search(r"consumer (\S+): pool", consumer.err)
    assert found, consumer.err
    return found[1]


def test_there_are_runs_of_every_built_in_model() -> None:
    assert CELLS.keys() == golden.PARAMS.keys()


@pytest.mark.timeout(600)
def test_the_plain_processor_has_none_of_the_later_instructions(tmp_path: Path) -> None:
    for more, is_plain in ((PLAIN_CPU, True), ({}, False)):
        check = Program((), tmp_path, environment(**more), module="consumer.golden")
        ended = check.wait(seconds=400)
        assert ended.code == 0, ended.err
        assert ("CPU x86-64-v2 with sse4.2\n" in ended.out) == is_plain, ended.out


@pytest.mark.timeout(600)
def test_two_consumers_of_different_instruction_sets_share_every_run_and_give_one_answer(
    site: Site,
) -> None:
    site.aggregator().ready()
    consumers = [site.consumer(1, environment=PLAIN_CPU), site.consumer(1)]
    for consumer in consumers:
        consumer.ready(seconds=400)  # the first time, kernels are compiled for the plain one
    names = {name_of(consumer) for consumer in consumers}
    with listening(site.broker) as partials:
        for job in jobs():
            result = asyncio.run(RunSession(site.broker, job.submission, chunk_blocks=1).result(60))
            computed = partials.of(job.run)
            assert computed.keys() == names, job.run
            cells, blocks = len(job.definition.cells), job.definition.blocks
            every = set(itertools.product(range(cells), range(blocks)))
            assert set.union(*computed.values()) == every, job.run
            # In this process, as the native consumer does.
            assert result.digest == job.digest, job.run
            site.assert_every_block_counts_once(job)
