"""Audits: who computes a chunk again, who is found wrong, what is forgotten, when a run ends."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aggregator.auditor import DISPUTE_SECONDS, HEARD_SECONDS, PATIENCE_SECONDS
from aggregator.audits import MAX_SETBACKS, AuditOutcome
from aggregator.books import Outcome
from aggregator.cells import Ending
from aggregator.hosts import Hosts
from aggregator.ledger import Ledger
from aggregator.news import REFUSE_SECONDS
from aggregator.result import digest
from aggregator.rpc import Responder
from aggregator.standings import NEW_UNTIL, PROBATION, Standing, Standings
from aggregator.store.sqlite import Store
from aggregator.watch import Watch
from protocol.definition import Definition
from protocol.messages import (
    TOLD_AUDITS,
    FailureKind,
    Finished,
    HostRefused,
    Partial,
    Progress,
    RunState,
    WantedAudit,
)
from protocol.result_texts import footnotes
from protocol.results import EndedBy
from protocol.rpc_messages import Declare, Results, ResultsRequest, ResumeRequest
from protocol.statistics import collect
from tests.support.run_values import (
    BLOCK_SIZE,
    RUN,
    block,
    declare,
    definition,
    failure,
    partial,
    statistics,
    telemetry,
)

NOW = 1_000.0
LATER = NOW + HEARD_SECONDS
BITS = {"statistics": statistics(1, 0, 32)}
"""What a host sends for the first blocks of cell 0 that is wrong."""


class Bench:
    """A ledger that audits every chunk, over a store, and hosts that answer."""

    def __init__(self, of: Definition, hosts: str = "abc", share: float = 1.0) -> None:
        self.of = of
        self.store = Store(Path(":memory:"))
        self.share = share
        self.ledger = self.begin()
        self.hear(hosts)
        self.ledger.declare(declare(of), NOW)

    def begin(self) -> Ledger:
        """Return a ledger as an aggregator that starts has it."""
        store = self.store
        epoch = store.take_over()
        standings = Standings(store.standings(), self.share, Random(7))  # noqa: S311 - chooses what is audited
        self.ledger = Ledger(
            epoch, store.active_runs(), store.ended_runs(), store.names(), standings
        )
        return self.ledger

    def hear(self, hosts: str, now: float = NOW, **fields: Any) -> None:
        """Have hosts tell that they are there."""
        for host in hosts:
            self.ledger.heartbeat(telemetry(f"{host}.1", **fields), now)

    def take(self, host: str, start: int, stop: int, now: float = NOW, **fields: Any) -> Outcome:
        """Have a host answer with a partial."""
        who = {"host": host, "consumer": f"{host}.1"}
        return self.ledger.partial(partial(self.of, start, stop, **who, **fields), now)

    def fail(
        self, host: str, start: int, stop: int, kind: FailureKind, attempt: int = 77
    ) -> Outcome:
        """Have a host answer with a failure."""
        who = {"host": host, "consumer": f"{host}.1", "kind": kind, "attempt": attempt}
        return self.ledger.failure(failure(self.of, start, stop, **who), NOW)

    def commit(self) -> None:
        """Write what has changed."""
        self.store.commit(self.ledger.take_changes(), self.ledger.epoch)

    def wanted(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """Return what is to be computed again: first block, and by whom not."""
        audits: tuple[WantedAudit, ...] = self.ledger.missing(RUN).audits or ()
        return tuple((audit.first_block, audit.not_by) for audit in audits)

    @property
    def state(self) -> RunState:
        """The run's."""
        return RunState(self.ledger.status(RUN, NOW).state)


@pytest.fixture
def of() -> Definition:
    return definition(blocks=48)


@pytest.fixture
def bench(of: Definition) -> Iterator[Bench]:
    bench = Bench(of)
    yield bench
    bench.store.close()


def honest_digest(of: Definition) -> str:
    return digest(of.hash, [statistics(0, 0, of.blocks)])


# What is audited


def test_a_run_ends_once_another_host_has_sent_the_same_bits(bench: Bench) -> None:
    assert bench.take("a", 0, 32) is Outcome.MERGED
    assert bench.take("b", 32, 48) is Outcome.MERGED
    assert bench.state is RunState.RUNNING
    assert bench.ledger.missing(RUN).cells == ()
    assert bench.wanted() == ((0, ("a",)), (32, ("b",)))
    assert bench.take("c", 0, 32) is Outcome.AUDITED
    assert bench.wanted() == ((32, ("b",)),)
    assert bench.take("a", 32, 48) is Outcome.AUDITED
    assert bench.state is RunState.FINISHED
    result = bench.ledger.changes.results[RUN]
    assert result.digest == honest_digest(bench.of)
    assert (result.audits.passed, result.audits.skipped) == (2, 0)
    assert bench.ledger.take_changes().audited == {AuditOutcome.PASSED: 2}


def test_what_the_same_host_sends_again_audits_nothing(bench: Bench) -> None:
    bench.take("a", 0, 32)
    assert bench.take("a", 0, 32, **BITS) is Outcome.DUPLICATE
    assert bench.wanted() == ((0, ("a",)),)


def test_an_audit_costs_and_the_run_says_so(bench: Bench) -> None:
    bench.take("a", 0, 32)
    bench.take("b", 0, 32)
    assert bench.ledger.active[RUN].cpu_seconds == 1.0


def test_progress_tells_what_is_wanted_with_every_word(bench: Bench) -> None:
    bench.take("a", 0, 32)
    for _ in range(2):
        [progress] = [e for e in bench.ledger.take_events(NOW) if isinstance(e, Progress)]
        assert progress.audits == (WantedAudit(cell=0, first_block=0, blocks=32, not_by=("a",)),)
        bench.ledger.fleet_changed("default", NOW)
    bench.take("b", 0, 32)
    [progress] = [e for e in bench.ledger.take_events(NOW) if isinstance(e, Progress)]
    assert progress.audits is None


def test_blocks_beyond_the_end_of_a_cell_are_not_audited(bench: Bench) -> None:
    of = definition(blocks=72, stop={"standard_error": 1.0, "outputs": ("x",)})
    bench.of = of
    bench.ledger.cancel(RUN, NOW)
    bench.ledger.declare(declare(of, "other"), NOW)
    assert bench.take("a", 48, 72, run="other") is Outcome.MERGED
    assert bench.take("a", 0, 32, run="other") is Outcome.MERGED
    books = bench.ledger.active["other"]
    assert [key[1] for key in books.audits.pending] == [0]
    assert bench.take("a", 32, 48, run="other") is Outcome.OVERSHOOT
    assert bench.take("b", 0, 32, run="other") is Outcome.AUDITED
    assert bench.ledger.status("other", NOW).state is RunState.FINISHED


# Who was wrong


def test_of_two_that_differ_a_third_decides_and_the_wrong_one_is_refused(bench: Bench) -> None:
    bench.take("a", 0, 32, **BITS)
    bench.take("b", 32, 48)
    assert bench.take("b", 0, 32) is Outcome.AUDITED
    assert bench.wanted() == ((0, ("a", "b")), (32, ("b",)))
    assert not bench.ledger.standings.refused
    assert bench.take("c", 0, 32) is Outcome.AUDITED
    assert bench.ledger.standings.refused == {"a"}
    assert bench.ledger.changes.audited == {AuditOutcome.WRONG: 1}
    # What it contributed to is needed again; the rest stays.
    [cell] = bench.ledger.missing(RUN).cells
    assert cell.missing == ((0, 32),)
    assert bench.wanted() == ((32, ("b",)),)
    assert bench.take("a", 0, 32, **BITS) is Outcome.REFUSED
    bench.take("b", 0, 32)
    bench.take("c", 0, 32)
    bench.take("c", 32, 48)
    assert bench.state is RunState.FINISHED
    assert bench.ledger.changes.results[RUN].digest == honest_digest(bench.of)


def test_whoever_audits_may_be_the_one_who_is_wrong(bench: Bench) -> None:
    bench.take("b", 0, 32)
    bench.take("a", 0, 32, **BITS)
    bench.take("c", 0, 32)
    assert bench.ledger.standings.refused == {"a"}
    assert bench.ledger.active[RUN].merged_blocks == 32
    assert bench.ledger.active[RUN].audits.passed == 1


def test_where_all_three_differ_a_fourth_decides(bench: Bench) -> None:
    bench.hear("d")
    bench.take("a", 0, 32, **BITS)
    bench.take("b", 0, 32, statistics=statistics(2, 0, 32))
    bench.take("c", 0, 32)
    assert bench.wanted() == ((0, ("a", "b", "c")),)
    bench.take("d", 0, 32)
    assert bench.ledger.standings.refused == {"a", "b"}


def test_every_run_and_every_audit_forgets_a_wrong_host(bench: Bench) -> None:
    bench.ledger.declare(declare(bench.of, "other"), NOW)
    bench.take("a", 0, 8, run="other")
    bench.take("b", 8, 32, run="other")
    bench.take("b", 32, 40, run="other")
    bench.take("a", 32, 40, run="other", statistics=statistics(1, 32, 40))
    bench.take("b", 0, 32)
    bench.take("a", 0, 32, **BITS)
    bench.take("c", 0, 32)
    other = bench.ledger.active["other"]
    assert list(other.cells[0].merged) == [(32, 40)]
    assert [audit.answers.keys() for audit in other.audits.pending.values()] == [{"b"}]


def test_a_cell_that_ended_goes_on_when_what_ended_it_was_wrong(bench: Bench) -> None:
    bench.of = of = definition(blocks=72, stop={"standard_error": 0.005, "outputs": ("x",)})
    bench.ledger.declare(declare(of, "other"), NOW)
    bench.take("b", 48, 60, run="other")
    calm = (replace(block(0, n), squares=[block(0, n).squares[0] / 2]) for n in range(32))
    bench.take("a", 0, 32, run="other", statistics=collect(calm, BLOCK_SIZE))
    [cell] = bench.ledger.active["other"].cells
    assert cell.ending == Ending(EndedBy.ERROR, 32)
    bench.take("b", 0, 32, run="other")
    bench.take("c", 0, 32, run="other")
    assert bench.ledger.standings.refused == {"a"}
    assert cell.ending is None
    # The sums of what came beyond were not kept, so that it is missing too.
    assert bench.ledger.missing("other").cells[0].missing == ((0, 72),)
    bench.take("b", 0, 32, run="other")
    assert cell.ending is None
    bench.take("b", 32, 48, run="other")
    assert cell.ending == Ending(EndedBy.ERROR, 48)


def test_whoever_listens_asks_what_is_missing_when_segments_were_emptied(bench: Bench) -> None:
    bench.take("a", 0, 32, **BITS)
    bench.take("b", 0, 32)
    before = [e for e in bench.ledger.take_events(NOW) if isinstance(e, Progress)][-1]
    bench.take("c", 0, 32)
    events = bench.ledger.take_events(NOW)
    [after] = [event for event in events if isinstance(event, Progress)]
    assert after.sequence == before.sequence + 2  # a gap
    assert HostRefused(host="a") in events


def test_a_refused_host_hears_so_whatever_it_sends_and_its_slots_count_no_more(
    bench: Bench,
) -> None:
    for host, bits in (("a", BITS), ("b", {}), ("c", {})):
        bench.take(host, 0, 32, **bits)
    assert bench.ledger.fleet.slots("default") == 4
    bench.ledger.take_events(NOW)
    bench.hear("a", NOW + REFUSE_SECONDS)
    assert bench.ledger.take_events(NOW) == [HostRefused(host="a")]
    assert bench.fail("a", 0, 32, FailureKind.CRASH) is Outcome.REFUSED
    assert not bench.ledger.active[RUN].failures
    [progress] = bench.ledger.take_events(NOW)
    assert isinstance(progress, Progress)
    assert progress.failed_attempts == (77,)  # others compute what it was given
    assert bench.ledger.fleet.hosts("default") == {"b", "c"}
    bench.take("a", 0, 32, NOW + 3 * REFUSE_SECONDS)
    assert HostRefused(host="a") in bench.ledger.take_events(NOW)


def test_answers_on_another_engine_are_not_compared(bench: Bench) -> None:
    bench.take("a", 0, 32)
    assert bench.take("b", 0, 32, engine="numpy-x", **BITS) is Outcome.AUDITED
    assert bench.wanted() == ((0, ("a", "b")),)
    bench.take("c", 0, 32)
    assert bench.ledger.active[RUN].audits.passed == 1
    assert not bench.ledger.standings.refused


# When nobody can tell


def test_the_only_host_finishes_its_runs_and_they_say_that_nothing_was_audited(
    of: Definition,
) -> None:
    bench = Bench(of, hosts="a")
    bench.take("a", 0, 32)
    bench.take("a", 32, 48, NOW + 1)
    assert bench.state is RunState.RUNNING  # others may not have been heard yet
    bench.ledger.tick(LATER)
    assert bench.state is RunState.FINISHED
    audits = bench.ledger.changes.results[RUN].audits
    assert (audits.passed, audits.skipped) == (0, 2)
    assert bench.ledger.changes.audited == {AuditOutcome.SKIPPED: 2}


@pytest.mark.parametrize(
    "fields", [{"slots": 0}, {"pool": "other"}, {"state": "draining"}, {"suspended": "hours"}]
)
def test_nobody_waits_for_who_takes_no_chunks(of: Definition, fields: dict[str, Any]) -> None:
    bench = Bench(of, hosts="a")
    bench.hear("b", **fields)
    bench.take("a", 0, 32, LATER)
    bench.take("a", 32, 48, LATER)
    assert bench.state is RunState.FINISHED


def test_a_host_that_cannot_compute_an_audit_is_not_waited_for(of: Definition) -> None:
    bench = Bench(of, hosts="ab")
    bench.take("a", 0, 48 - 16)
    for _ in range(MAX_SETBACKS - 1):
        assert bench.fail("b", 0, 32, FailureKind.CRASH) is Outcome.RECORDED
    assert bench.wanted() == ((0, ("a",)),)
    bench.fail("b", 0, 32, FailureKind.CRASH)
    assert bench.wanted() == ()
    assert not bench.ledger.active[RUN].failures
    bench.take("b", 32, 48)
    bench.fail("a", 32, 48, FailureKind.UNSUPPORTED_MODEL)
    bench.ledger.tick(LATER)
    assert bench.state is RunState.FINISHED


def test_a_declined_chunk_is_told_at_once_and_held_against_nobody(bench: Bench) -> None:
    bench.take("a", 0, 32)
    bench.ledger.take_events(NOW)
    bench.fail("a", 0, 32, FailureKind.DECLINED)
    bench.fail("a", 32, 48, FailureKind.DECLINED)  # what it audited was emptied meanwhile
    [progress] = bench.ledger.take_events(NOW)
    assert isinstance(progress, Progress)
    assert progress.failed_attempts == (77, 77)
    assert not bench.ledger.active[RUN].failures
    assert bench.wanted() == ((0, ("a",)),)


def test_an_answer_repeats_which_attempts_gave_nothing_as_their_event_may_be_lost(
    bench: Bench,
) -> None:
    bench.take("a", 0, 32)
    bench.fail("a", 0, 32, FailureKind.DECLINED, attempt=9)
    bench.fail("b", 0, 32, FailureKind.CRASH, attempt=5)
    bench.ledger.standings.refuse("c", NOW)
    bench.fail("c", 32, 48, FailureKind.CRASH, attempt=7)
    assert bench.ledger.take_events(NOW)
    for _ in range(2):
        assert bench.ledger.missing(RUN).failed_attempts == (5, 7, 9)
    for _ in range(TOLD_AUDITS):
        bench.fail("a", 0, 32, FailureKind.DECLINED, attempt=9)
    assert bench.ledger.missing(RUN).failed_attempts == (5, 7, 9)
    for attempt in range(100, 101 + TOLD_AUDITS):
        bench.fail("a", 0, 32, FailureKind.DECLINED, attempt=attempt)
    assert bench.ledger.missing(RUN).failed_attempts == tuple(range(101, 101 + TOLD_AUDITS))


def test_a_run_on_which_two_hosts_differ_fails_where_no_third_comes(of: Definition) -> None:
    bench = Bench(of, hosts="ab")
    bench.take("a", 0, 32, **BITS)
    bench.take("b", 0, 32)
    bench.take("b", 32, 48)
    bench.take("a", 32, 48)
    assert bench.state is RunState.RUNNING
    for seconds in range(0, int(HEARD_SECONDS + DISPUTE_SECONDS) + 2, 2):
        bench.hear("ab", NOW + seconds)
        bench.ledger.tick(NOW + seconds)
    assert bench.state is RunState.FAILED
    error = bench.ledger.status(RUN, NOW).error or ""
    assert "cell 0, blocks 0 to 31: hosts a, b sent different numbers" in error
    # Once there is a third, the run can be taken up where it was.
    bench.commit()
    books = bench.store.books(RUN)
    assert books is not None
    bench.ledger.reopen(books, NOW)
    bench.take("c", 0, 32)
    assert bench.ledger.standings.refused == {"a"}


def test_a_run_does_not_wait_for_ever_for_who_never_answers(of: Definition) -> None:
    bench = Bench(of, hosts="ab")
    bench.take("a", 0, 32)
    bench.take("a", 32, 48)
    for seconds in range(0, int(PATIENCE_SECONDS) + 2, 2):
        assert bench.state is RunState.RUNNING
        bench.hear("ab", NOW + seconds)
        bench.ledger.tick(NOW + seconds)
    assert bench.state is RunState.FINISHED


def test_a_run_whose_time_is_over_waits_for_audits_too_and_is_written_meanwhile(
    bench: Bench,
) -> None:
    bench.of = of = definition(stop={"seconds": 10.0})
    bench.ledger.declare(declare(of, "timed"), NOW)
    bench.take("a", 0, 32, run="timed", **BITS)
    bench.take("b", 32, 48, run="timed")
    for seconds in (11, 12):
        bench.hear("abc", NOW + seconds)
        bench.ledger.tick(NOW + seconds)
        bench.commit()
        assert bench.ledger.status("timed", NOW).state is RunState.RUNNING
    bench.take("a", 32, 48, NOW + 13, run="timed")
    bench.take("b", 0, 32, NOW + 13, run="timed")
    bench.take("c", 0, 32, NOW + 13, run="timed")
    # What the wrong one had sent does not count any more, and the time is over.
    bench.ledger.tick(NOW + 14)
    assert bench.ledger.status("timed", NOW).state is RunState.FINISHED
    assert bench.ledger.changes.results["timed"].samples == 0


# What is kept


def test_an_aggregator_that_starts_anew_knows_audits_contributors_and_who_is_refused(
    bench: Bench,
) -> None:
    bench.take("a", 0, 32, **BITS)
    bench.take("b", 32, 40)
    bench.take("b", 0, 32)
    bench.commit()
    kept = dict(bench.ledger.active)
    bench.begin()
    assert bench.ledger.active == kept
    bench.hear("abc")
    bench.take("c", 0, 32)
    bench.commit()
    [standing] = [one for one in bench.store.standings() if one.refused]
    assert (standing.host, standing.wrong, standing.refused) == ("a", 1, NOW)
    kept = dict(bench.ledger.active)
    bench.begin()
    assert bench.ledger.active == kept
    assert list(kept[RUN].cells[0].merged) == [(32, 40)]
    assert bench.take("a", 0, 32) is Outcome.REFUSED


def test_a_cell_that_ended_and_went_on_in_one_batch_is_kept_as_it_is(bench: Bench) -> None:
    bench.take("a", 0, 32, **BITS)
    bench.take("b", 32, 48)
    bench.take("b", 0, 32)
    bench.take("c", 0, 32)
    bench.commit()
    kept = dict(bench.ledger.active)
    bench.begin()
    assert bench.ledger.active == kept
    assert bench.store.history(RUN, 0) == []


def test_a_cell_that_was_due_for_a_point_of_its_history_may_be_emptied_in_the_same_batch(
    bench: Bench,
) -> None:
    for host, bits in (("a", BITS), ("b", {}), ("c", {})):
        bench.take(host, 0, 32, **bits)
    bench.ledger.record(NOW)
    assert bench.ledger.changes.points == []
    bench.take("b", 0, 32)
    bench.ledger.record(NOW)
    assert len(bench.ledger.changes.points) == 1


def test_a_run_that_is_resumed_forgets_hosts_that_were_refused_meanwhile(bench: Bench) -> None:
    bench.ledger.declare(declare(bench.of, "other"), NOW)
    bench.take("a", 0, 16, run="other")
    bench.take("b", 32, 40, run="other")
    bench.ledger.cancel("other", NOW)
    for host, bits in (("a", BITS), ("b", {}), ("c", {})):
        bench.take(host, 0, 32, **bits)
    bench.commit()
    assert bench.store.suspects("other") == ("a",)
    books = bench.store.books("other")
    assert books is not None
    bench.ledger.reopen(books, NOW)
    bench.commit()
    assert bench.store.suspects("other") == ()
    assert list(bench.ledger.active["other"].cells[0].merged) == [(32, 40)]


@pytest.mark.parametrize("readmitted", [False, True])
def test_a_result_names_who_was_found_wrong_since_and_resuming_computes_that_part_again(
    of: Definition, readmitted: bool
) -> None:
    bench = Bench(of, hosts="")
    bench.ledger.tick(NOW)
    bench.take("a", 0, 32, LATER, **BITS)
    bench.take("b", 32, 48, LATER)
    bench.ledger.tick(LATER)
    bench.commit()
    responder = Responder(bench.ledger, Hosts(), Watch(), bench.store)
    before = responder.answer(ResultsRequest(run=RUN), LATER)
    assert isinstance(before, Results)
    assert (before.result.state, before.result.suspects) == ("finished", ())
    assert isinstance(responder.answer(ResumeRequest(run=RUN), LATER), Declare)
    assert bench.state is RunState.FINISHED  # nothing is wrong with it that anybody knows of
    bench.hear("bcd", LATER)
    bench.ledger.declare(declare(of, "other"), LATER)
    for host, bits in (("a", BITS), ("b", {}), ("c", {})):
        bench.take(host, 0, 32, LATER, run="other", **bits)
    bench.commit()
    if readmitted:  # its memory was exchanged, what it sent before is as wrong as ever
        assert bench.store.readmit("a")
        bench.ledger.standings.reread(bench.store.standings())
    doubtful = responder.answer(ResultsRequest(run=RUN), LATER)
    assert isinstance(doubtful, Results)
    assert doubtful.result.suspects == ("a",)
    assert "doubtful: found wrong since, and in this result: a" in " ".join(
        footnotes(doubtful.result)
    )
    responder.answer(ResumeRequest(run=RUN), LATER)
    assert bench.state is RunState.RUNNING
    assert bench.ledger.missing(RUN).cells[0].missing == ((0, 32),)
    bench.take("b", 0, 32, LATER)
    bench.take("c", 0, 32, LATER)
    bench.commit()
    after = responder.answer(ResultsRequest(run=RUN), LATER)
    assert isinstance(after, Results)
    assert after.result.digest == honest_digest(of) != before.result.digest
    assert after.result.suspects == ()


def test_an_operator_readmits_a_host_in_the_store(bench: Bench) -> None:
    for host, bits in (("a", BITS), ("b", {}), ("c", {})):
        bench.take(host, 0, 32, **bits)
    standings = bench.ledger.standings
    standings.reread(bench.store.standings())
    assert standings.refused == {"a"}  # that it is refused was not written yet
    bench.commit()
    assert not bench.store.readmit("b")
    assert bench.store.readmit("a")
    standings.reread(bench.store.standings())
    assert not standings.refused
    assert standings.share_of("a") == 1.0
    assert bench.take("a", 0, 32) is Outcome.MERGED


def test_pruning_forgets_audits_and_contributors(bench: Bench) -> None:
    bench.take("a", 0, 32)
    bench.ledger.cancel(RUN, NOW)
    bench.commit()
    books = bench.store.books(RUN)
    assert books is not None
    assert books.audits.pending
    assert books.cells[0].contributors
    assert bench.store.prune(RUN, NOW + 1)
    books = bench.store.books(RUN)
    assert books is not None
    assert not books.audits.pending
    assert not books.cells[0].contributors


# How many


def test_new_hosts_and_those_that_were_wrong_are_audited_more() -> None:
    standings = Standings(share=0.01)
    assert standings.share_of("a") == pytest.approx(0.1)
    for _ in range(NEW_UNTIL):
        standings.passed("a")
    assert standings.share_of("a") == 0.01
    again = Standings([Standing("a", passed=PROBATION - 1, wrong=1)], share=0.01)
    assert again.share_of("a") == 1.0
    again.passed("a")
    assert again.share_of("a") == 0.01
    assert Standings([Standing("a", wrong=1)]).share_of("a") == 0.0


def test_chance_chooses_about_the_share() -> None:
    known = Standing("a", passed=NEW_UNTIL)
    standings = Standings([known], share=0.01, random=Random(1))  # noqa: S311 - the same each time
    chosen = sum(standings.chooses("a") for _ in range(100_000))
    assert abs(chosen - 1_000) < 5 * 1_000**0.5  # five standard deviations


def test_nothing_is_audited_unless_that_is_asked_for(of: Definition) -> None:
    bench = Bench(of, share=0.0)
    bench.take("a", 0, 32, **BITS)
    bench.take("b", 0, 32)
    bench.take("b", 32, 48)
    assert bench.state is RunState.FINISHED
    assert bench.ledger.changes.results[RUN].digest != honest_digest(of)


def test_the_end_of_a_run_is_told_only_after_its_audits(bench: Bench) -> None:
    bench.take("a", 0, 32)
    bench.take("a", 32, 48)
    assert not any(isinstance(event, Finished) for event in bench.ledger.take_events(NOW))
    bench.take("b", 0, 32)
    bench.take("b", 32, 48)
    assert any(isinstance(event, Finished) for event in bench.ledger.take_events(NOW))


def test_what_differs_in_one_bit_differs(bench: Bench) -> None:
    right = partial(bench.of, 0, 32)
    squares = right.statistics.squares[0]
    flipped = squares.__class__(squares.mantissa ^ 2, squares.shift)
    wrong = right.statistics.model_copy(update={"squares": (flipped,)})
    bench.take("a", 0, 32)
    bench.take("b", 0, 32, statistics=wrong)
    assert bench.wanted() == ((0, ("a", "b")),)
    assert isinstance(right, Partial)
