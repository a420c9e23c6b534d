"""RQ: jobs in Redis, enqueued in bulk; a pool of workers that do not fork for each job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from ops.bench.blocks import Task, simulate, total
from ops.bench.peers.place import TASKS_SECONDS, Place, process, python, wait_for

GUARANTEES = (
    "jobs and results are in Redis, not on disk; a job whose worker is killed counts as failed; "
    "the workers do not fork for each job, which is faster than RQ's default"
)
QUEUE = "montemq_bench"
BATCH = 1_000
POLL_SECONDS = 0.002


class JobFailedError(Exception):
    """A job failed; the text is that of its exception."""


@contextmanager
def start(place: Place) -> Iterator[Callable[[list[Task]], tuple[int, float]]]:
    """Start the workers, and wait until they are registered."""
    rq: Any = import_module("rq")
    redis: Any = import_module("redis")
    connection = redis.Redis.from_url(place.redis_url)
    workers = python(
        "rq.cli", "worker-pool", QUEUE, "-n", str(place.cores), "-w", "rq.worker.SimpleWorker",
        "-q", "-u", place.redis_url,
    )  # fmt: skip
    wait_for(lambda: _answers(connection), "Redis")
    with process(workers, place.environment):
        queue = rq.Queue(QUEUE, connection=connection)
        wait_for(lambda: rq.Worker.count(connection=connection) >= place.cores, "RQ's workers")
        finished = partial(queue.finished_job_registry.get_job_count, cleanup=False)
        failed = partial(queue.failed_job_registry.get_job_count, cleanup=False)

        def compute(tasks: list[Task]) -> tuple[int, float]:
            jobs, before = [], finished()

            def ended() -> bool:
                if failed():
                    raise JobFailedError(_failure(rq.job.Job, queue, connection))
                return bool(finished() >= before + len(tasks))

            for batch in _batches(tasks):
                data = [
                    rq.Queue.prepare_data(simulate, args=(tuple(task),), result_ttl=600)
                    for task in batch
                ]
                jobs += queue.enqueue_many(data)
            ids, results = [job.id for job in jobs], []
            wait_for(ended, f"one of {len(ids)} jobs of RQ", TASKS_SECONDS, POLL_SECONDS)
            for batch in _batches(ids):
                found = rq.job.Job.fetch_many(list(batch), connection=connection)
                results += [job.return_value() for job in found]
            return total(results)

        yield compute


def _failure(job: Any, queue: Any, connection: Any) -> str:
    """Return the traceback of a failed job, and forget the failed ones."""
    registry = queue.failed_job_registry
    ids = registry.get_job_ids(cleanup=False)
    result = job.fetch(ids[0], connection=connection).latest_result()
    for name in ids:
        registry.remove(name)
    return result.exc_string if result else f"job {ids[0]} failed and did not say why"


def _answers(connection: Any) -> bool:
    try:
        return bool(connection.ping())
    except import_module("redis").exceptions.ConnectionError:
        return False


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))
