"""One producer's part in one run: the real scheduler, over the channel of a simulated process."""

import math
from dataclasses import dataclass, field

from ops.simulation.events import Confirmed, Properties, Rejected
from ops.simulation.party import Party
from producer.runfile import Submission
from producer.scheduler import Publish, Scheduler
from protocol import topology
from protocol.messages import Chunk, Finished, Message, Progress, RunState, encode
from protocol.rpc_messages import Missing, MissingRequest

ANSWER_SECONDS = 5.0
"""After which an unanswered request has expired."""


@dataclass
class RunLog:
    """What became of a run.

    Attributes
    ----------
    attempts
        All that were published.
    blocks
        How many blocks they had together, audits apart.
    audits
        How many of them were audits, declined ones too.
    ended
        When its first producer knew that it had ended.
    """

    attempts: set[int] = field(default_factory=set)
    blocks: int = 0
    audits: int = 0
    ended: float = math.inf


class SimulatedAttendant:
    """Declares a run, then leads or follows it until it has ended.

    Attributes
    ----------
    job
        The run.
    state
        Its state, as last heard.
    leads
        Whether it may schedule the run, once it has a term of its own.
    """

    def __init__(
        self, party: Party, job: Submission, log: RunLog, chunk_blocks: int | None = None
    ) -> None:
        self.job = job
        self.state = RunState.RUNNING
        self.leads = False
        self._party = party
        self._scheduler = Scheduler(job.run, job.definition, chunk_blocks)
        self._log = log
        self._unconfirmed: dict[int, int] = {}
        self._has_term = False

    def declare(self, *, leads: bool) -> None:
        """Ask for a term of its own, and use it from the answer on, not before."""
        self.leads, self._has_term = leads, False
        self._ask()

    def disconnected(self) -> None:
        """Tell the scheduler."""
        self._unconfirmed = {}
        self._scheduler.disconnected()
        self._scheduler.leads(leads=False)

    def hear(self, message: Progress | Finished | Missing) -> None:
        """Pass what the aggregator said on to the scheduler."""
        now = self._party.world.now
        if isinstance(message, Progress):
            self._scheduler.progress(message, now)
        elif isinstance(message, Missing):
            self._scheduler.joined(message, now)
            if message.term:
                self._has_term = True
                self._scheduler.leads(leads=self.leads)
            self._end(self._scheduler.state)
        else:
            self._end(RunState(message.state))

    def settle(self, event: Confirmed | Rejected) -> None:
        """Take in what the broker says of a publish, where it was one of this run's chunks."""
        attempt = self._unconfirmed.pop(event.sequence, None)
        if attempt is None:
            return
        if isinstance(event, Confirmed):
            self._scheduler.confirmed(attempt)
        else:
            self._scheduler.refused(attempt, self._party.world.now)

    def act(self) -> None:
        """Do what the scheduler wants done."""
        if self._party.channel is None or self.state is not RunState.RUNNING:
            return
        for action in self._scheduler.actions(self._party.world.now):
            if isinstance(action, Publish):
                self._publish(action.chunk)
            else:
                self._ask()
                self._party.later(ANSWER_SECONDS, self._scheduler.unanswered)

    def _end(self, state: RunState) -> None:
        self.state = state
        if state is not RunState.RUNNING:
            self._log.ended = min(self._log.ended, self._party.world.now)

    def _publish(self, chunk: Chunk) -> None:
        if chunk.attempt in self._log.attempts:
            raise AssertionError(f"attempt {chunk.attempt} was used twice")
        self._log.attempts.add(chunk.attempt)
        if chunk.not_by is None:
            self._log.blocks += chunk.blocks
        else:
            self._log.audits += 1
        channel = self._party.channel
        if channel is not None:
            key = topology.work_key(self.job.pool, self.job.lane)
            properties = Properties(type=chunk.type, persistent=True)
            body = encode(chunk)
            sequence = channel.publish(topology.WORK, key, body, properties, mandatory=True)
            self._unconfirmed[sequence] = chunk.attempt

    def _ask(self) -> None:
        """Ask what is missing; the declaration, which may have expired, asks that as well."""
        run = self.job.run
        ask(self._party, MissingRequest(run=run) if self._has_term else self.job.declaration)


def ask(party: Party, request: Message) -> None:
    """Send a request to the aggregator; the answer comes as a direct reply, or never."""
    if party.channel is not None:
        expiration = f"{ANSWER_SECONDS * 1_000:.0f}"
        properties = Properties(
            type=request.type, reply_to=topology.DIRECT_REPLY, expiration=expiration
        )
        party.channel.publish(topology.RPC, topology.RPC_KEY, encode(request), properties)
