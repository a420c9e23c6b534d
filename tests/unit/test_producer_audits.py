"""Which chunks a producer has computed again, and when it issues them once more."""

import pytest

from producer.audits import MAX_REST_SECONDS, REST_SECONDS, rest_seconds
from producer.late import OVERTAKEN_SECONDS, PATIENCE_SECONDS, TAIL_FACTOR, TAIL_SECONDS
from producer.scheduler import OUTAGE_SECONDS, RETRY_SECONDS
from protocol.messages import Chunk, WantedAudit
from tests.support.run_values import chunk, definition
from tests.unit.test_producer_scheduler import Harness, spans

AUDIT = WantedAudit(cell=0, first_block=0, blocks=8, not_by=("host-a",))
DISPUTE = AUDIT.model_copy(update={"not_by": ("host-a", "host-b")})
MANY = tuple(AUDIT.model_copy(update={"first_block": block, "blocks": 1}) for block in range(32))
"""More than the window holds."""

USUAL_SECONDS = 0.1
"""After which the chunks of the harness come back."""


@pytest.fixture
def harness() -> Harness:
    """Return a scheduler of a run of which all is merged."""
    harness = Harness(definition(32), slots=4)
    while chunks := harness.publish():
        harness.now += USUAL_SECONDS
        harness.merge(*chunks)
    return harness


def audits(harness: Harness) -> list[Chunk]:
    return [one for one in harness.publish() if one.not_by]


def test_a_wanted_audit_is_issued_once_for_other_hosts(harness: Harness) -> None:
    harness.progress(audits=(AUDIT,))
    [issued] = audits(harness)
    assert issued == chunk(harness.definition, 0, 8, attempt=issued.attempt, not_by=("host-a",))
    harness.progress(audits=(AUDIT,))
    assert not harness.publish()


def test_chunks_after_an_audit_are_for_anybody() -> None:
    harness = Harness(definition(108), chunk_blocks=8, slots=1)
    first = harness.publish()
    harness.merge(first[0])
    harness.progress(audits=(AUDIT,))
    assert [one.not_by for one in harness.publish()] == [("host-a",), None]


def test_an_answer_of_the_aggregator_tells_of_audits_as_well(harness: Harness) -> None:
    harness.join(audits=(AUDIT,))
    assert spans(audits(harness)) == [(0, 8)]
    harness.join()
    harness.now += PATIENCE_SECONDS
    assert not audits(harness)


def test_a_declined_audit_is_issued_again_at_once_and_then_after_longer_and_longer_rests(
    harness: Harness,
) -> None:
    rests = [rest_seconds(turn) for turn in range(200)]
    assert rests[:2] == [0.0, REST_SECONDS]
    assert rests == sorted(rests)
    assert rests[-1] == MAX_REST_SECONDS
    harness.progress(audits=(AUDIT,))
    for turn in range(200):
        [issued] = audits(harness)
        harness.progress(audits=(AUDIT,), failed_attempts=(issued.attempt,))
        harness.now += rest_seconds(turn) + 1e-6


def test_a_declined_audit_of_which_no_event_told_is_issued_again_after_an_answer(
    harness: Harness,
) -> None:
    harness.progress(audits=(AUDIT,))
    [issued] = audits(harness)
    harness.join(audits=(AUDIT,), failed_attempts=(issued.attempt,))
    assert spans(audits(harness)) == [(0, 8)]


def test_a_declined_copy_of_a_lost_audit_is_issued_again_as_if_nothing_had_been_lost(
    harness: Harness,
) -> None:
    harness.progress(audits=(AUDIT,))
    assert audits(harness)
    harness.now += OVERTAKEN_SECONDS + 0.01
    harness.progress(audits=(AUDIT,))
    for turn in range(3):
        [copy] = audits(harness)
        harness.progress(audits=(AUDIT,), failed_attempts=(copy.attempt,))
        harness.now += rest_seconds(turn) + 1e-6


def test_two_audits_do_not_go_round_in_step(harness: Harness) -> None:
    other = AUDIT.model_copy(update={"not_by": ("host-b",)})
    harness.progress(audits=(AUDIT, other))
    orders = set()
    for _ in range(20):
        issued = audits(harness)
        orders.add(tuple(one.not_by for one in issued))
        failed = tuple(one.attempt for one in issued)
        harness.progress(audits=(AUDIT, other), failed_attempts=failed)
        harness.now += MAX_REST_SECONDS
    assert len(orders) == 2


def test_a_dispute_is_another_audit(harness: Harness) -> None:
    harness.progress(audits=(AUDIT,))
    [first] = audits(harness)
    harness.progress(audits=(DISPUTE,))
    [second] = audits(harness)
    assert second.not_by == ("host-a", "host-b")
    harness.progress(audits=(DISPUTE,), failed_attempts=(first.attempt,))
    assert not audits(harness)


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        pytest.param(MANY, OVERTAKEN_SECONDS, id="while others wait to be issued"),
        pytest.param((AUDIT,), TAIL_FACTOR * USUAL_SECONDS + TAIL_SECONDS, id="the last one"),
    ],
)
def test_a_lost_audit_is_issued_again_after_a_patience_that_doubles(
    harness: Harness, wanted: tuple[WantedAudit, ...], first: float
) -> None:
    harness.progress(audits=wanted)
    lost = spans(audits(harness))
    assert lost
    for patience in (first, 2 * first):
        harness.now += patience - 0.01
        harness.progress(audits=wanted)
        assert not audits(harness)
        harness.now += 0.02
        assert sorted(spans(audits(harness))) == sorted(lost)


def test_time_in_which_the_aggregator_says_nothing_is_not_held_against_an_audit(
    harness: Harness,
) -> None:
    harness.progress(audits=(AUDIT,))
    assert audits(harness)
    harness.now += OUTAGE_SECONDS + 0.01
    harness.progress(audits=(AUDIT,))
    assert not audits(harness)


def test_what_the_broker_did_not_take_is_issued_again(harness: Harness) -> None:
    harness.progress(audits=(AUDIT,))
    [issued], _ = harness.actions()
    harness.scheduler.refused(issued.attempt, harness.now)
    assert not harness.publish()
    harness.now += RETRY_SECONDS
    [issued], _ = harness.actions()
    harness.scheduler.disconnected()
    [again], _ = harness.actions()
    harness.scheduler.confirmed(again.attempt)
    harness.scheduler.disconnected()
    assert not audits(harness)


def test_no_more_audits_are_under_way_than_the_window_holds(harness: Harness) -> None:
    harness.progress(audits=MANY)
    issued = {one.first_block for one in audits(harness)}
    assert 0 < len(issued) == harness.scheduler.window < len(MANY)
    answered = sorted(issued)[:2]
    harness.progress(audits=tuple(one for one in MANY if one.first_block not in answered))
    assert len(audits(harness)) == 2


def test_a_follower_issues_no_audits(harness: Harness) -> None:
    harness.scheduler.leads(leads=False)
    harness.progress(audits=(AUDIT,))
    assert not harness.publish()
