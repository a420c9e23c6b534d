"""What the agent decides: which chunk starts where, what is published, acknowledged, given back.

A state machine without clock, sockets or processes: events and the time in, actions out. The rule
that everything else serves: a chunk is acknowledged only after its answer was confirmed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from consumer import events as e
from consumer.answers import Worker, failure
from consumer.appetite import Appetite
from consumer.endings import Endings
from consumer.job import Job, Waiting
from consumer.limits import Limits
from consumer.pace import Pace
from consumer.rest import Rests
from consumer.roster import Roster
from consumer.tally import Tally
from protocol.messages import FailureKind, Suspension, encode
from protocol.sentences import counted
from protocol.settings import LONGEST_RETRY_SECONDS

MAX_HELD = 4
"""Chunks of resting runs that are kept, per slot, before nothing more is consumed."""
MAX_UNSUPPORTED = 1000
MIB = 2**20


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
    limits
        What its slots may take.
    draining
        Whether it takes no new chunks any more.
    reasons
        Why it is suspended, failures apart.
    tally
        What it has answered.
    """

    worker: Worker
    slots: int
    limits: Limits = field(default_factory=Limits)
    draining: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._roster = Roster(self.slots, self.limits.chunks_per_slot)
        self._appetite = Appetite(self.slots)
        self._jobs: dict[tuple[object, ...], Job] = {}
        self._waiting = Waiting()
        self._held: list[Job] = []  # of runs that rest
        self._pace = Pace()
        self._unsent: list[Job] = []
        self._unconfirmed: dict[int, Job] = {}
        self._endings = Endings()
        self._unsupported: dict[tuple[str, bytes, int], str] = {}
        self._connected = False
        self._consuming: int | None = None
        self._more_held = False
        self._exited = self._announced = False
        self._tokens = 0
        self._rests = Rests()
        self.reasons: set[Suspension] = set()
        self._drained_by = float("inf")
        self._actions: list[e.Action] = []
        self.tally = Tally()

    @property
    def busy(self) -> int:
        """How many slots compute."""
        return self._roster.busy

    @property
    def idle(self) -> bool:
        """Whether it has no chunk at all."""
        return not self._jobs

    @property
    def announced(self) -> int:
        """How many slots to tell of: none before the first was ready, then all, dead ones too."""
        return self.slots if self._announced else 0

    @property
    def could_consume(self) -> bool:
        """Whether nothing but a reason to be suspended keeps it from consuming."""
        return self._connected and self._announced and bool(self.reasons) and not self.draining

    def suspension(self, now: float) -> Suspension | None:
        """Return why no chunk starts, None where nothing keeps it from starting."""
        rests = self._rests.agent_rests(now) or self._roster.pauses(now)
        holding = self.reasons | ({Suspension.FAILURES} if rests else set())
        return next((reason for reason in Suspension if reason in holding), None)

    def handle(self, event: e.Event, now: float) -> list[e.Action]:
        """Return what to do about an event; see `handle_all`."""
        return self.handle_all((event,), now)

    def handle_all(self, events: Iterable[e.Event], now: float) -> list[e.Action]:
        """Return what to do about events that happened at about the same time, in this order.

        Parameters
        ----------
        events
            What happened, in this order.
        now
            Seconds on any clock that never goes back.
        """
        self._actions = []
        for event in events:
            if not self._exited:
                self._take(event, now)
        if not self._exited:
            self._go_on(now)
        return self._actions

    def _go_on(self, now: float) -> None:
        self._publish_due(now)
        if not self.draining:
            for slot in self._roster.start_due(now):
                self._do(e.StartSlot(slot))
        for slot in self._roster.kill_worn():
            self._do(e.KillSlot(slot))
        self._hold(now)
        self._start_chunks(now)
        self._consume(now)
        if self.draining and not (self._jobs and self._connected):
            self._exit()

    def _take(self, event: e.Event, now: float) -> None:
        match event:
            case e.SlotReady() | e.SlotDone() | e.SlotCrashed() | e.SlotTooLarge():
                self._take_from_slot(event, now)
            case e.RunEnded():
                self._on_run_ended(event, now)
            case e.Tick():
                self._on_tick(now)
            case e.Suspend(reason, _, give_back):
                self._suspend(reason, now, give_back=give_back)
            case e.Resume(reason):
                self.reasons.discard(reason)
            case e.Drain():
                self._drain(now)
            case e.Stop():
                self._stop()
            case _:
                self._take_from_broker(event, now)

    def _take_from_slot(
        self, event: e.SlotReady | e.SlotDone | e.SlotCrashed | e.SlotTooLarge, now: float
    ) -> None:
        match event:
            case e.SlotReady(slot):
                self._announced = True
                self._roster.ready(slot)
            case e.SlotDone():
                self._on_done(event, now)
            case e.SlotCrashed(slot, text):
                self._on_crashed(slot, text, now)
            case e.SlotTooLarge(slot, size):
                self._on_too_large(slot, size, now)

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
        if self._endings.include(event.chunk):
            self._do(e.Ack(event.receipt))
        elif known := self._jobs.get(job.key):
            # The same chunk twice, or again after a lost connection: one answer settles both.
            known.receipts.append(event.receipt)
        elif not self._takes_work:
            self._do(e.Return(event.receipt))
        else:
            self._jobs[job.key] = job
            self._triage(job)

    def _triage(self, job: Job) -> None:
        if self.worker.host in (job.chunk.not_by or ()):
            self._fail(job, FailureKind.DECLINED, "this host must not compute this chunk")
        elif job.issue in self._unsupported:
            self._fail(job, FailureKind.UNSUPPORTED_MODEL, self._unsupported[job.issue])
        else:
            self._waiting.add(job)

    def _on_run_ended(self, event: e.RunEnded, now: float) -> None:
        self._endings.heard(event.run, event.definition, event.term, now)
        self._rests.ended((event.run, event.definition))
        for job in [
            j
            for j in (*self._waiting, *self._held, *self._unsent)
            if self._endings.include(j.chunk)
        ]:
            self._settle(job)

    def _on_disconnected(self) -> None:
        self._connected, self._consuming = False, None
        for job in self._jobs.values():
            job.receipts.clear()
        for job in (*self._waiting, *self._held):
            del self._jobs[job.key]
        self._waiting, self._held = Waiting(), []
        # Whether the broker has them is unknown; the ledger counts a partial once in any case.
        self._unsent.extend(self._unconfirmed.values())
        self._unconfirmed.clear()

    # slots

    def _on_done(self, event: e.SlotDone, now: float) -> None:
        finished = self._roster.finish(event.slot, now)
        if finished is None:
            return
        job, seconds = finished
        if event.seconds is not None:
            seconds = event.seconds
        self._appetite.measured(seconds)
        self._pace.measured(job.chunk, seconds)
        if event.kind is FailureKind.UNSUPPORTED_MODEL:
            self._learn_unsupported(job, event.text)
        elif event.kind in _CHARGED:
            self._count_failure(job, now)
        elif event.kind is None:
            self._rests.succeeded(job.chunk)
        self.tally.answered(job.chunk, event.kind, seconds, event.cpu_seconds)
        self._answer(job, event.type, event.body)

    def _on_crashed(self, slot: int, text: str, now: float) -> None:
        buried = self._roster.bury(slot, now)
        if buried is None:
            return
        jobs, pause = buried
        self._note(f"slot {slot} died: {text}; it starts again in {pause:g} s")
        self._blame(jobs, FailureKind.CRASH, text, now)

    def _on_too_large(self, slot: int, size: int, now: float) -> None:
        jobs = self._roster.kill(slot)
        if jobs is None:
            return
        limit = self.limits.slot_memory or 0
        text = f"used {size / MIB:,.0f} MiB of memory, more than the {limit / MIB:,.0f} MiB it may"
        self._note(f"slot {slot} {text}; it starts again")
        self._do(e.KillSlot(slot))
        if jobs:
            self._blame(jobs, FailureKind.CRASH, text, now)

    def _blame(self, jobs: list[Job], kind: FailureKind, text: str, now: float) -> None:
        """Fail the chunk that ended its slot; where it may be any of several, try each alone."""
        if len(jobs) == 1:
            self._count_failure(jobs[0], now)
            self._fail(jobs[0], kind, text)
            return
        for job in jobs:
            job.alone = True
            if self._takes_work:
                self._waiting.add(job)
            else:
                self._give_back([job])

    def _learn_unsupported(self, job: Job, text: str) -> None:
        if job.issue not in self._unsupported:
            if len(self._unsupported) >= MAX_UNSUPPORTED:
                self._unsupported.clear()
            # Of this run and term only: what it lacks may be one file that other runs do not need,
            # and whoever puts that right resumes the run.
            self._unsupported[job.issue] = text
            self._note(f"{text}; the chunks of run {job.chunk.run} are refused from now on")

    def _on_tick(self, now: float) -> None:
        if now >= self._drained_by:
            running = counted(self._roster.busy, "slot")
            self._note(f"{running} still at work after {self.limits.drain_seconds:g} s of draining")
            self._stop()
            return
        self._rests.pass_time(now)
        self._endings.pass_time(now)
        limit = self.limits.chunk_seconds
        for slot, jobs in self._roster.kill_overdue(now, limit):
            self._do(e.KillSlot(slot))
            self._blame(jobs, FailureKind.TIMEOUT, f"took more than {limit:g} s", now)
        late = [job for job in self._waiting if now - job.since > self._appetite.patience]
        if late and not self._roster.idle:
            self._note(f"{counted(len(late), 'chunk')} waited too long: back to the broker")
            self._appetite.overfed()
            self._consume(now)  # first, or the broker would send them here again
            self._give_back(late)

    def _start_chunks(self, now: float) -> None:
        if self._rests.agent_rests(now):
            return
        while (job := self._waiting.first(now)) and (stock := self._roster.emptiest()):
            if stock.last is not None and not self._pace.fits(job, stock, stock.last):
                return
            self._waiting.discard(job)
            self._roster.begin(stock.slot, job, now)
            self._do(e.StartChunk(stock.slot, job.chunk, job.body))

    def _hold(self, now: float) -> None:
        """Keep the chunks of runs that rest apart from those that may start.

        They stay here for the few seconds: given back they would come again at once, and a work
        queue drops what it has delivered too often.
        """
        rested = [job for job in self._held if not self._rests.run_rests(job.chunk, now)]
        for job in rested:
            job.since = now
            self._held.remove(job)
            self._waiting.add(job)
        if not self._rests.any_run_rests(now):
            return
        for job in [job for job in self._waiting if self._rests.run_rests(job.chunk, now)]:
            self._waiting.discard(job)
            self._held.append(job)
            self._more_held = True

    def _count_failure(self, job: Job, now: float) -> None:
        """Rest after failures in a row, so that one broken host cannot fail a run."""
        if text := self._rests.failed(job.chunk, now):
            self._note(text)

    # answers

    def _fail(self, job: Job, kind: FailureKind, text: str) -> None:
        message = failure(job.chunk, self.worker, kind, text)
        self.tally.answered(job.chunk, kind)
        self._answer(job, message.type, encode(message))

    def _answer(self, job: Job, type_name: str, body: bytes) -> None:
        if self._endings.include(job.chunk):
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
        job.retry_at = now + min(2.0 ** (job.refusals - 2), LONGEST_RETRY_SECONDS)
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
        self._waiting.discard(job)
        for jobs in (self._held, self._unsent):
            if job in jobs:
                jobs.remove(job)

    # the agent as a whole

    def _consume(self, now: float) -> None:
        """Consume as much as the slots can take, and nothing while none could start."""
        idle, wanted = len(self._roster.idle), None
        more_held, self._more_held = self._more_held, False
        running = idle + self._roster.busy > 0
        room = len(self._held) < MAX_HELD * self.slots and not self._rests.agent_rests(now)
        if self._connected and running and self._takes_work and room:
            wanted = self._appetite.prefetch(idle, len(self._waiting))
        # A count covers only what its own consumer was sent: consuming anew makes up for the
        # chunks that are held, or they would keep those of other runs away.
        if wanted == self._consuming and not (wanted and more_held):
            return
        self._consuming = wanted
        if wanted is not None:
            self._do(e.Consume(wanted))
        elif self._connected:
            self._do(e.StopConsuming())

    @property
    def _takes_work(self) -> bool:
        return not (self.draining or self.reasons)

    def _suspend(self, reason: Suspension, now: float, *, give_back: bool) -> None:
        self.reasons.add(reason)
        self._consume(now)  # first, or the broker would send here again what is given back
        self._give_back([*self._waiting, *self._held])
        for slot, jobs in self._roster.kill_busy() if give_back else ():
            self._do(e.KillSlot(slot))
            self._give_back(jobs)

    def _drain(self, now: float) -> None:
        if not self.draining:
            self.draining = True
            self._drained_by = now + self.limits.drain_seconds
        self._give_back([*self._waiting, *self._held])

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
