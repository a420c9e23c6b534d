"""A consumer's configuration file: the options under their own names, and nothing else."""

import re
from pathlib import Path
from typing import Any

import click
import pytest

from ops.commands.config_file import _options
from ops.commands.services import consumer
from ops.exit_codes import exit_code

EXAMPLE = Path(__file__).parents[2] / "ops" / "consumer.toml"


def options_of(text: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Return what the command would be called with."""
    file = folder / "consumer.toml"
    file.write_text(text, encoding="utf-8")
    with consumer.make_context("consumer", ["--config", str(file), *arguments]) as context:
        return context.params


def test_a_file_gives_options_and_flags_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONTEMQ_AMQP_URL", "amqp://environment/")
    text = """
        slots = 3
        hours = "sat-sun"
        max-load = 2
        pause-on-battery = true
        pause-program = ["a", "b"]
        min-free-memory = "2G"
        amqp-url = "amqp://file/"
    """
    found = options_of(text, tmp_path, "--slots", "5")
    assert found["slots"] == 5
    assert found["hours"] == "sat-sun"
    assert found["max_load"] == 2.0
    assert found["pause_on_battery"] is True
    assert found["pause_programs"] == ("a", "b")
    assert found["min_free_memory"] == 2 << 30
    assert found["amqp_url"] == "amqp://environment/"
    assert options_of(text, tmp_path)["slots"] == 3


def test_without_a_file_everything_is_as_it_was() -> None:
    with consumer.make_context("consumer", []) as context:
        assert context.default_map is None


def test_every_line_of_the_example_may_stand_in_a_file_and_no_option_is_left_out(
    tmp_path: Path,
) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    whole = re.sub(r"^# (?=[a-z-]+ = )", "", text, flags=re.MULTILINE)
    assert options_of(text, tmp_path)["pause_when_active"] is True
    assert options_of(whole, tmp_path)["pause_programs"] == ("blender", "steam")
    named = set(re.findall(r"^([a-z-]+) = ", whole, re.MULTILINE))
    assert set(_options(consumer)) - named == {"model-file", "ready-file"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slotz = 3", "slotz is no option here; options are slots, pool, nice, hours,"),
        ("config = 'x'", "config is no option here"),
        ("slots = '3'", "slots = '3' must be a whole number"),
        ("slots = true", "slots = True must be a whole number"),
        ("slots = 0", "slots = 0: 0 is not in the range 1<=x<=1024"),
        ("slots = [1]", "slots = [1] must be a whole number"),
        ("max-load = 'low'", "max-load = 'low' must be a number"),
        ("hours = 3", "hours = 3 must be a text"),
        ("pause-on-battery = 1", "pause-on-battery = 1 must be true or false"),
        ("pause-program = 'a'", "pause-program = 'a' must be a list of texts"),
        ("pause-program = [1]", "pause-program = [1] must be a list of texts"),
        ("on-suspend = 'now'", "on-suspend = 'now': 'now' is not one of 'finish', 'return'"),
        ("[rules]\nhours = 'sat'", "rules is no option here"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("montemq", lambda: options_of(text, tmp_path)) == 2
    assert capsys.readouterr().err.startswith(f"montemq: {tmp_path}/consumer.toml: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slots = ", "is no TOML: Invalid value"),
        ("min-free-memory = 'lots'", "--min-free-memory = 'lots' must read like 512M or 2G"),
        ("slot-memory = '63M'", "--slot-memory = '63M' must be at least 64M"),
        ("pause-program = ['a', ' ']", "--pause-program = ' ' must be the name of a program"),
    ],
)
def test_so_is_what_is_no_toml_or_of_no_use(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("montemq", lambda: options_of(text, tmp_path)) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> click.Context:
        return consumer.make_context("consumer", ["--config", "/nowhere/x.toml"])

    assert exit_code("montemq", read) == 2
    assert "the configuration /nowhere/x.toml cannot be read" in capsys.readouterr().err
