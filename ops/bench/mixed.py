"""Measures a run on a fast and a slow consumer against the ideal time of their summed speed.

The slow one's slot is stopped for nine tenths of the time, as on a machine that is busy otherwise:
its blocks cost the same CPU time, and take ten times as long.
"""

import os
import signal
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ops.child_process import Process, descendants
from ops.service import Service
from ops.stack import Stack

SLOWNESS = 10
PERIOD_SECONDS = 0.05
"""Of one stop and one go of the slowed slot."""

ALONE_SECONDS = 8.0
"""What each consumer's run on its own takes, about."""

MIXED_SECONDS = 20.0
"""The ideal time of a run on both, about; as in the tests in simulated time."""

REPEATS = 3

Submit = Callable[[Stack, int], float]
"""Sees a run of so many samples through a stack, and returns its wall time."""


def measure(submit: Submit, samples_per_second: float) -> dict[str, float]:
    """Measure runs on both consumers, each after one on the fast consumer alone.

    So whatever else the machine does meets both; the slow consumer is measured alone at the end.

    Parameters
    ----------
    submit
        How a run is submitted.
    samples_per_second
        What one slot does, about.

    Returns
    -------
    dict
        The ratios are wall times on both in terms of the ideal ones; `slowness` is how many times
        slower the slow consumer was found to be.
    """
    alone = round(ALONE_SECONDS * samples_per_second)
    both = round(MIXED_SECONDS * samples_per_second * (1 + 1 / SLOWNESS))
    rounds = []
    with Stack.start(consumers=1, slots=1, prefer_port=None, quiet=True) as stack:
        (fast,) = stack.consumers
        submit(stack, alone // SLOWNESS)  # loads the kernels
        for left in reversed(range(REPEATS)):
            fast_seconds = submit(stack, alone)
            slow = stack.launch_consumer(1)
            slow.wait_until_ready()
            with slowed(slow):
                rounds.append((fast_seconds, submit(stack, both)))
                if not left:
                    stack.kill(fast)
                    slow_seconds = submit(stack, alone // SLOWNESS)
            stack.kill(slow)
    slowness = SLOWNESS * slow_seconds / rounds[-1][0]
    ideals = [both / alone * seconds / (1 + 1 / slowness) for seconds, _ in rounds]
    ratios = [seconds / ideal for (_, seconds), ideal in zip(rounds, ideals, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "best_ratio": min(ratios),
        "worst_ratio": max(ratios),
        "ideal_seconds": statistics.median(ideals),
        "slowness": slowness,
    }


@contextmanager
def slowed(consumer: Service) -> Iterator[None]:
    """Let a consumer's slot work for a tenth of the time only; its agent is left alone."""
    slots = descendants(consumer.process.pid)
    done = threading.Event()

    def pulse() -> None:
        while not done.wait(PERIOD_SECONDS * (1 - 1 / SLOWNESS)):
            _signal(slots, signal.SIGCONT)
            done.wait(PERIOD_SECONDS / SLOWNESS)
            _signal(slots, signal.SIGSTOP)
        _signal(slots, signal.SIGCONT)

    thread = threading.Thread(target=pulse)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _signal(processes: list[Process], number: signal.Signals) -> None:
    for process in processes:
        if process.alive():
            os.kill(process.pid, number)
