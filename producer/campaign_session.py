"""Drives a campaign: one session for each run that may start, all of them at once.

Nothing is kept here: the aggregator knows the runs by their ids, so that the same campaign again
joins what has finished and goes on with the rest.
"""

import asyncio
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from producer.backoff import Backoff
from producer.campaign import Order, Stage, Start
from producer.campaign_file import CampaignFile
from producer.session import RunSession, Update
from protocol.amqp_aio import no_aggregator
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    ResultTooLargeError,
    RunCancelledError,
    RunFailedError,
    RunIdTakenError,
    TimedOutError,
    TopologyMissingError,
    UsageError,
)
from protocol.results import Result
from protocol.settings import Broker


class RunOutcome(BaseModel):
    """How one run of a campaign ended; `result` is what there is of it, None where nothing is."""

    model_config = ConfigDict(frozen=True)

    run: str
    state: Stage
    after: tuple[str, ...]
    error: str | None = None
    result: Result | None = None


class CampaignOutcome(BaseModel):
    """How a campaign ended: one object, as `--json` prints it."""

    model_config = ConfigDict(frozen=True)

    campaign: str
    state: Stage
    runs: dict[str, RunOutcome]

    def error(self) -> RunFailedError | RunCancelledError | None:
        """Return why the campaign did not finish, None where it did."""
        if self.state is Stage.FINISHED:
            return None
        wrong = [
            outcome.error or ""
            for outcome in self.runs.values()
            if outcome.state is not Stage.FINISHED
        ]
        kind = RunFailedError if self.state is Stage.FAILED else RunCancelledError
        how = "failed" if self.state is Stage.FAILED else "was cancelled"
        return kind(f"campaign '{self.campaign}' {how}: {'; '.join(wrong)}")


class Observer(Protocol):
    """Who watches a campaign."""

    def updated(self, name: str, update: Update) -> None:
        """Take note of a run's progress."""

    def ended(self, name: str, outcome: RunOutcome) -> None:
        """Take note of a run's end, also of one that never started."""

    def waits(self, name: str, others: tuple[str, ...]) -> None:
        """Take note of what a run still waits for."""


class CampaignSession:
    """One producer at work on one campaign.

    Parameters
    ----------
    broker
        Where.
    campaign
        What.
    observer
        Told of every change.
    chunk_blocks
        Blocks per chunk, as in `RunSession`.
    """

    def __init__(
        self,
        broker: Broker,
        campaign: CampaignFile,
        observer: Observer,
        chunk_blocks: int | None = None,
    ) -> None:
        self._broker = broker
        self._campaign = campaign
        self._observer = observer
        self._chunk_blocks = chunk_blocks
        self._order = Order(campaign.after)
        self._outcomes: dict[str, RunOutcome] = {}
        self._tasks: dict[asyncio.Task[Result], str] = {}
        self._sessions: list[RunSession] = []
        self._joined = False

    async def outcome(self, timeout: float | None = None) -> CampaignOutcome:  # noqa: ASYNC109
        """See every run to its end, also where others fail.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None for as long as it takes.

        Raises
        ------
        RunIdTakenError
            The id of a run names another definition: the file has changed since.
        TimedOutError
            The runs go on, and the same command takes the campaign up again.
        BrokerError
            The broker or the aggregator could not be used at the start.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._drive()
        except TimeoutError:
            if timeout is not None and not self._joined and self._unanswered:
                raise no_aggregator(self._broker, timeout) from None
            raise TimedOutError(
                f"campaign '{self._campaign.id}' is not finished after {timeout:g} s; "
                "what is merged is kept, the same command goes on from there"
            ) from None
        runs = {name: self._outcomes[name] for name in self._campaign.runs}
        return CampaignOutcome(campaign=self._campaign.id, state=self._order.stage, runs=runs)

    @property
    def _unanswered(self) -> bool:
        """Whether the aggregator was asked to take a run, and has not said."""
        return any(session.declared is None for session in self._sessions)

    async def _drive(self) -> None:
        try:
            self._act()
            while not self._order.ended:
                done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._end(self._tasks.pop(task), task)
                self._act()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _act(self) -> None:
        for action in self._order.actions():
            if isinstance(action, Start):
                self._tasks[asyncio.create_task(self._run(action.name))] = action.name
            else:
                run = self._campaign.run_id(action.name)
                why = f"run '{run}' was not started: {action.why}"
                self._note(action.name, Stage.NOT_STARTED, why)
        for name, stage in self._order.stages.items():
            if stage is Stage.WAITING:
                self._observer.waits(name, self._order.waits_for(name))

    async def _run(self, name: str) -> Result:
        """See one run to its end; once the campaign has begun, a lost broker is waited for."""
        finished = {
            one: outcome.result
            for one, outcome in self._outcomes.items()
            if outcome.result is not None and outcome.state is Stage.FINISHED
        }
        job = self._campaign.submission(name, finished)

        def show(update: Update) -> None:
            self._joined = True
            self._observer.updated(name, update)

        backoff = Backoff()
        while True:
            session = RunSession(self._broker, job, show, self._chunk_blocks)
            self._sessions.append(session)
            try:
                return await session.result()
            except (BrokerRefusedError, TopologyMissingError):
                raise
            except BrokerError:
                if session.declared or not self._joined:
                    raise
                await backoff.sleep()

    def _end(self, name: str, task: asyncio.Task[Result]) -> None:
        """Take note how a run ended; what is no end of that run ends the campaign."""
        try:
            result = task.result()
        except RunFailedError as error:
            self._note(name, Stage.FAILED, str(error), error.partial)
        except RunCancelledError as error:
            self._note(name, Stage.CANCELLED, str(error), error.partial)
        except ResultTooLargeError as error:
            self._note(name, Stage.FAILED, str(error))
        except UsageError as error:
            run = self._campaign.run_id(name)
            self._note(name, Stage.FAILED, f"run '{run}' was not declared: {error}")
        except RunIdTakenError as error:
            raise RunIdTakenError(
                f"run '{name}' has changed: {error}; give the campaign another id"
            ) from None
        else:
            self._note(name, Stage.FINISHED, None, result)

    def _note(
        self, name: str, stage: Stage, error: str | None, result: Result | None = None
    ) -> None:
        if stage is not Stage.NOT_STARTED:
            self._joined = True
            self._order.happened(name, stage)
        self._outcomes[name] = outcome = RunOutcome(
            run=self._campaign.run_id(name),
            state=stage,
            after=self._order.after[name],
            error=error,
            result=result,
        )
        self._observer.ended(name, outcome)
