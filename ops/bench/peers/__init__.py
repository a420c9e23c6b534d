"""The same work on other systems, each set up as its documentation advises for many small tasks."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec

from ops.bench.blocks import Task
from ops.bench.peers import celery_peer, dask_peer, pool_peer, rq_peer
from ops.bench.peers.place import Place

Compute = Callable[[list[Task]], tuple[int, float]]
"""Computes tasks, one by one, and returns samples and sum of all."""


@dataclass(frozen=True)
class Peer:
    """A system to compare with.

    Attributes
    ----------
    name, guarantees
        What it is called, and what it did and did not promise when it was measured.
    start
        Starts it, with as many workers as there are cores.
    needs
        The packages that must be installed, and whether a Redis server must be.
    """

    name: str
    guarantees: str
    start: Callable[[Place], AbstractContextManager[Compute]]
    needs: tuple[str, ...] = ()
    needs_redis: bool = False

    def lacks(self, redis: str | None) -> str | None:
        """Say in a few words what is missing here, None where nothing is."""
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            return f"{', '.join(missing)} not installed; pip install 'montemq[bench]' has it"
        if self.needs_redis and redis is None:
            return "redis-server not installed; apt-get install redis-server has it"
        return None


PEERS = (
    Peer("multiprocessing", pool_peer.GUARANTEES, pool_peer.start),
    Peer(
        "celery", celery_peer.GUARANTEES, celery_peer.start, ("celery", "redis"), needs_redis=True
    ),
    Peer("rq", rq_peer.GUARANTEES, rq_peer.start, ("rq", "redis"), needs_redis=True),
    Peer("dask", dask_peer.GUARANTEES, dask_peer.start, ("distributed",)),
)
