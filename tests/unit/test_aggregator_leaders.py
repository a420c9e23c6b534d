"""Sums over what producers count, and what those of each host do: never falling, bounded."""

from typing import Any

from aggregator.fleet import ALIVE_SECONDS
from aggregator.hosts import FORGET_SECONDS, MAX_HOSTS
from aggregator.labels import OTHER
from aggregator.leader_metrics import leader_metrics
from aggregator.leaders import MAX_LEADERS, Leaders
from protocol.messages import CONFIRM_SECONDS, Leader, Reissue
from tests.support.run_values import leader, leader_totals

NOW = 1_000.0


def word(name: str = "a.1", *, published: int = 0, **fields: Any) -> Leader:
    return leader(name, **{"totals": leader_totals(published=published)} | fields)


def samples(leaders: Leaders, name: str, now: float = NOW) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric by the values of its labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in leader_metrics(leaders, now)
        for sample in family.samples
        if sample.name == f"montemq_producer_{name}"
    }


def published(leaders: Leaders) -> float:
    return samples(leaders, "chunks_published_total")[()]


def test_all_that_a_leader_says_in_its_first_word_counts_and_then_the_growth() -> None:
    leaders = Leaders()
    leaders.hear(word(published=7, first=True), NOW)
    leaders.hear(word(published=9), NOW)
    leaders.hear(word(published=9, stopped=True), NOW)
    assert published(leaders) == 9


def test_what_a_leader_counted_before_this_process_heard_of_it_counts_nowhere() -> None:
    leaders = Leaders()
    leaders.hear(word(published=700), NOW)
    assert published(leaders) == 0
    leaders.hear(word(published=701), NOW)
    assert published(leaders) == 1


def test_sums_never_fall_when_leaders_come_go_and_begin_anew() -> None:
    leaders, seen = Leaders(), [0.0]
    for number in range(5):
        now = NOW + number * FORGET_SECONDS
        leaders.hear(word(f"a.{number}", published=10, first=True, stopped=True), now)
        seen.append(published(leaders))
        leaders.forget_silent(now + FORGET_SECONDS / 2)
        seen.append(published(leaders))
    leaders.hear(word("a.4", published=3), now)
    seen.append(published(leaders))
    assert seen == sorted(seen)
    assert seen[-1] == 53


def test_every_count_of_a_leader_is_shown() -> None:
    leaders = Leaders()
    classes = (2, 0, 1, *[0] * (len(CONFIRM_SECONDS) - 2))
    totals = leader_totals(
        published=9, returned=1, reissued={Reissue.LATE: 2, Reissue.LOST: 3}, blockings=4,
        rejected=5, confirm_seconds=0.5, confirms=classes,
    )  # fmt: skip
    leaders.hear(word(first=True, totals=totals), NOW)
    assert samples(leaders, "chunks_returned_total") == {(): 1}
    assert samples(leaders, "blockings_total") == {(): 4}
    assert samples(leaders, "messages_rejected_total") == {(): 5}
    again = samples(leaders, "chunks_reissued_total")
    assert again == {(reason.value,): 0 for reason in Reissue} | {("late",): 2, ("lost",): 3}
    assert samples(leaders, "confirm_seconds_sum") == {(): 0.5}
    buckets = samples(leaders, "confirm_seconds_bucket")
    assert [*buckets.values()] == [2, 2, *[3] * (len(CONFIRM_SECONDS) - 1)]
    assert [end for (end,) in buckets] == [*map(str, CONFIRM_SECONDS), "+Inf"]


def test_leaders_of_a_host_add_up() -> None:
    leaders = Leaders()
    for name in ("a.1", "a.2", "b.1"):
        leaders.hear(word(name, runs=2, window=8, outstanding=7, unconfirmed=1), NOW)
    assert samples(leaders, "runs") == {("a",): 4, ("b",): 2}
    assert samples(leaders, "window_chunks") == {("a",): 16, ("b",): 8}
    assert samples(leaders, "outstanding_chunks") == {("a",): 14, ("b",): 7}
    assert samples(leaders, "unconfirmed_chunks") == {("a",): 2, ("b",): 1}
    assert samples(leaders, "info") == {("a", "0.1.0"): 1, ("b", "0.1.0"): 1}
    assert samples(leaders, "last_seen_timestamp_seconds") == {("a",): NOW, ("b",): NOW}


def states(leaders: Leaders, now: float) -> dict[str, float]:
    found = samples(leaders, "leaders", now)
    return {state: amount for (_, state), amount in found.items()}


def test_a_leader_that_stops_is_none_and_one_that_falls_silent_is_seen_to_be_silent() -> None:
    leaders = Leaders()
    leaders.hear(word("a.1"), NOW)
    leaders.hear(word("a.2", stopped=True), NOW)
    assert states(leaders, NOW) == {"leading": 1, "blocked": 0, "silent": 0}
    later = NOW + ALIVE_SECONDS + 0.1
    assert states(leaders, later) == {"leading": 0, "blocked": 0, "silent": 1}
    assert samples(leaders, "runs", later) == {("a",): 0}


def test_a_leader_that_is_blocked_is_seen_where_that_is_known() -> None:
    leaders = Leaders()
    leaders.hear(word(), NOW, blocked=True)
    assert states(leaders, NOW) == {"leading": 0, "blocked": 1, "silent": 0}
    assert samples(leaders, "runs") == {("a",): 1}


def test_a_host_vanishes_some_minutes_after_its_last_word_and_its_counts_stay() -> None:
    leaders = Leaders()
    leaders.hear(word(published=5, first=True), NOW)
    leaders.forget_silent(NOW + FORGET_SECONDS)
    assert samples(leaders, "runs")
    leaders.forget_silent(NOW + FORGET_SECONDS + 1)
    assert not samples(leaders, "runs")
    assert published(leaders) == 5


def test_a_flood_of_leaders_and_hosts_ends_up_in_one_series_and_makes_room_again() -> None:
    leaders = Leaders()
    for number in range(MAX_LEADERS + 50):
        leaders.hear(word(f"h{number}.1"), NOW)
    runs = samples(leaders, "runs")
    assert len(runs) == MAX_HOSTS + 1
    assert runs[OTHER,] == MAX_LEADERS - MAX_HOSTS
    later = NOW + FORGET_SECONDS + 1
    leaders.forget_silent(later)
    leaders.hear(word("late.1"), later)
    assert samples(leaders, "runs", later) == {("late",): 1}


def test_counts_beyond_any_counter_of_a_message_do_not_stop_the_sums() -> None:
    leaders, most = Leaders(), leader_totals(published=2**63 - 1, confirm_seconds=1e12)
    for name in ("a.1", "a.2"):
        leaders.hear(word(name, first=True, totals=most), NOW)
    assert published(leaders) == 2 * (2**63 - 1)
