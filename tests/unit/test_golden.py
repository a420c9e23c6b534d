"""Golden chunks: the record, and what happens where a bit differs from it."""

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from consumer import golden
from consumer.models.asian import Asian
from protocol.errors import OtherBitsError
from protocol.registry import GROUP, load_model

ROOT = Path(__file__).parents[2]


def test_every_golden_chunk_has_the_bits_on_record() -> None:
    golden.check()


def test_the_record_names_the_golden_chunks_and_nothing_else() -> None:
    assert sorted(case.name for case in golden.cases()) == sorted(golden.recorded())


def test_every_model_of_this_project_has_golden_chunks_for_all_its_methods() -> None:
    modules = {entry.name: entry.module for entry in entry_points(group=GROUP)}
    builtin = {name for name in modules if modules[name].startswith("consumer.models.")}
    assert builtin == golden.PARAMS.keys()
    for name in builtin:
        found = {case.chunk.sampling.method for case in golden.cases() if case.chunk.model == name}
        assert found == set(load_model(name).methods)


def test_one_bit_of_difference_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same model under another seed: what a CPU that computes differently would look like.
    monkeypatch.setattr(golden, "SEED", golden.SEED + 1)
    with pytest.raises(OtherBitsError, match=r"model 'pi' gives other bits .* CPU \w+ with"):
        golden.check()


def test_a_chunk_that_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asian, "samples", lambda *_: 1 / 0)
    with pytest.raises(OtherBitsError, match="golden chunk 'asian 0 pseudo' failed: ZeroDivision"):
        golden.check()


def test_the_record_is_sorted_text_that_a_diff_can_show() -> None:
    text = golden.RECORD.read_text(encoding="ascii")
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
