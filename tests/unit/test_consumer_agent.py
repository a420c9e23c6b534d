"""What the agent logs of answers."""

import logging

import pytest

from consumer.agent import _log_answer
from protocol.messages import FailureKind, encode
from tests.support.run_values import definition, failure


@pytest.mark.parametrize(
    ("kind", "level"),
    [(FailureKind.MODEL_ERROR, logging.WARNING), (FailureKind.DECLINED, logging.DEBUG)],
)
def test_a_failure_is_worth_a_warning_and_a_chunk_for_another_host_is_not(
    kind: FailureKind, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "montemq.consumer")
    answer = failure(definition(), 0, 1, kind=kind)
    _log_answer(answer.type, encode(answer))
    assert [record.levelno for record in caplog.records] == [level]
