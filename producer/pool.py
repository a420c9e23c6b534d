"""The work queue of a run's pool: whether it is there, and what to say when it is not."""

from protocol import topology
from protocol.amqp_aio import Link
from protocol.definition import Lane
from protocol.errors import BrokerRefusedError, TopologyMissingError

AGAIN = "this command again"
"""What to do once the queue is there, where nothing has been declared or reopened so far."""


async def expect_queue(link: Link, pool: str, lane: Lane, then: str) -> None:
    """Make sure that chunks of a pool and lane have a queue.

    From RabbitMQ 4.2.6 on only who may do something with a queue is told of it. A producer of the
    right role is not: it hears of a missing queue once its first chunk comes back.

    Parameters
    ----------
    then
        What to do once there is one; empty where nothing needs to be done.

    Raises
    ------
    TopologyMissingError
        There is none.
    """
    try:
        await link.expect(topology.work_queue(pool, lane))
    except TopologyMissingError:
        raise no_queue(pool, then) from None
    except BrokerRefusedError:
        return


def no_queue(pool: str, then: str = "") -> TopologyMissingError:
    """Return the error of a pool whose chunks no queue takes."""
    remedy = f"run `montemq broker init --pool {pool}`" + (f", then {then}" if then else "")
    return TopologyMissingError(f"the broker has no queue for pool '{pool}'; {remedy}")
