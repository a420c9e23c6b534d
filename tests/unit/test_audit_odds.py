"""The odds that audits catch a wrong host, and the sentences that tell them."""

import math
from random import Random

import pytest

from protocol.audit_odds import audited_text, catch_probability, odds_text, percent


@pytest.mark.parametrize(
    ("share", "wrong", "chunks", "expected"),
    [
        (0.01, 0.1, 1_000, 1 - 0.999**1_000),
        (0.01, 1.0, 1, 0.01),
        (1.0, 1.0, 1, 1.0),
        (1.0, 1.0, 0, 0.0),
        (0.01, 0.0, 1_000, 0.0),
        (1e-9, 1e-9, 1, 1e-18),
    ],
)
def test_the_probability_of_being_caught(
    share: float, wrong: float, chunks: int, expected: float
) -> None:
    assert math.isclose(catch_probability(share, wrong, chunks), expected, rel_tol=1e-9)


def test_hosts_are_caught_as_often_as_the_formula_says() -> None:
    random, hosts, chunks = Random(3), 4_000, 50  # noqa: S311 - the same each time
    caught = sum(
        any(random.random() < 0.2 and random.random() < 0.1 for _ in range(chunks))
        for _ in range(hosts)
    )
    expected = catch_probability(0.1, 0.2, chunks)
    deviation = math.sqrt(hosts * expected * (1 - expected))
    assert abs(caught - hosts * expected) < 5 * deviation  # once in 1.7 million


def test_the_sentence_tells_the_share_and_three_odds() -> None:
    said = odds_text(0.01)
    for part in ("1 % of the chunks", "1 % of its chunks with probability 9.5 %", "63.2 %", "over"):
        assert part in said
    assert odds_text(0.0) == "No chunk is audited: every host is trusted."


def test_a_run_tells_what_was_audited_and_what_could_not_be() -> None:
    assert audited_text(0, 3) == (
        "not audited: no other host was there to compute 3 chosen chunks again"
    )
    assert "with probability 65.1 %" in audited_text(10, 0)
    assert audited_text(10, 1).endswith(
        "1 chosen chunk could not be audited, nobody else was there"
    )


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.01, "1 %"), (0.0956, "9.6 %"), (1.0, "100 %"), (0.99999, "over 99.9 %"), (0.5, "50 %")],
)
def test_percentages_do_not_look_more_certain_than_they_are(share: float, text: str) -> None:
    assert percent(share) == text
