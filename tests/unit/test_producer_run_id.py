"""Placeholders in run ids: what they become, in whose calendar, and when their slots began."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from producer import run_id
from producer.run_id import Moment
from producer.run_sections import parse
from producer.runfile import Submission, submission
from protocol.errors import UsageError

ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"  # as in Paris


@pytest.fixture(autouse=True)
def paris() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", ZONE)
        time.tzset()
        yield
    time.tzset()


def utc(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("template", "local", "in_utc"),
    [
        ("nightly-{date}", "nightly-2026-11-21", "nightly-2026-11-20"),
        ("{date}-{hour}", "2026-11-21-00", "2026-11-20-23"),
        ("w-{week}", "w-2026-W47", "w-2026-W47"),
        ("plain_1", "plain_1", "plain_1"),
        ("x-{hash}", "x-{hash}", "x-{hash}"),
    ],
)
def test_time_is_local_unless_utc_is_asked_for(template: str, local: str, in_utc: str) -> None:
    epoch = utc(2026, 11, 20, 23, 30)
    assert run_id.checked(template) == template
    assert run_id.at(template, Moment(epoch)) == local
    assert run_id.at(template, Moment(epoch, utc=True)) == in_utc


def test_only_a_template_is_the_name_of_several_runs() -> None:
    for template in ("nightly-{date}", "{date}-{hour}", "w-{week}", "x-{hash}"):
        assert run_id.name(template) == template
    assert run_id.name("plain_1") is None


def test_the_longest_template_is_a_name_that_can_be_declared() -> None:
    template = run_id.checked("{date}" + "{hour}" * 45)
    file = parse({"run": {"model": "pi", "id": template}, "stop": {"samples": 1000}}, "x")
    assert submission(file, moment=Moment(0.0)).declaration.name == template


def test_weeks_are_those_of_iso_8601_at_the_turn_of_a_year() -> None:
    assert run_id.at("{week}", Moment(utc(2027, 1, 3, 12))) == "2026-W53"
    assert run_id.at("{week}", Moment(utc(2027, 1, 4, 12))) == "2027-W01"


@pytest.mark.parametrize(
    ("template", "rule"),
    [
        ("a-{day}", "{day} is no placeholder, allowed are {date}, {week}, {hour}, {hash}"),
        ("a-{}", "{} is no placeholder"),
        ("a-{hour}", "{hour} is the hour of a day and needs {date} beside it"),
        ("a.b", "a run id is A-Z"),
        ("a-{date", "a run id is A-Z"),
        ("-{date}", "a run id is A-Z"),
        ("x" * 91 + "{date}", "at most 100 characters"),
        ("", "a run id is A-Z"),
    ],
)
def test_what_can_never_be_a_run_id_is_refused_in_one_sentence(template: str, rule: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse({"run": {"model": "pi", "id": template}}, "x.toml", {"run.id": "--id"})
    assert str(refused.value).startswith(f"--id = {template!r:.80} is not allowed: ")
    assert rule in str(refused.value)


@pytest.mark.parametrize(
    ("template", "epoch", "age"),
    [
        ("{date}", utc(2026, 11, 21, 1), 2 * 3600),
        ("{date}-{hour}", utc(2026, 11, 21, 1, 20), 20 * 60),
        ("{week}", utc(2026, 11, 21, 1), 5 * 86400 + 2 * 3600),
        ("{week}-{date}", utc(2026, 11, 21, 1), 2 * 3600),
        # The day on which the clocks go back has 25 hours, and one hour comes twice.
        ("{date}", utc(2026, 10, 25, 22), 24 * 3600),
        ("{date}-{hour}", utc(2026, 10, 25, 0, 10), 600),
    ],
)
def test_the_age_of_a_slot_is_what_a_stopwatch_would_show(
    template: str, epoch: float, age: float
) -> None:
    assert run_id.slot_age(template, Moment(epoch)) == age


def test_a_slot_in_utc_begins_with_the_day_in_utc() -> None:
    assert run_id.slot_age("{date}", Moment(utc(2026, 11, 20, 23), utc=True)) == 23 * 3600


def test_an_id_without_time_has_no_slot() -> None:
    assert run_id.slot_age("plain-{hash}", Moment(0.0)) is None


def of(template: str | None, epoch: float = 0.0, **fields: Any) -> Submission:
    run = {"model": "pi", **fields} | ({} if template is None else {"id": template})
    content = {"run": run, "stop": {"samples": 1000}}
    return submission(parse(content, "x"), moment=Moment(epoch, utc=True))


def test_the_hash_is_that_of_the_definition() -> None:
    job = of("pi-{hash}", seed=1)
    assert job.run == f"pi-{job.definition.hash.hex()[:12]}"
    assert of("pi-{hash}", seed=2).run != job.run


def test_without_a_seed_the_same_id_is_the_same_run_and_another_slot_has_another_seed() -> None:
    day = 86_400.0
    first, again, next_day = (of("n-{date}", epoch) for epoch in (0.0, day - 1, day))
    assert (first.run, first.definition) == (again.run, again.definition)
    assert next_day.run != first.run
    assert next_day.definition.seed != first.definition.seed
    assert of("n-{hash}") == of("n-{hash}")


def test_without_an_id_every_run_has_an_id_and_a_seed_of_its_own() -> None:
    one, other = of(None), of(None)
    assert one.run != other.run
    assert one.definition.seed != other.definition.seed
