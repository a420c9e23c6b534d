"""One look at runs and consumers: what the aggregator is asked, and what it answers."""

from ops.top.overview import Looks, Overview, RunLine
from producer.rpc import FEW_CELLS, RPC_SECONDS, ask
from protocol.amqp_aio import Link
from protocol.errors import UnknownRunError
from protocol.messages import Headline, RunState
from protocol.results import Result
from protocol.rpc_messages import (
    Fleet,
    FleetRequest,
    Results,
    ResultsRequest,
    Status,
    StatusRequest,
)
from protocol.settings import Broker

NAME = "montemq top"
"""What the broker's tools call the connection."""

ASKED_RUNS = 200
"""So many of the newest ones that go on: each estimate costs the aggregator time."""


async def look_once(broker: Broker) -> Overview:
    """Connect and ask how everything is.

    Raises
    ------
    BrokerError
        The broker or the aggregator cannot be used.
    """
    async with await Link.open(broker, NAME) as link:
        return await look(link, Looks(), RPC_SECONDS)


async def look(link: Link, looks: Looks, within: float) -> Overview:
    """Ask how everything is.

    Parameters
    ----------
    link
        Where.
    looks
        What earlier looks have found; it takes in this one.
    within
        Seconds that each answer may take.

    Raises
    ------
    BrokerError
        The broker or the aggregator cannot be used.
    """
    going_on = StatusRequest(state=RunState.RUNNING, newest=ASKED_RUNS, headlines=True)
    status = await ask(link, going_on, Status, within)
    fleet = await ask(link, FleetRequest(departed=True), Fleet, within)
    found = [await _ended(link, run, within) for run in looks.vanished(status)]
    return looks.take_in(status, fleet, [line for line in found if line is not None])


async def _ended(link: Link, run: str, within: float) -> RunLine | None:
    """Return what became of a run, with its estimate; None where the store was exchanged."""
    try:
        (status,) = (await ask(link, StatusRequest(run=run), Status, within)).runs
        if status.state is RunState.RUNNING or status.cells > FEW_CELLS:
            return RunLine(status)
        result = (await ask(link, ResultsRequest(run=run), Results, within)).result
    except UnknownRunError:
        return None
    return RunLine(status, _headline(result))


def _headline(result: Result) -> Headline | None:
    """Return the first cell's first estimate, as it is told of runs that go on."""
    output, estimate = next(iter(result.cells[0].outputs.items()))
    if estimate.mean is None:
        return None
    return Headline(output=output, mean=estimate.mean, standard_error=estimate.standard_error)
