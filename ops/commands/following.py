"""Sees a run to its end for a command: what is shown, and what becomes of an interruption."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producer.detaching import is_served
from producer.quiet import Quiet
from producer.rpc import ask
from producer.runfile import Submission
from producer.session import Role, RunSession, raise_unless_finished
from protocol.amqp_aio import Link
from protocol.errors import BrokerError, RunInterruptedError, TimedOutError, UnknownRunError
from protocol.messages import RunState
from protocol.results import Result
from protocol.rpc_messages import CancelRequest, Missing
from protocol.settings import Broker

if TYPE_CHECKING:
    from producer.progress import ProgressDisplay

ASK_SECONDS = 1.0
"""How long an interrupted command asks who goes on with its run."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Following:
    """How a run is followed.

    Attributes
    ----------
    timeout
        Seconds to wait at most; None for as long as it takes.
    quiet
        Nothing is said on stderr unless something is wrong.
    cancels
        The first interruption cancels the run.
    chunk_blocks
        Blocks per chunk, None for a moderate number.
    only_watches
        Others schedule the run.
    repeatable
        The same command goes on with the same run; otherwise it would begin another one.
    """

    timeout: float | None = None
    quiet: bool = False
    cancels: bool = False
    chunk_blocks: int | None = None
    only_watches: bool = False
    repeatable: bool = True


def follow(broker: Broker, job: Submission, how: Following) -> Result:
    """See a run to its end, showing its progress on stderr.

    Raises
    ------
    RunInterruptedError
        It was interrupted, and the error says how to go on.
    RunCancelledError
        It was cancelled, by this interruption or by somebody else.
    TimedOutError
        It is not finished in time, and the error says how to go on.
    MontemqError
        It did not come to its end.
    """
    display = Quiet() if how.quiet else _display(job)
    with display:
        role = Role.WATCH if how.only_watches else Role.LEAD
        session = RunSession(broker, job, display, how.chunk_blocks, role)
        ended = asyncio.run(_see_to_its_end(session, broker, job.run, how, display.stop))
    if isinstance(ended, Result):
        return ended
    raise RunInterruptedError(ended)


def _display(job: Submission) -> "ProgressDisplay":
    from producer.progress import ProgressDisplay  # noqa: PLC0415 - rich loads when it is shown
    from protocol.resampled import is_resampled  # noqa: PLC0415

    return ProgressDisplay(job.run, estimate=not is_resampled(job.definition.model))


async def _see_to_its_end(
    session: RunSession, broker: Broker, run: str, how: Following, restore: Callable[[], None]
) -> Result | str:
    """Return the result, or the sentence to say after an interruption."""
    work = asyncio.ensure_future(session.result(how.timeout))
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:  # whoever asks twice does not want to wait for anything
            restore()
            os.write(sys.stderr.fileno(), f"montemq: {_left_at_once(run, how)}\n".encode())
            os._exit(RunInterruptedError.exit_code)
        interrupted = True
        work.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        return await work
    except asyncio.CancelledError:
        if how.cancels and session.declared is not False:
            return await _cancelled(broker, run)
        served = await _is_served(broker, run) if session.declared else None
        return _how_to_go_on(run, declared=session.declared, served=served)
    except TimedOutError as error:
        if session.declared is False:
            kept = "it was not declared"
        elif how.repeatable:
            kept = "what is merged is kept, the same command goes on from there"
        else:
            kept = f"it keeps what is merged{_ways_on(run, await _is_served(broker, run))}"
        raise TimedOutError(f"{error}; {kept}") from None


async def _is_served(broker: Broker, run: str) -> bool | None:
    """Say whether anybody else schedules a run; None where that is not known soon enough."""
    try:
        async with asyncio.timeout(ASK_SECONDS), await Link.open(broker, "montemq") as link:
            return await is_served(link, run)
    except (BrokerError, TimeoutError):
        return None


async def _cancelled(broker: Broker, run: str) -> str:
    """Cancel a run, and return what to say where that was not done."""
    try:
        async with await Link.open(broker, "montemq") as link:
            answer = await ask(link, CancelRequest(run=run), Missing)
    except UnknownRunError:
        return f"interrupted before run '{run}' was declared"
    except BrokerError as error:
        return f"run '{run}' is not cancelled: {error}; end it with `montemq cancel {run}`"
    raise_unless_finished(run, RunState(answer.state), "see `montemq status`")
    return f"run '{run}' had finished already; `montemq results {run}` shows it"


def _left_at_once(run: str, how: Following) -> str:
    """Return what to say to whoever waits for nothing any more."""
    if how.cancels:
        return f"run '{run}' may go on: end it with `montemq cancel {run}`"
    return f"stopped following run '{run}'; `montemq status {run}` shows how it stands"


def _how_to_go_on(run: str, *, declared: bool | None, served: bool | None) -> str:
    """Return what to do about a run that is followed no longer; None: that is not known."""
    if declared is None:
        return (
            f"interrupted before the aggregator answered; `montemq status {run}` says whether "
            f"run '{run}' was declared"
        )
    if not declared:
        return f"interrupted before run '{run}' was declared"
    return f"stopped following; run '{run}' keeps what is merged{_ways_on(run, served)}"


def _ways_on(run: str, served: bool | None) -> str:
    """Return how the sentence ends that says that a declared run keeps what is merged."""
    resume, end = f"go on with `montemq resume {run}`", f"or end it with `montemq cancel {run}`"
    if served is None:
        return f": {resume}, {end}"
    if not served:
        return f", but nobody schedules it now: start `montemq producer`, {resume}, {end}"
    return f" and goes on without this command: follow it with `montemq wait {run}`, {end}"
