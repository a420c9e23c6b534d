"""Lines of a service's log: one per event, for people or as JSON, with ids and without secrets."""

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ops.logs import LEVEL_VARIABLE, JsonLines, Lines, log_to_stderr, said
from protocol.errors import UsageError
from protocol.log_ids import LOGGER, of_chunk, of_run
from protocol.settings import broker_from_url
from tests.support.run_values import chunk, definition, failure, partial


def record(message: str, *values: object, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("montemq.consumer", logging.WARNING, "x.py", 1, message, values, None)
    vars(made).update(fields)
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonLines().format(made)
    assert "\n" not in line
    content: dict[str, Any] = json.loads(line)
    return content


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back how logging is configured."""
    root, ours = logging.getLogger(), logging.getLogger(LOGGER)
    before, levels = list(root.handlers), (root.level, ours.level)
    yield
    root.handlers = before
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_a_line_of_json_has_time_level_logger_event_and_ids() -> None:
    content = as_json(record("%s of %d", "one\ntwo", 2, created=0.25, **of_run("nightly")))
    assert content == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "montemq.consumer",
        "event": "one\ntwo of 2",
        "run": "nightly",
    }


def test_a_traceback_stays_within_its_line() -> None:
    try:
        int("boom")
    except ValueError:
        content = as_json(record("released", exc_info=sys.exc_info()))
    assert content["traceback"].startswith("Traceback")
    assert "'boom'" in content["traceback"]


def test_chunks_partials_and_failures_go_by_the_same_ids() -> None:
    of = definition()
    expected = {"run": "run-1", "cell": 0, "attempt": 9}
    assert of_chunk(chunk(of, 0, 4, attempt=9)) == expected
    assert of_chunk(partial(of, 0, 4, attempt=9)) == expected
    assert of_chunk(failure(of, 0, 4, attempt=9)) == expected


def test_a_line_for_people_tells_the_ids_that_its_sentence_does_not() -> None:
    line = Lines().format(record("released run nightly: boom", run="nightly", cell=3, attempt=7))
    assert line.endswith("WARNING montemq.consumer: released run nightly: boom cell=3 attempt=7")


def test_a_line_for_people_has_no_codes_of_a_terminal_and_one_line() -> None:
    line = Lines().format(record("boom \x1b[2J\nnext"))
    assert line.endswith("boom  [2J next")


@pytest.mark.parametrize("formatter", [Lines(), JsonLines()])
def test_an_address_is_logged_without_its_password(formatter: logging.Formatter) -> None:
    broker = broker_from_url("amqp://mc:s3cret@broker.example/")
    line = formatter.format(record("connected to %s", broker))
    assert "amqp://mc@broker.example:5672/" in line
    assert "s3cret" not in line


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("level", [None, "debug", "WARNING"])
def test_the_level_is_that_of_the_environment_and_libraries_stay_quiet(
    level: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if level is None:
        monkeypatch.delenv(LEVEL_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(LEVEL_VARIABLE, level)
    log_to_stderr()
    for logger in ("montemq.consumer", "asyncio"):
        for name in ("debug", "info", "warning"):
            getattr(logging.getLogger(logger), name)(f"{logger} {name}")
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    ours = {None: ["info", "warning"], "debug": ["debug", "info", "warning"]}.get(
        level, ["warning"]
    )
    assert events == [f"montemq.consumer {name}" for name in ours] + ["asyncio warning"]


@pytest.mark.usefixtures("handlers")
def test_a_level_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEVEL_VARIABLE, "loud")
    with pytest.raises(UsageError, match=r"^MONTEMQ_LOG_LEVEL = 'loud' must be one of debug, info"):
        log_to_stderr()


@pytest.mark.usefixtures("handlers")
def test_on_a_terminal_lines_are_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(LEVEL_VARIABLE, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log_to_stderr()
    logging.getLogger("montemq.aggregator").info("run %s finished", "a", extra=of_run("a"))
    assert capsys.readouterr().err.endswith("INFO montemq.aggregator: run a finished\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (JsonLines().format(record("lost")), "lost"),
        ("montemq: lost", "montemq: lost"),
        ("7", "7"),
        ('{"other": 1}', '{"other": 1}'),
    ],
)
def test_what_a_line_says_is_found_in_either_form(line: str, expected: str) -> None:
    assert said(line) == expected
