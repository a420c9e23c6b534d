"""Sums over what consumers count: by host and by model, never falling, never twice, bounded."""

from typing import Any

import pytest
from prometheus_client.core import Metric

from aggregator.fleet import ALIVE_SECONDS
from aggregator.host_metrics import host_metrics
from aggregator.hosts import FORGET_SECONDS, MAX_HOSTS, Hosts
from aggregator.labels import MAX_LABELS
from protocol.messages import (
    ConsumerState,
    FailureKind,
    Golden,
    ModelTotals,
    Suspension,
    Telemetry,
)
from protocol.rpc_messages import Condition
from tests.support.run_values import telemetry, totals

NOW = 1_000.0


def word(consumer: str = "a.1", **fields: Any) -> Telemetry:
    return telemetry(consumer, **fields)


def samples(hosts: Hosts, name: str, now: float = NOW) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric by the values of its labels."""
    families: list[Metric] = list(host_metrics(hosts, now))
    return {
        tuple(sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"montemq_{name}"
    }


def test_what_was_counted_before_the_first_word_counts_elsewhere_or_nowhere() -> None:
    hosts = Hosts()
    hosts.hear(word(totals=totals(chunks={0: 7})), NOW)
    assert samples(hosts, "host_samples_total") == {("a",): 0}
    hosts.hear(word(totals=totals(chunks={0: 9})), NOW)
    assert samples(hosts, "host_samples_total") == {("a",): 20}
    assert samples(hosts, "host_busy_seconds_total") == {("a",): 2.0}
    assert samples(hosts, "host_cpu_seconds_total") == {("a",): 1.0}
    assert samples(hosts, "host_chunks_total") == {("a", "partial"): 2}


def test_consumers_of_a_host_add_up_and_going_takes_nothing_away() -> None:
    hosts = Hosts()
    for consumer in ("a.1", "a.2"):
        hosts.hear(word(consumer, totals=totals()), NOW)
        hosts.hear(word(consumer, totals=totals(chunks={1: 3})), NOW)
    hosts.hear(word("a.1", totals=totals(chunks={1: 4}), state=ConsumerState.STOPPED), NOW)
    hosts.hear(word("a.2", totals=totals(chunks={1: 3})), NOW + FORGET_SECONDS)
    hosts.forget_silent(NOW + FORGET_SECONDS + 1)
    assert samples(hosts, "host_samples_total") == {("a",): 70}
    assert samples(hosts, "model_samples_total") == {("pi",): 70}


def test_a_consumer_that_began_anew_under_its_name_is_counted_from_zero() -> None:
    hosts = Hosts()
    hosts.hear(word(totals=totals(chunks={0: 9})), NOW)
    hosts.hear(word(totals=totals(chunks={0: 2})), NOW)
    hosts.hear(word(totals=totals(chunks={0: 3})), NOW)
    assert samples(hosts, "host_samples_total") == {("a",): 30}


def test_failures_reconnections_cancels_and_refusals_are_counted() -> None:
    hosts = Hosts()
    hosts.hear(word(totals=totals()), NOW)
    kinds = {FailureKind.CRASH: 2, FailureKind.DECLINED: 1}
    hosts.hear(word(totals=totals(failures=kinds, reconnections=3, cancels=4, rejected=5)), NOW)
    assert samples(hosts, "host_chunks_total") == {
        ("a", "crash"): 2, ("a", "declined"): 1, ("a", "partial"): 0,
    }  # fmt: skip
    assert samples(hosts, "host_reconnections_total") == {("a",): 3}
    assert samples(hosts, "host_broker_cancels_total") == {("a",): 4}
    assert samples(hosts, "host_messages_rejected_total") == {("a",): 5}


def test_the_histogram_is_cumulative_and_sums_over_hosts() -> None:
    hosts = Hosts()
    for consumer in ("a.1", "b.1"):
        hosts.hear(word(consumer, totals=totals()), NOW)
        hosts.hear(word(consumer, totals=totals(chunks={0: 1, 5: 2, 11: 1})), NOW)
    found = samples(hosts, "model_chunk_seconds_bucket")
    assert found["pi", "0.005"] == found["pi", "0.25"] == 2
    assert found["pi", "0.5"] == found["pi", "600.0"] == 6
    assert found["pi", "+Inf"] == 8
    assert samples(hosts, "model_chunk_seconds_sum") == {("pi",): 8.0}
    assert samples(hosts, "model_chunk_seconds_count") == {("pi",): 8}


def test_who_is_there_follows_from_the_last_word() -> None:
    hosts = Hosts()
    hosts.hear(word("a.1", slots=4, busy=3), NOW)
    hosts.hear(word("a.2", slots=2, busy=9, suspended=Suspension.FAILURES), NOW)
    hosts.hear(word("b.1", version="0.2.0"), NOW)
    hosts.hear(word("b.1", version="0.2.0", state=ConsumerState.STOPPED), NOW)
    assert samples(hosts, "host_consumers") == {("a",): 2, ("b",): 0}
    assert samples(hosts, "host_slots") == {
        ("a", "busy"): 5, ("a", "idle"): 1, ("b", "busy"): 0, ("b", "idle"): 0,
    }  # fmt: skip
    suspended = samples(hosts, "host_suspended_consumers")
    assert set(suspended) == {(host, reason.value) for host in "ab" for reason in Suspension}
    assert {key: n for key, n in suspended.items() if n} == {("a", "failures"): 1}
    assert samples(hosts, "host_info") == {("a", "0.1.0"): 1, ("b", "0.2.0"): 1}
    assert samples(hosts, "host_last_seen_timestamp_seconds") == {("a",): NOW, ("b",): NOW}
    assert samples(hosts, "host_consumers", NOW + ALIVE_SECONDS + 1) == {("a",): 0, ("b",): 0}


def test_other_bits_are_shown_for_some_minutes_although_the_consumer_has_gone() -> None:
    hosts = Hosts()
    failed = word(slots=0, golden=Golden.FAILED, state=ConsumerState.STOPPED)
    hosts.hear(failed, NOW)
    hosts.hear(word("b.1", golden=Golden.PASSED), NOW)
    assert samples(hosts, "host_golden_failed") == {("a",): 1, ("b",): 0}
    hosts.hear(word("a.2", golden=Golden.PASSED), NOW + 1)
    assert samples(hosts, "host_golden_failed")["a",] == 1
    later = NOW + FORGET_SECONDS + 1
    assert samples(hosts, "host_golden_failed", later)["a",] == 0


def test_a_silent_host_vanishes_from_every_metric() -> None:
    hosts = Hosts()
    hosts.hear(word("a.1", totals=totals()), NOW)
    hosts.hear(word("b.1", totals=totals()), NOW + FORGET_SECONDS)
    hosts.forget_silent(NOW + FORGET_SECONDS + 1)
    for family in host_metrics(hosts, NOW):
        assert {s.labels["host"] for s in family.samples if "host" in s.labels} <= {"b"}
    assert samples(hosts, "host_consumers").keys() == {("b",)}


def test_a_flood_of_hosts_and_models_ends_up_in_one_series_each() -> None:
    hosts = Hosts()
    hosts.hear(word("honest.1", totals=totals("honest")), NOW)
    hosts.hear(word("honest.1", totals=totals("honest", {0: 1})), NOW)
    for number in range(2 * MAX_HOSTS):
        for chunks in ({}, {0: 1}):
            told = totals(f"m{number}", chunks)
            hosts.hear(word(f"h{number}.1", totals=told), NOW)
    by_host = samples(hosts, "host_samples_total")
    assert len(by_host) == MAX_HOSTS + 1
    assert by_host["honest",] == 10
    assert by_host["other",] == 10 * (MAX_HOSTS + 1)
    by_model = samples(hosts, "model_samples_total")
    assert len(by_model) == MAX_LABELS + 1
    assert sum(by_model.values()) == 10 * (2 * MAX_HOSTS + 1)


def test_a_host_that_goes_makes_room_for_another_one() -> None:
    hosts = Hosts()
    for number in range(MAX_HOSTS):
        hosts.hear(word(f"h{number}.1"), NOW)
    hosts.hear(word("late.1"), NOW)
    assert ("late",) not in samples(hosts, "host_consumers")
    later = NOW + FORGET_SECONDS + 1
    hosts.forget_silent(later)
    hosts.hear(word("late.1"), later)
    assert samples(hosts, "host_consumers", later) == {("late",): 1}


@pytest.mark.parametrize("seconds", [1e12, 0.0])
def test_absurd_totals_stay_numbers(seconds: float) -> None:
    hosts = Hosts()
    absurd = ModelTotals(samples=2**63 - 1, seconds=seconds, chunks=(2**63 - 1,) * 12)
    for _ in range(20):
        for told in (totals(), totals(models={"pi": absurd}, reconnections=2**63 - 1)):
            hosts.hear(word(totals=told), NOW)
    assert samples(hosts, "host_busy_seconds_total") == {("a",): 20 * seconds}
    assert samples(hosts, "host_reconnections_total") == {("a",): 20 * (2**63 - 1)}


# Consumers for people


def conditions(hosts: Hosts, now: float = NOW) -> dict[str, Condition]:
    return {one.telemetry.consumer: one.condition for one in hosts.consumers(now)}


@pytest.mark.parametrize(
    ("fields", "silence", "condition"),
    [
        ({}, 0.0, Condition.RUNNING),
        ({"slots": 0}, 0.0, Condition.LOADING),
        ({"suspended": Suspension.HOURS}, 0.0, Condition.SUSPENDED),
        ({"slots": 0, "suspended": Suspension.HOURS}, 0.0, Condition.SUSPENDED),
        ({"slots": 0, "state": ConsumerState.DRAINING}, 0.0, Condition.DRAINING),
        ({"suspended": Suspension.QUIET, "state": ConsumerState.DRAINING}, 0, Condition.DRAINING),
        ({"suspended": Suspension.QUIET}, ALIVE_SECONDS + 1, Condition.LOST),
        ({"state": ConsumerState.STOPPED}, ALIVE_SECONDS + 1, Condition.STOPPED),
    ],
)
def test_of_what_may_be_said_of_a_consumer_the_weightiest_is(
    fields: dict[str, Any], silence: float, condition: Condition
) -> None:
    hosts = Hosts()
    hosts.hear(word(**fields), NOW)
    (one,) = hosts.consumers(NOW + silence)
    assert one.condition is one.member.state is condition


def test_whoever_left_makes_room_for_who_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.hosts.MAX_CONSUMERS", 2)
    hosts = Hosts()
    for name, at in (("left", 0.0), ("stays", 0.5), ("comes", 1.0)):
        hosts.hear(word(name), NOW + at)
    assert set(conditions(hosts)) == {"left", "stays"}  # it is full, and both may be alive
    hosts.hear(word("stays"), NOW + ALIVE_SECONDS)
    hosts.hear(word("comes"), NOW + ALIVE_SECONDS + 1)
    assert set(conditions(hosts)) == {"stays", "comes"}
