"""multiprocessing: a pool of as many processes as there are cores, one task at a time."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from consumer.fork_server import start_server
from ops.bench.blocks import Task, simulate, total
from ops.bench.peers.place import TASKS_SECONDS, Place

GUARANTEES = "nothing survives a crash, one machine only; tasks go through pipes one by one"


@contextmanager
def start(place: Place) -> Iterator[Callable[[list[Task]], tuple[int, float]]]:
    """Start the pool from the process that slots are forked from, with the kernels loaded."""
    # Slots hold back the signal by which a pool ends.
    heed = (signal.SIG_UNBLOCK, {signal.SIGTERM})
    with start_server().Pool(place.cores, signal.pthread_sigmask, heed) as pool:
        yield lambda tasks: total(pool.map_async(simulate, tasks, chunksize=1).get(TASKS_SECONDS))
