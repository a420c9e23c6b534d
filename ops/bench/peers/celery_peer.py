"""Celery: a chord, RabbitMQ as broker, Redis for results, one prefork worker process per core."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ops.bench.blocks import Task, simulate, total
from ops.bench.peers.place import TASKS_SECONDS, Place, process, python, wait_for

GUARANTEES = (
    "tasks are persistent in a classic queue and acknowledged before they run, so a killed worker "
    "loses those it holds; publishes are not confirmed; results are in Redis, not on disk"
)
PREFETCH = 64
"""Tasks that each process is sent ahead: the documentation names 50 to 150 for short tasks."""


def application() -> Any:
    """Return the Celery application; its addresses come from the environment."""
    app = import_module("celery").Celery(
        "montemq_bench",
        broker=os.environ["MONTEMQ_BENCH_AMQP"],
        backend=os.environ["MONTEMQ_BENCH_REDIS"],
    )
    app.conf.update(
        task_serializer="json", result_serializer="json", accept_content=["json"],
        worker_prefetch_multiplier=PREFETCH, worker_send_task_events=False,
        task_default_queue="montemq_bench", broker_connection_retry_on_startup=True,
    )  # fmt: skip
    app.task(simulate, name="simulate")
    app.task(total, name="total")
    return app


def __getattr__(name: str) -> Any:
    """Make the application when Celery's own command line asks this module for it."""
    if name == "app":
        return application()
    raise AttributeError(name)


@contextmanager
def start(place: Place) -> Iterator[Callable[[list[Task]], tuple[int, float]]]:
    """Start the worker, and wait until it answers."""
    os.environ.update(place.environment)
    app = application()
    worker = python(
        "celery", "-A", "ops.bench.peers.celery_peer:app", "worker", "-P", "prefork", "-c",
        str(place.cores), "-l", "ERROR", "--without-gossip", "--without-mingle",
    )  # fmt: skip
    with process(worker, place.environment):
        wait_for(lambda: bool(app.control.ping(timeout=1.0)), "Celery's worker")
        chord: Any = import_module("celery").chord
        one, all_ = app.tasks["simulate"], app.tasks["total"]

        def compute(tasks: list[Task]) -> tuple[int, float]:
            result = chord([one.s(list(task)) for task in tasks])(all_.s())
            samples, value = result.get(timeout=TASKS_SECONDS, interval=0.005)
            return int(samples), float(value)

        yield compute
