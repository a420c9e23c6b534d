"""Takes a run up again that somebody declared: asks for it, and reopens it if it can be computed.

The run is followed by a session, as any other.
"""

from producer.pool import AGAIN, expect_queue
from producer.rpc import ask
from producer.runfile import Submission
from protocol.amqp_aio import Link
from protocol.definition import Lane
from protocol.rpc_messages import DeclarationRequest, Declare, ResumeRequest, Status, StatusRequest
from protocol.settings import Broker


async def reopen(broker: Broker, request: ResumeRequest) -> Submission:
    """Reopen a run that failed or was cancelled, and return it; any other one is only returned.

    A run whose pool has no queue stays as it is: it would go on for ever without anybody.

    Raises
    ------
    UnknownRunError
        Nobody declared it.
    TopologyMissingError
        Its pool has no queue.
    BrokerError
        The broker or the aggregator cannot be used.
    """
    async with await Link.open(broker, "montemq") as link:
        (status,) = (await ask(link, StatusRequest(run=request.run), Status)).runs
        await expect_queue(link, status.pool, Lane(status.lane), AGAIN)
        declared = await ask(link, request, Declare)
    return Submission.of(declared)


async def look_up(broker: Broker, request: DeclarationRequest) -> Submission:
    """Return a run that somebody declared, as it is.

    Raises
    ------
    UnknownRunError
        Nobody declared it.
    BrokerError
        The broker or the aggregator cannot be used.
    """
    async with await Link.open(broker, "montemq") as link:
        return Submission.of(await ask(link, request, Declare))
