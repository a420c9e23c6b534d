"""What the agent decides: which chunk starts where, what is published, acknowledged, given back.

A state machine without clock, sockets or processes: events and the time in, actions out. The rule
that everything else serves: a chunk is acknowledged only after its answer was confirmed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from consumer import events as e
from consumer.answers import Worker, failure
from consumer.appetite import Appetite
from protocol.definition import Lane
from protocol.messages import Chunk, FailureKind, encode

AGED = 10.0
"""Seconds after which a waiting chunk starts next, whatever its lane."""
REMEMBERED = 60.0
"""Seconds for which an ended run is remembered; a reopened one must not be skipped for ever."""
TIME_LIMIT = 1500.0
"""Seconds a chunk may run: with the longest wait, less than the broker's consumer time-out."""
LONGEST_PAUSE = 60.0
FREE_FAILURES = 2
"""Failures in a row before the agent takes a rest, which doubles with each further one."""
MAX_UNSUPPORTED = 1000

_ORDER = {lane: place for place, lane in enumerate(Lane)}
_CHARGED = {FailureKind.MODEL_ERROR, FailureKind.NOT_FINITE}


@dataclass(slots=True, eq=False)
class _Job:
    """A chunk and its way through the agent; equal chunks share one job."""

    chunk: Chunk
    body: bytes
    lane: Lane
    since: float
    receipts: list[e.Receipt]
    answer: tuple[str, bytes] | None = None
    refusals: int = 0
    retry_at: float = 0.0

    @property
    def key(self) -> tuple[object, ...]:
        c = self.chunk
        return (c.run, c.definition, c.attempt, c.cell, c.first_block, c.blocks)


class _State(Enum):
    DOWN = auto()
    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    KILLED = auto()


@dataclass(slots=True, eq=False)
class _Slot:
    number: int
    state: _State = _State.DOWN
    job: _Job | None = None
    since: float = 0.0
    crashes: int = 0
    start_at: float = 0.0


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
    """

    worker: Worker
    slots: int
    time_limit: float = TIME_LIMIT
    draining: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._slots = [_Slot(number) for number in range(self.slots)]
        self._appetite = Appetite(self.slots)
        self._jobs: dict[tuple[object, ...], _Job] = {}
        self._waiting: list[_Job] = []
        self._unsent: list[_Job] = []
        self._unconfirmed: dict[int, _Job] = {}
        self._ended: dict[str, float] = {}
        self._unsupported: set[tuple[str, int]] = set()
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
        return sum(slot.state is _State.BUSY for slot in self._slots)

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
        self._retry(now)
        self._start_slots(now)
        self._start_chunks(now)
        self._consume(now)
        if self.draining and not (self._jobs and self._connected):
            self._exit()
        return self._actions

    def _take(self, event: e.Event, now: float) -> None:
        match event:
            case e.Delivered():
                self._on_delivered(event, now)
            case e.SlotDone():
                self._on_done(event, now)
            case e.Confirmed(token) if job := self._unconfirmed.pop(token, None):
                self._forget(job)
            case e.Refused(token) if job := self._unconfirmed.pop(token, None):
                self._on_refused(job, now)
            case e.SlotReady(number):
                self._slots[number].state = _State.IDLE
            case e.SlotCrashed(number, text):
                self._on_crashed(self._slots[number], text, now)
            case e.RunEnded(run):
                self._on_run_ended(run, now)
            case e.Tick():
                self._on_tick(now)
            case e.Connected():
                self._connected = True
            case e.Disconnected():
                self._on_disconnected()
            case e.Drain():
                self.draining = True
                self._give_back(list(self._waiting))
            case e.Stop():
                self._stop()

    # deliveries

    def _on_delivered(self, event: e.Delivered, now: float) -> None:
        job = _Job(event.chunk, event.body, event.lane, now, [event.receipt])
        if event.chunk.run in self._ended:
            self._ack(job)
        elif known := self._jobs.get(job.key):
            # The same chunk twice, or again after a lost connection: one answer settles both.
            known.receipts.append(event.receipt)
        elif self.draining:
            self._do(e.Return(event.receipt))
        else:
            self._jobs[job.key] = job
            self._triage(job)

    def _triage(self, job: _Job) -> None:
        chunk, model = job.chunk, (job.chunk.model, job.chunk.model_version)
        if chunk.not_by == self.worker.consumer:
            self._fail(job, FailureKind.DECLINED, "this consumer must not compute this chunk")
        elif model in self._unsupported:
            text = f"model '{model[0]}' version {model[1]} is not installed here"
            self._fail(job, FailureKind.UNSUPPORTED_MODEL, text)
        else:
            self._waiting.append(job)

    def _on_run_ended(self, run: str, now: float) -> None:
        self._ended[run] = now + REMEMBERED
        for job in [j for j in (*self._waiting, *self._unsent) if j.chunk.run == run]:
            self._forget(job)

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
        slot = self._slots[event.slot]
        job = slot.job
        if slot.state is not _State.BUSY or job is None:
            return  # its time limit passed just before, and it is being killed
        slot.state, slot.job, slot.crashes = _State.IDLE, None, 0
        self._appetite.measured(now - slot.since)
        model = (job.chunk.model, job.chunk.model_version)
        if event.kind is FailureKind.UNSUPPORTED_MODEL and model not in self._unsupported:
            if len(self._unsupported) >= MAX_UNSUPPORTED:
                self._unsupported.clear()
            self._unsupported.add(model)
            self._note(f"model '{model[0]}' version {model[1]} is not installed here")
        elif event.kind in _CHARGED:
            self._count_failure(now)
        elif event.kind is None:
            self._failures = 0
        self._answer(job, event.type, event.body)

    def _on_crashed(self, slot: _Slot, text: str, now: float) -> None:
        job, killed = slot.job, slot.state is _State.KILLED
        slot.state, slot.job = _State.DOWN, None
        if killed:
            return
        slot.crashes += 1
        pause = min(2.0 ** (slot.crashes - 2), LONGEST_PAUSE) if slot.crashes > 1 else 0.0
        slot.start_at = now + pause
        self._note(f"slot {slot.number} died: {text}; it starts again in {pause:g} s")
        if job is not None:
            self._count_failure(now)
            self._fail(job, FailureKind.CRASH, text)

    def _on_tick(self, now: float) -> None:
        self._ended = {run: until for run, until in self._ended.items() if until > now}
        for slot in self._slots:
            if slot.job and slot.state is _State.BUSY and now - slot.since > self.time_limit:
                job, slot.job, slot.state = slot.job, None, _State.KILLED
                self._do(e.KillSlot(slot.number))
                self._count_failure(now)
                self._fail(job, FailureKind.TIMEOUT, f"took more than {self.time_limit:g} s")
        late = [job for job in self._waiting if now - job.since > self._appetite.patience]
        if late:
            self._note(f"{len(late)} chunks waited too long and go back to the broker")
            self._appetite.overfed()
            self._consume(now)  # first, or the broker would send them here again
            self._give_back(late)

    def _start_slots(self, now: float) -> None:
        for slot in self._slots:
            if slot.state is _State.DOWN and slot.start_at <= now and not self.draining:
                slot.state = _State.STARTING
                self._do(e.StartSlot(slot.number))

    def _start_chunks(self, now: float) -> None:
        if not self._waiting or now < self._rest_until:
            return
        for slot in self._slots:
            if slot.state is _State.IDLE and self._waiting:
                job = _next(self._waiting, now)
                self._waiting.remove(job)
                slot.state, slot.job, slot.since = _State.BUSY, job, now
                self._do(e.StartChunk(slot.number, job.chunk, job.body))

    def _count_failure(self, now: float) -> None:
        """Rest after failures in a row, so that one broken host cannot fail a run."""
        self._failures += 1
        excess = self._failures - FREE_FAILURES
        if excess > 0:
            pause = min(2.0 ** (excess - 1), LONGEST_PAUSE)
            self._rest_until = now + pause
            self._note(f"{self._failures} failures in a row; no new chunk for {pause:g} s")

    # answers

    def _fail(self, job: _Job, kind: FailureKind, text: str) -> None:
        message = failure(job.chunk, self.worker, kind, text)
        self._answer(job, message.type, encode(message))

    def _answer(self, job: _Job, type_name: str, body: bytes) -> None:
        if job.chunk.run in self._ended:
            self._forget(job)
            return
        job.answer = (type_name, body)
        self._unsent.append(job)

    def _retry(self, now: float) -> None:
        if not self._unsent or not self._connected:
            return
        due = [job for job in self._unsent if job.retry_at <= now]
        self._unsent = [job for job in self._unsent if job.retry_at > now]
        for job in due:
            if job.answer is not None:
                self._tokens += 1
                self._unconfirmed[self._tokens] = job
                self._do(e.Publish(self._tokens, *job.answer))

    def _on_refused(self, job: _Job, now: float) -> None:
        job.refusals += 1
        job.retry_at = now + min(2.0 ** (job.refusals - 2), LONGEST_PAUSE / 2)
        self._unsent.append(job)
        if job.refusals == 1:
            self._note("the broker refused a result; it is published again until it is taken")

    def _forget(self, job: _Job) -> None:
        self._ack(job)
        self._drop(job)

    def _ack(self, job: _Job) -> None:
        for receipt in job.receipts:
            self._do(e.Ack(receipt))

    def _drop(self, job: _Job) -> None:
        del self._jobs[job.key]
        for queue in (self._waiting, self._unsent):
            if job in queue:
                queue.remove(job)

    def _give_back(self, jobs: Iterable[_Job]) -> None:
        for job in jobs:
            for receipt in job.receipts:
                self._do(e.Return(receipt))
            self._drop(job)

    # the agent as a whole

    def _consume(self, now: float) -> None:
        """Consume as much as the slots can take, and not at all where nothing could start."""
        ready = any(slot.state in {_State.IDLE, _State.BUSY} for slot in self._slots)
        wanted = None
        if self._connected and ready and not self.draining and now >= self._rest_until:
            idle = sum(slot.state is _State.IDLE for slot in self._slots)
            wanted = self._appetite.prefetch(idle, len(self._waiting))
        if wanted != self._consuming:
            if wanted is not None:
                self._do(e.Consume(wanted))
            elif self._connected:
                self._do(e.StopConsuming())
            self._consuming = wanted

    def _stop(self) -> None:
        self.draining = True
        for slot in self._slots:
            if slot.state is not _State.DOWN:
                self._do(e.KillSlot(slot.number))
        self._give_back(list(self._jobs.values()))
        self._exit()

    def _exit(self) -> None:
        if not self._exited:
            self._exited = True
            self._do(e.Exit())

    def _note(self, text: str) -> None:
        self._do(e.Note(text))

    def _do(self, action: e.Action) -> None:
        self._actions.append(action)


def _next(waiting: list[_Job], now: float) -> _Job:
    """Return the oldest chunk that has aged, else the first of the most urgent lane."""
    oldest = min(waiting, key=lambda job: job.since)
    if now - oldest.since > AGED:
        return oldest
    return min(waiting, key=lambda job: _ORDER[job.lane])
