"""What `submit` takes: the same runs, and the same sentences, as from a run file."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from producer.rpc import valid
from producer.run_sections import RunFile, parse
from producer.runfile import Submission, submission
from producer.sections import RUN_FIELDS, Sections, prepare
from protocol.definition import Lane
from protocol.errors import UsageError
from protocol.rpc_messages import StatusRequest

FILE = """\
[run]
model = "asian"
id = "book-1"
seed = 7
pool = "gpu"
lane = "high"
[params]
spot = 95.0
[[cells]]
strike = 90.0
[[cells]]
strike = 100.0
[sweep]
option_type = ["call", "put"]
[sampling]
method = "sobol"
block_size = 2048
[outputs]
names = ["price"]
[stop]
samples = 100_000
"""

SECTIONS: Sections = {
    "id": "book-1",
    "seed": 7,
    "pool": "gpu",
    "lane": "high",
    "params": {"spot": 95.0},
    "cells": [{"strike": 90.0}, {"strike": 100.0}],
    "sweep": {"option_type": ["call", "put"]},
    "sampling": {"method": "sobol", "block_size": 2048},
    "outputs": {"names": ["price"]},
    "stop": {"samples": 100_000},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "book.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_file_its_sections_and_keywords_give_the_same_submission(file: Path) -> None:
    run = {name: SECTIONS[name] for name in RUN_FIELDS}  # type: ignore[literal-required]
    rest = {name: value for name, value in SECTIONS.items() if name not in RUN_FIELDS}
    from_file = prepare(file)
    assert from_file.pool == "gpu"
    assert from_file.lane is Lane.HIGH
    assert len(from_file.definition.cells) == 4
    assert prepare("asian", **SECTIONS) == from_file
    assert prepare({"run": run | {"model": "asian"}, **rest}) == from_file


def test_a_submission_is_taken_as_it_is_and_nothing_can_be_laid_over_it(file: Path) -> None:
    found = prepare(file)
    assert prepare(found) is found
    with pytest.raises(UsageError, match="id, seed came too late for a submission"):
        prepare(found, id="other", seed=1)


def test_keywords_lie_over_a_file_field_by_field_and_cells_as_a_whole(file: Path) -> None:
    laid = prepare(file, id="x", params={"rate": 0.1}, cells=[{"strike": 1.0}])
    assert laid.run == "x"
    assert laid.definition.seed == 7
    assert [cell["strike"] for cell in laid.definition.cells] == [1.0, 1.0]
    assert {(cell["spot"], cell["rate"]) for cell in laid.definition.cells} == {(95.0, 0.1)}


def test_any_mapping_and_any_sequence_will_do() -> None:
    given: Any = {
        "params": MappingProxyType({"spot": 95.0}),
        "sweep": {"strike": range(90, 101, 10), "option_type": ("call", "put")},
    }
    assert len(prepare("asian", **given).definition.cells) == 4


def test_the_keywords_are_all_that_a_run_file_can_say() -> None:
    fields = RunFile.model_fields
    of_run = [*fields["run"].annotation.model_fields]  # type: ignore[union-attr]
    assert {*of_run} - {"model"} == {*RUN_FIELDS}
    assert {*Sections.__annotations__} == {*RUN_FIELDS, *fields} - {"run"}


def complaint(call: Any) -> str:
    with pytest.raises(UsageError) as refused:
        call()
    return str(refused.value)


@pytest.mark.parametrize(
    "sections",
    [
        {"params": {"strike": -1.0}},
        {"params": {"strikes": 1.0}},
        {"cells": [{"strike": "high"}]},
        {"sweep": {"strike": []}},
        {"sampling": {"method": "magic"}},
        {"sampling": {"methods": "pseudo"}},
        {"outputs": {"names": ["gamma ray"]}},
        {"stop": {"samples": 0}},
        {"stop": 5},
        {"params": 5},
    ],
)
def test_what_is_wrong_is_said_as_for_a_run_file(sections: Any) -> None:
    def from_file() -> Submission:
        return submission(parse({"run": {"model": "asian"}, **sections}, "submit"), where="submit")

    assert complaint(lambda: prepare("asian", **sections)) == complaint(from_file)


@pytest.mark.parametrize(
    ("what", "sections", "sentence"),
    [
        ("asian", {"samples": 5}, "submit: samples is unknown; allowed are id, seed, pool, lane,"),
        ("asian", {"id": "a.b"}, "submit: run.id = 'a.b' is not allowed"),
        ("asian", {"seed": -1}, "submit: run.seed = -1 is not allowed"),
        ("asian", {"seed": True}, "submit: run.seed = True is not allowed"),
        ("asian", {"lane": "fast"}, "submit: run.lane = 'fast' is not allowed"),
        ("asian", {"stop": 5}, "stop = 5 is not allowed: it should be a table of names and values"),
        ("asian", {"id": "a b"}, "a run id is A-Z, a-z, 0-9, _ and -, begins with a letter or"),
        (
            "asian",
            {"params": {"fixing_times": []}},
            "is not allowed: it should have at least 1 item",
        ),
        ("nightly.toml", {}, "nightly.toml"),
        ({"params": {}}, {}, "run.model is missing"),
        (3, {}, "submit: 3 is no run: it should be the name of a model, the Path of a run file,"),
        (None, {"seed": 1}, "submit: None is no run: it should be"),
        (Path("/nowhere.toml"), {}, "the run file /nowhere.toml cannot be read"),
    ],
)
def test_a_wrong_keyword_or_run_gets_one_sentence(what: Any, sections: Any, sentence: str) -> None:
    said = complaint(lambda: prepare(what, **sections))
    assert sentence in said
    assert "\n" not in said


def test_an_impossible_run_id_is_refused_in_words_before_anything_is_asked() -> None:
    said = complaint(lambda: valid(lambda: StatusRequest(run="a b")))
    assert said.startswith("run = 'a b': a run id is A-Z, a-z, 0-9, _ and -, begins with")
