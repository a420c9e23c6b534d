"""What the agent decides: which chunk starts where, what is published, acknowledged, given back.

A state machine without clock, sockets or processes: events and the time in, actions out. The rule
that everything else serves: a chunk is acknowledged only after its answer was confirmed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer import events as e
from consumer.answers import Worker, failure
from consumer.appetite import Appetite
from consumer.job import Job, next_job
from consumer.roster import Roster
from protocol.messages import Chunk, FailureKind, encode

REMEMBERED = 60.0
"""Seconds for which an ended run is remembered; a reopened one must not be skipped for ever."""
TIME_LIMIT = 1500.0
"""Seconds a chunk may run: with the longest wait, less than the broker's consumer time-out."""
LONGEST_PAUSE = 60.0
FREE_FAILURES = 2
"""Failures in a row before the agent takes a rest, which doubles with each further one."""
MAX_UNSUPPORTED = 1000


class _End(NamedTuple):
    """The end of a run: of which term, and until when it is remembered."""

    term: int
    until: float


_CHARGED = {FailureKind.MODEL_ERROR, FailureKind.NOT_FINITE}


@dataclass
class Policy:
    """The agent's policy.

    Attributes
    ----------
    worker
        Who this agent is.
    slots
        How many slots it has.
    time_limit
        Seconds a chunk may run.
    draining
        Whether it takes no new chunks any more.
    """

    worker: Worker
    slots: int
    time_limit: float = TIME_LIMIT
    draining: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._roster = Roster(self.slots)
        self._appetite = Appetite(self.slots)
        self._jobs: dict[tuple[object, ...], Job] = {}
        self._waiting: list[Job] = []
        self._unsent: list[Job] = []
        self._unconfirmed: dict[int, Job] = {}
        self._ended: dict[tuple[str, bytes], _End] = {}
        self._unsupported: dict[tuple[str, bytes, int], str] = {}
        self._connected = False
        self._consuming: int | None = None
        self._exited = False
        self._tokens = 0
        self._failures = 0
        self._rest_until = 0.0
        self._actions: list[e.Action] = []

    @property
    def busy(self) -> int:
        """How many slots compute."""
        return self._roster.busy

    def handle(self, event: e.Event, now: float) -> list[e.Action]:
        """Return what to do about an event, in this order.

        Parameters
        ----------
        event
            What happened.
        now
            Seconds on any clock that never goes back.
        """
        if self._exited:
            return []
        self._actions = []
        self._take(event, now)
        if self._exited:
            return self._actions
        self._publish_due(now)
        if not self.draining:
            for slot in self._roster.start_due(now):
                self._do(e.StartSlot(slot))
        self._start_chunks(now)
        self._consume(now)
        if self.draining and not (self._jobs and self._connected):
            self._exit()
        return self._actions

    def _take(self, event: e.Event, now: float) -> None:
        match event:
            case e.SlotReady(slot):
                self._roster.ready(slot)
            case e.SlotDone():
                self._on_done(event, now)
            case e.SlotCrashed(slot, text):
                self._on_crashed(slot, text, now)
            case e.RunEnded():
                self._on_run_ended(event, now)
            case e.Tick():
                self._on_tick(now)
            case e.Drain():
                self.draining = True
                self._give_back(list(self._waiting))
            case e.Stop():
                self._stop()
            case _:
                self._take_from_broker(event, now)

    def _take_from_broker(self, event: e.Event, now: float) -> None:
        match event:
            case e.Delivered():
                self._on_delivered(event, now)
            case e.Confirmed(token) if job := self._unconfirmed.pop(token, None):
                self._settle(job)
            case e.Refused(token) if job := self._unconfirmed.pop(token, None):
                self._on_refused(job, now)
            case e.Connected():
                self._connected = True
            case e.Disconnected():
                self._on_disconnected()

    # deliveries

    def _on_delivered(self, event: e.Delivered, now: float) -> None:
        job = Job(event.chunk, event.body, event.lane, now, [event.receipt])
        if self._has_ended(event.chunk):
            self._do(e.Ack(event.receipt))
        elif known := self._jobs.get(job.key):
            # The same chunk twice, or again after a lost connection: one answer settles both.
            known.receipts.append(event.receipt)
        elif self.draining:
            self._do(e.Return(event.receipt))
        else:
            self._jobs[job.key] = job
            self._triage(job)

    def _triage(self, job: Job) -> None:
        if job.chunk.not_by == self.worker.consumer:
            self._fail(job, FailureKind.DECLINED, "this consumer must not compute this chunk")
        elif job.issue in self._unsupported:
            self._fail(job, FailureKind.UNSUPPORTED_MODEL, self._unsupported[job.issue])
        else:
            self._waiting.append(job)

    def _on_run_ended(self, event: e.RunEnded, now: float) -> None:
        self._ended[event.run, event.definition] = _End(event.term, now + REMEMBERED)
        for job in [j for j in (*self._waiting, *self._unsent) if self._has_ended(j.chunk)]:
            self._settle(job)

    def _has_ended(self, chunk: Chunk) -> bool:
        """Say whether nobody waits for a chunk; a run taken up again issues under a later term."""
        end = self._ended.get((chunk.run, chunk.definition))
        return end is not None and chunk.attempt >> 32 <= end.term

    def _on_disconnected(self) -> None:
        self._connected, self._consuming = False, None
        for job in self._jobs.values():
            job.receipts.clear()
        for job in self._waiting:
            del self._jobs[job.key]
        self._waiting.clear()
        # Whether the broker has them is unknown; the ledger counts a partial once in any case.
        self._unsent.extend(self._unconfirmed.values())
        self._unconfirmed.clear()

    # slots

    def _on_done(self, event: e.SlotDone, now: float) -> None:
        finished = self._roster.finish(event.slot, now)
        if finished is None:
            return
        job, seconds = finished
        self._appetite.measured(seconds)
        if event.kind is FailureKind.UNSUPPORTED_MODEL:
            self._learn_unsupported(job, event.text)
        elif event.kind in _CHARGED:
            self._count_failure(now)
        elif event.kind is None:
            self._failures = 0
        self._answer(job, event.type, event.body)

    def _on_crashed(self, slot: int, text: str, now: float) -> None:
        buried = self._roster.bury(slot, now)
        if buried is None:
            return
        job, pause = buried
        self._note(f"slot {slot} died: {text}; it starts again in {pause:g} s")
        if job is not None:
            self._count_failure(now)
            self._fail(job, FailureKind.CRASH, text)

    def _learn_unsupported(self, job: Job, text: str) -> None:
        if job.issue not in self._unsupported:
            if len(self._unsupported) >= MAX_UNSUPPORTED:
                self._unsupported.clear()
            # Of this run and term only: what it lacks may be one file that other runs do not need,
            # and whoever puts that right resumes the run.
            self._unsupported[job.issue] = text
            self._note(f"{text}; the chunks of run {job.chunk.run} are refused from now on")

    def _on_tick(self, now: float) -> None:
        self._ended = {run: end for run, end in self._ended.items() if end.until > now}
        for slot, job in self._roster.kill_overdue(now, self.time_limit):
            self._do(e.KillSlot(slot))
            self._count_failure(now)
            self._fail(job, FailureKind.TIMEOUT, f"took more than {self.time_limit:g} s")
        late = [job for job in self._waiting if now - job.since > self._appetite.patience]
        if late and not self._roster.idle:
            self._note(f"{len(late)} chunks waited too long and go back to the broker")
            self._appetite.overfed()
            self._consume(now)  # first, or the broker would send them here again
            self._give_back(late)

    def _start_chunks(self, now: float) -> None:
        if not self._waiting or now < self._rest_until:
            return
        for slot in self._roster.idle[: len(self._waiting)]:
            job = next_job(self._waiting, now)
            self._waiting.remove(job)
            self._roster.begin(slot, job, now)
            self._do(e.StartChunk(slot, job.chunk, job.body))

    def _count_failure(self, now: float) -> None:
        """Rest after failures in a row, so that one broken host cannot fail a run."""
        self._failures += 1
        excess = self._failures - FREE_FAILURES
        if excess > 0:
            pause = min(2.0 ** (excess - 1), LONGEST_PAUSE)
            self._rest_until = now + pause
            self._note(f"{self._failures} failures in a row; no new chunk for {pause:g} s")

    # answers

    def _fail(self, job: Job, kind: FailureKind, text: str) -> None:
        message = failure(job.chunk, self.worker, kind, text)
        self._answer(job, message.type, encode(message))

    def _answer(self, job: Job, type_name: str, body: bytes) -> None:
        if self._has_ended(job.chunk):
            self._settle(job)
        else:
            job.answer = (type_name, body)
            self._unsent.append(job)

    def _publish_due(self, now: float) -> None:
        if not self._unsent or not self._connected:
            return
        due = [job for job in self._unsent if job.retry_at <= now]
        self._unsent = [job for job in self._unsent if job.retry_at > now]
        for job in due:
            if job.answer is not None:
                self._tokens += 1
                self._unconfirmed[self._tokens] = job
                self._do(e.Publish(self._tokens, *job.answer))

    def _on_refused(self, job: Job, now: float) -> None:
        job.refusals += 1
        job.retry_at = now + min(2.0 ** (job.refusals - 2), LONGEST_PAUSE / 2)
        self._unsent.append(job)
        if job.refusals == 1:
            self._note("the broker refused a result; it is published again until it is taken")

    def _settle(self, job: Job) -> None:
        for receipt in job.receipts:
            self._do(e.Ack(receipt))
        self._drop(job)

    def _give_back(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            for receipt in job.receipts:
                self._do(e.Return(receipt))
            self._drop(job)

    def _drop(self, job: Job) -> None:
        del self._jobs[job.key]
        for queue in (self._waiting, self._unsent):
            if job in queue:
                queue.remove(job)

    # the agent as a whole

    def _consume(self, now: float) -> None:
        """Consume as much as the slots can take, and nothing while none could start."""
        idle, wanted = len(self._roster.idle), None
        running = idle + self._roster.busy > 0
        if self._connected and running and not self.draining and now >= self._rest_until:
            wanted = self._appetite.prefetch(idle, len(self._waiting))
        if wanted == self._consuming:
            return
        self._consuming = wanted
        if wanted is not None:
            self._do(e.Consume(wanted))
        elif self._connected:
            self._do(e.StopConsuming())

    def _stop(self) -> None:
        self.draining = True
        for slot in self._roster.alive:
            self._do(e.KillSlot(slot))
        self._give_back(list(self._jobs.values()))
        self._exit()

    def _exit(self) -> None:
        self._exited = True
        self._do(e.Exit())

    def _note(self, text: str) -> None:
        self._do(e.Note(text))

    def _do(self, action: e.Action) -> None:
        self._actions.append(action)
