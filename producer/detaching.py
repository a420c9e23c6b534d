"""Declares a run and leaves it to whoever schedules runs that have no producer of their own."""

from dataclasses import dataclass

from producer.pool import AGAIN, expect_queue
from producer.rpc import ask
from producer.runfile import Submission
from protocol import topology
from protocol.amqp_aio import Link
from protocol.amqp_locks import is_held
from protocol.messages import RunState
from protocol.rpc_messages import Missing, Status, StatusRequest
from protocol.settings import Broker


@dataclass(frozen=True)
class Detached:
    """What became of a run that was only declared.

    Attributes
    ----------
    state, error
        As the aggregator has it: an id that was known before may have ended already.
    served
        Whether a producer service is there, or a producer of this run.
    """

    state: RunState
    error: str | None
    served: bool


async def detach(broker: Broker, job: Submission) -> Detached:
    """Declare a run and do not schedule it.

    Raises
    ------
    RunIdTakenError
        The id names another definition.
    BrokerError
        The broker or the aggregator cannot be used, or no queue takes the run's chunks.
    """
    async with await Link.open(broker, "montemq") as link:
        declared = await declare(link, job)
        error = None
        if declared.state == RunState.FAILED:
            (status,) = (await ask(link, StatusRequest(run=job.run), Status)).runs
            error = status.error
        return Detached(RunState(declared.state), error, await is_served(link, job.run))


async def declare(link: Link, job: Submission) -> Missing:
    """Declare a run whose chunks a queue takes, over a link that is open.

    Raises
    ------
    RunIdTakenError, BrokerError
        As `detach` does.
    """
    await expect_queue(link, job.pool, job.lane, AGAIN)
    return await ask(link, job.declaration, Missing)


async def is_served(link: Link, run: str) -> bool:
    """Say whether anybody schedules a run: the service, or a producer of its own."""
    locks = (topology.PRODUCER_LOCK, topology.leader_lock(run))
    return any([await is_held(link, lock) for lock in locks])
