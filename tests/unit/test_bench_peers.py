"""The peers of the pipeline's benchmark: a task that fails is an error, and nothing is waited for.

They run where they are installed; Redis is a private server.
"""

import pytest

from ops.bench import pipeline
from ops.bench.blocks import Task
from ops.bench.peers import PEERS, Peer, place
from ops.bench.peers.place import Place, redis_server

ONE = Task("pi", 32, 0, 1)
UNKNOWN = Task("no_such_model", 32, 0, 1)
WITHOUT_BROKER = [peer for peer in PEERS if peer.name != "celery"]


@pytest.mark.parametrize("peer", WITHOUT_BROKER, ids=lambda peer: peer.name)
def test_a_peer_computes_its_tasks_and_says_why_one_failed(peer: Peer) -> None:
    with redis_server() as redis:
        if (lack := peer.lacks(redis)) is not None:
            pytest.skip(lack)
        with peer.start(Place(1, redis_url=redis or "")) as compute:
            samples, value = compute([ONE, ONE])
            assert samples == 64
            assert 0 < value < 4 * 64
            with pytest.raises(Exception, match="no_such_model"):
                compute([ONE, UNKNOWN])
            assert compute([ONE]) == (32, value / 2)


def test_waiting_for_what_never_comes_ends_with_its_name() -> None:
    with pytest.raises(TimeoutError, match=r"Redis is not ready after 0 s"):
        place.wait_for(lambda: False, "Redis", within=0.0)


def test_a_measurement_without_a_counterpart_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PEERS", ())
    said: list[str] = []
    found = {"error": {"montemq": {"median_seconds": 1.0}}}
    pipeline.measure_peers(found, Place(1), 1, said.append)
    assert said == ["error: not measured on peers"]
    assert found == {"error": {"montemq": {"median_seconds": 1.0}}}
