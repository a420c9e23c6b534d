"""What `montemq models` shows: every fact of every parameter, aligned, in the asked width."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.commands.models import describe, layout, models
from protocol import registry
from protocol.model_file import ModelFile
from protocol.registry import load_model, model_names

SOURCE = """
from typing import Annotated
from pydantic import Field
from protocol.model import GeneratorModel

class Queue(GeneratorModel):
    name = "queue"
    outputs = ("wait", "length")

    servers: int = Field(ge=1, lt=65, multiple_of=2, description="How many serve")
    load: float = Field(0.5, gt=0, lt=1, description="Share of time that they are busy")
    label: str = Field("a", min_length=1, max_length=9, pattern="^[a-z]+$")
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0,), min_length=1, max_length=3)

    def sample(self, rng, n):
        return rng.random((n, 2))
"""


@pytest.fixture
def queue(tmp_path: Path) -> str:
    path = tmp_path / "queue_model.py"
    path.write_text(SOURCE, encoding="utf-8")
    return f"{path}:Queue"


@pytest.mark.parametrize("name", model_names())
def test_every_model_says_what_it_takes_and_gives(name: str) -> None:
    found = describe(load_model(name))
    assert found["model"] == name
    assert found["summary"].endswith(".")
    assert found["outputs"]
    assert "pseudo" in found["methods"]
    shown = layout(found, 80)
    for parameter in found["parameters"]:
        assert parameter["description"]
        assert f"\n    {parameter['name']}  " in shown


@pytest.mark.parametrize("width", [50, 80, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for name in model_names():
        assert max(map(len, layout(describe(load_model(name)), width).splitlines())) <= width


def test_the_asian_option_has_units_bounds_and_defaults() -> None:
    text = " ".join(layout(describe(load_model("asian")), 80).split())
    assert (
        "Price of the underlying at time 0 (number, currency, at least 1e-09, at most 1000000000"
        in text
    )
    assert "(call|put" in text.replace("strike", "")
    assert "default 252" in text


def test_all_bounds_are_shown(queue: str) -> None:
    model = ModelFile.read(queue).load()
    text = " ".join(layout(describe(model), 80).split())
    assert text == (
        f"queue (version {model.version}): (no docstring) "
        "outputs wait, length sampling pseudo; block size 1024 parameters "
        "servers How many serve (integer, at least 1, below 65, a multiple of 2, required) "
        "load Share of time that they are busy (number, above 0, below 1, default 0.5) "
        "label (string, characters: at least 1, characters: at most 9, matching ^[a-z]+$, "
        "default a) rates (list of number, above 0, items: at least 1, items: at most 3, "
        "default [1.0])"
    )


def test_a_model_file_is_listed_beside_the_installed_models(queue: str) -> None:
    done = CliRunner().invoke(models, ["--json", "--model-file", queue], catch_exceptions=False)
    listed = [model["model"] for model in json.loads(done.stdout)]
    assert listed == sorted([*model_names(), "queue"])


def test_a_model_that_cannot_be_loaded_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = EntryPoint("broken", "no_such_package:Broken", registry.GROUP)
    monkeypatch.setitem(registry._entries(), "broken", broken)
    done = CliRunner().invoke(models, ["--json"], catch_exceptions=False)
    assert {"pi", "asian"} <= {model["model"] for model in json.loads(done.stdout)}
    assert done.stderr.startswith("montemq: model 'broken' (no_such_package:Broken) cannot be load")
    assert CliRunner().invoke(models, ["broken"]).exit_code == 1


def test_one_model_is_one_object(queue: str) -> None:
    words = ["queue", "--json", "--model-file", queue]
    shown = json.loads(CliRunner().invoke(models, words, catch_exceptions=False).stdout)
    assert (shown["model"], shown["outputs"]) == ("queue", ["wait", "length"])
    assert shown["parameters"][1]["exclusiveMaximum"] == 1
