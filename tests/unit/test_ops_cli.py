"""The program `montemq`: every command is found, help stays light, errors become exit codes."""

import sys
from typing import Any, NoReturn

import click
import pytest

from ops import cli, demo
from ops.exit_codes import exit_code
from protocol import errors
from tests.support.fresh_python import loaded_by, run_python

HEAVY = ("numpy", "aio_pika", "pika", "aiohttp", "rich", "msgpack", "prometheus_client", "sqlite3")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_exists_and_explains_itself(name: str) -> None:
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command is not None
    assert command.help


def test_an_unknown_command_is_not_found() -> None:
    assert cli.cli.get_command(click.Context(cli.cli), "none") is None


def test_commands_that_only_ask_load_neither_numpy_nor_a_scheduler() -> None:
    lines = "import ops.commands.queries, producer.status_table"
    assert not loaded_by(lines, "numpy", "producer.scheduler", "producer.runfile")


def test_help_lists_all_commands_and_imports_none_of_the_heavy_packages() -> None:
    lines = "from ops.cli import cli; cli(['--help'], standalone_mode=False)"
    assert not loaded_by(lines, *HEAVY)
    shown = run_python(lines).stdout
    for name, (_, summary) in cli.COMMANDS.items():
        assert name in shown
        assert summary[:20] in shown


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raises: BaseException
) -> tuple[int, str]:
    """Return exit code and stderr of a command that raises this."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise raises

    monkeypatch.setattr(cli.cli, "invoke", fail)
    monkeypatch.setattr(sys, "argv", ["montemq", "status"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.MontemqError("x"), 1),
        (errors.UsageError("x"), 2),
        (errors.UnknownRunError("x"), 2),
        (errors.BrokerUnreachableError("x"), 3),
        (errors.BrokerRefusedError("x"), 3),
        (errors.TopologyMissingError("x"), 3),
        (errors.NoAggregatorError("x"), 3),
        (errors.TimedOutError("x"), 4),
        (errors.RunFailedError("x"), 5),
        (errors.RunIdTakenError("x"), 6),
        (errors.RunCancelledError("x"), 7),
        (errors.RunInterruptedError("x"), 130),
    ],
)
def test_each_error_is_one_sentence_and_its_exit_code(
    error: errors.MontemqError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, capsys, error) == (code, "montemq: x\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_is_130(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(monkeypatch, capsys, error)
    assert (code, text.strip()) == (130, "")


def test_wrong_usage_is_2_and_says_what(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = run(monkeypatch, capsys, click.UsageError("No such option: --x"))
    assert code == 2
    assert "No such option: --x" in text


def test_the_demonstration_ends_with_the_same_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise errors.RunFailedError("x")

    monkeypatch.setattr(demo.demo, "invoke", fail)
    monkeypatch.setattr(sys, "argv", ["demo"])
    assert (demo.main(), capsys.readouterr().err) == (5, "demo: x\n")


def test_output_that_nobody_takes_any_more_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> NoReturn:
        raise BrokenPipeError

    monkeypatch.setattr(sys.stdout, "flush", fail)
    assert exit_code("montemq", lambda: None) == 0
    monkeypatch.undo()
    sys.stdout.write("lost")
    sys.stdout.flush()
    assert capfd.readouterr().out == ""
