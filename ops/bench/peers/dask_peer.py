"""Dask distributed: a local cluster with one single-threaded worker per core, and `map`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ops.bench.blocks import Task, simulate, total
from ops.bench.peers.place import TASKS_SECONDS, Place

GUARANTEES = (
    "results stay in the workers' memory and are computed again where a worker dies; "
    "nothing survives the scheduler; nothing is written to disk"
)


@contextmanager
def start(place: Place) -> Iterator[Callable[[list[Task]], tuple[int, float]]]:
    """Start scheduler and workers, without the dashboard."""
    distributed: Any = import_module("distributed")
    cluster = distributed.LocalCluster(
        n_workers=place.cores, threads_per_worker=1, processes=True, dashboard_address=None,
        host="127.0.0.1", silence_logs="ERROR",
    )  # fmt: skip
    with cluster, distributed.Client(cluster) as client:

        def compute(tasks: list[Task]) -> tuple[int, float]:
            futures = client.map(simulate, [tuple(task) for task in tasks], pure=False)
            samples, value = client.submit(total, futures, pure=False).result(TASKS_SECONDS)
            return int(samples), float(value)

        yield compute
