"""The checks of a model: each finds the mistake that it is for, and a sound model passes all."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from consumer.model_check.blocks import Subject
from consumer.model_check.checks import check_model
from consumer.model_check.findings import Check, Outcome
from ops.commands.models import models
from protocol.errors import CheckFailedError, UsageError
from protocol.model_file import ModelFile

HEAD = """
import multiprocessing
import os
import numpy as np
from protocol.model import GeneratorModel, Model

def place(rng):
    block, cell = rng.bit_generator.state["state"]["counter"][2:]
    return float(block), float(cell)

KEPT = []

class Tried(GeneratorModel):
    name = "tried"
    outputs = ("first", "second")
    block_size = 256
    base: float = 0.0

    def sample(self, rng, n):
        x = self.base + rng.standard_normal((n, 2))
        {wrong}
        return x
"""
LAST_HERE = "speed"
"""The last check before those that start processes."""
INDEPENDENCE = {"blocks uncorrelated", "cells uncorrelated", "samples independent"}


def write(folder: Path, source: str) -> str:
    path = folder / "tried.py"
    path.write_text(source, encoding="utf-8")
    return f"{path}:Tried"


def checked(folder: Path, source: str, *, last: str | None = None) -> dict[str, Check]:
    """Return the checks of a model, up to the last one that is asked for."""
    subject = Subject("tried", {}, files=(ModelFile.read(write(folder, source)),))
    found: dict[str, Check] = {}
    for check in check_model(subject):
        found[check.name] = check
        if check.name == last:
            break
    return found


def failed(folder: Path, wrong: str, *, last: str | None = None) -> dict[str, str]:
    """Return the failed checks of a model with this line in its `sample`."""
    found = checked(folder, HEAD.format(wrong=wrong), last=last)
    return {name: c.text for name, c in found.items() if c.outcome is Outcome.FAILED}


def test_a_sound_model_passes_every_check(tmp_path: Path) -> None:
    found = checked(tmp_path, HEAD.format(wrong="pass"))
    assert {name: check.outcome.value for name, check in found.items()} == {
        "runs": "ok",
        "moments": "ok",
        "finite": "ok",
        "same bits twice": "ok",
        "same bits in reverse order": "ok",
        "different bits in different blocks": "ok",
        "blocks uncorrelated": "ok",
        "cells uncorrelated": "ok",
        "samples independent": "ok",
        "speed": "info",
        "same bits in a fresh process": "ok",
        "same bits in a fresh process in reverse order": "ok",
        "loading": "info",
        "memory": "info",
    }
    assert found["runs"].text == "blocks of 2, 6, 256 samples; columns first, second"
    assert float(found["loading"].text.split(" s of CPU")[0]) < 10
    assert "MiB of it for the model" in found["memory"].text
    assert "suggested block_size = " in found["speed"].text


@pytest.mark.parametrize("distribution", ["x = np.exp(3 * x)", "x = (x > 0).astype(float)"])
def test_heavy_tails_and_coins_are_no_mistakes(tmp_path: Path, distribution: str) -> None:
    assert failed(tmp_path, distribution, last=LAST_HERE) == {}


def test_rare_events_and_constants_are_not_judged(tmp_path: Path) -> None:
    found = checked(
        tmp_path, HEAD.format(wrong="x = (x > 4).astype(float); x[:, 1] = 7"), last=LAST_HERE
    )
    unknown = {name for name, check in found.items() if check.outcome is Outcome.UNKNOWN}
    assert unknown == INDEPENDENCE | {"different bits in different blocks"}
    assert not [check for check in found.values() if check.outcome is Outcome.FAILED]


def test_an_error_is_shown_with_its_line_and_ends_the_checks(tmp_path: Path) -> None:
    found = checked(tmp_path, HEAD.format(wrong="x = x[0, 5]"))
    assert list(found) == ["runs"]
    assert found["runs"].outcome is Outcome.FAILED
    assert found["runs"].text == (
        "cell 0, block 0 of 2 samples: IndexError: index 5 is out of bounds for axis 1 with size 2 "
        "(tried.py, line 21)"
    )


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("x = x[:, 0]", "sample returned shape (2,), expected (2, 2)"),
        ("x = x.T if n > 2 else x", "sample returned shape (2, 6), expected (6, 2)"),
        ("x = np.full((n, 2), 'a')", "could not convert string to float: np.str_('a')"),
    ],
)
def test_another_shape_or_type_is_found(tmp_path: Path, wrong: str, text: str) -> None:
    assert text in failed(tmp_path, wrong)["runs"]


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ("np.zeros((2, stream.size), dtype=np.float32)", "an array of float32, expected float64"),
        ("np.zeros((stream.size, 2))", "shape (2, 2), expected (1, 2)"),
        ("[[0.0] * stream.size]", "an array of list, expected float64"),
    ],
)
def test_a_model_without_generator_is_held_to_the_same(
    tmp_path: Path, returned: str, text: str
) -> None:
    source = f"""
import numpy as np
from protocol.model import Model

class Tried(Model):
    name = "tried"
    outputs = ("x",)

    def samples(self, stream, sampling, outputs):
        return {returned}
"""
    assert text in checked(tmp_path, source)["runs"].text


def test_a_rare_nan_is_found_and_named(tmp_path: Path) -> None:
    found = failed(tmp_path, "x[:, 1] = np.where(x[:, 1] > 4, np.nan, x[:, 1])")
    assert list(found) == ["finite"]
    assert "NaN or an infinity in second" in found["finite"]


def test_randomness_of_its_own_is_found(tmp_path: Path) -> None:
    found = failed(tmp_path, "x = np.random.default_rng().standard_normal((n, 2))")
    assert {name for name in found if name.startswith("same bits")} == {
        "same bits twice",
        "same bits in reverse order",
        "same bits in a fresh process",
        "same bits in a fresh process in reverse order",
    }
    assert found["same bits twice"].startswith("15 of 15 differ, cell 0, block 0 first: does it")


def test_a_count_of_calls_is_found(tmp_path: Path) -> None:
    found = failed(tmp_path, "KEPT.append(n); x += len(KEPT)", last=LAST_HERE)
    assert "same bits twice" in found


def test_what_the_first_call_leaves_to_the_others_is_found(tmp_path: Path) -> None:
    wrong = "KEPT or KEPT.append(place(rng)); x += 1e-9 * (KEPT[0][0] + KEPT[0][1])"
    assert failed(tmp_path, wrong).keys() == {
        "same bits in reverse order",
        "same bits in a fresh process in reverse order",
    }


def test_what_depends_on_the_process_is_found(tmp_path: Path) -> None:
    assert failed(tmp_path, "x += os.getpid()").keys() == {
        "same bits in a fresh process",
        "same bits in a fresh process in reverse order",
    }


def test_a_model_that_ends_its_process_is_found(tmp_path: Path) -> None:
    found = failed(tmp_path, "multiprocessing.parent_process() and os._exit(7)")
    assert found == {"runs": "in a fresh process: it died"}


def test_an_error_in_a_fresh_process_only_is_found(tmp_path: Path) -> None:
    found = failed(tmp_path, "x /= 1 if multiprocessing.parent_process() is None else '1'")
    assert found["runs"].startswith("in a fresh process: cell 0, block 0 of 256 samples: ")


@pytest.mark.parametrize(
    ("draws", "text"),
    [
        ("np.random.default_rng(1)", "cell 0, block 0 and cell 0, block 1 are the same"),
        (
            "np.random.default_rng([0, int(place(rng)[0]) % 100, 5])",
            "block 0 and cell 0, block 100",
        ),
        ("np.random.default_rng([int(place(rng)[0]), 5])", "block 0 and cell 1, block 0 are"),
        (
            "np.random.default_rng([int(i) for i in place(rng)])",
            "0, block 0 under another seed are",
        ),
    ],
)
def test_draws_from_anything_but_the_stream_are_found(
    tmp_path: Path, draws: str, text: str
) -> None:
    found = failed(tmp_path, f"x = {draws}.standard_normal((n, 2))", last=LAST_HERE)
    assert found.keys() - INDEPENDENCE == {"different bits in different blocks"}
    assert text in found["different bits in different blocks"]


@pytest.mark.parametrize(("axis", "name"), [(0, "blocks"), (1, "cells")])
def test_correlated_neighbours_are_found(tmp_path: Path, axis: int, name: str) -> None:
    found = failed(tmp_path, f"x[:, 1] += 0.1 * np.sin(place(rng)[{axis}] / 5)", last=LAST_HERE)
    assert found.keys() - {"samples independent"} == {f"{name} uncorrelated"}
    assert found[f"{name} uncorrelated"].startswith("second is off by +")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("x[:, 0] += rng.standard_normal()", "first is off by +"),
        ("x[:, 1] = rng.standard_normal()", "second is off by +inf"),
        ("x[:, 0] = np.arange(n) + rng.random(n)", "first is off by -"),
        ("x[:, 1] = rng.permutation(n) + rng.random(n)", "second is off by -"),
        ("x[n // 2:] = -x[:n // 2]", "is off by -"),
    ],
)
def test_samples_of_a_block_that_depend_on_each_other_are_found(
    tmp_path: Path, wrong: str, text: str
) -> None:
    found = failed(tmp_path, wrong, last=LAST_HERE)
    assert found.keys() == {"samples independent"}
    assert text in found["samples independent"]


CONTROLLED = """
import numpy as np
from protocol.definition import Method
from protocol.model import Model, moments
from protocol.streams import generator_tag

class Tried(Model):
    name = "tried"
    outputs = ("x",)
    controls = ("c",)
    methods = (Method.PSEUDO,)
    block_size = 64

    def samples(self, stream, sampling, outputs):
        z = stream.generator(1).standard_normal((2, stream.size))
        rows = [z[0] + z[1], z[1] + {shift}]
        return np.array(rows if sampling.control_variates else rows[:1])

    def simulate(self, stream, sampling, outputs):
        samples = self.samples(stream, sampling, outputs)
        samples[0, 0] += {error}
        return moments(samples, 1)
"""


def test_a_control_that_is_not_centred_is_found(tmp_path: Path) -> None:
    sound = checked(tmp_path, CONTROLLED.format(shift=0, error=0), last=LAST_HERE)
    assert sound["controls centred"].outcome is Outcome.OK
    assert sound["runs"].text.endswith("columns x, c")
    biased = checked(tmp_path, CONTROLLED.format(shift=0.1, error=0), last=LAST_HERE)[
        "controls centred"
    ]
    assert biased.outcome is Outcome.FAILED
    assert biased.text.startswith("c is off by +")


def test_moments_that_are_not_those_of_the_samples_are_found(tmp_path: Path) -> None:
    found = checked(tmp_path, CONTROLLED.format(shift=0, error=0.001), last=LAST_HERE)["moments"]
    assert found.outcome is Outcome.FAILED
    assert found.text == "`simulate` and `samples` differ in the sum of x"


def test_the_suggested_block_size_takes_a_few_milliseconds(tmp_path: Path) -> None:
    burn = "sum(sum(range(1000)) for _ in range(n))"
    text = checked(tmp_path, HEAD.format(wrong=burn), last=LAST_HERE)["speed"].text
    size, taken = text.split("suggested block_size = ")[1].rstrip("ms)").split(" (")
    assert int(size).bit_count() == 1
    assert 5 <= float(taken) < 100


def test_unknown_models_and_parameters_are_refused(tmp_path: Path) -> None:
    file = ModelFile.read(write(tmp_path, HEAD.format(wrong="pass")))
    with pytest.raises(UsageError, match="is not installed"):
        next(check_model(Subject("none", {}, files=(file,))))
    with pytest.raises(UsageError, match=r"params\.base = 'a' is not allowed"):
        next(check_model(Subject("tried", {"base": "a"}, files=(file,))))


def test_the_command_ends_well_for_a_sound_model(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD.format(wrong="print('hello')"))
    words = ["tried", "--check", "--set", "base=2.5", "--json", "--model-file", file]
    done = CliRunner().invoke(models, words, catch_exceptions=False)
    shown = json.loads(done.stdout)
    assert (done.exit_code, shown["ok"], shown["params"]) == (0, True, {"base": 2.5})
    assert {check["method"] for check in shown["checks"]} == {"pseudo"}
    assert [check["outcome"] for check in shown["checks"]].count("ok") == 11


def test_the_command_exits_5_and_names_what_failed(tmp_path: Path) -> None:
    file = write(tmp_path, HEAD.format(wrong="x[:, 0] += rng.standard_normal()"))
    words = ["tried", "--check", "--model-file", file]
    done = CliRunner().invoke(models, words)
    assert isinstance(done.exception, CheckFailedError)
    assert done.exception.exit_code == 5
    assert str(done.exception) == "model 'tried' failed 1 of 14 checks: samples independent"
    lines = done.stdout.splitlines()
    assert len(lines) == 14
    assert [line for line in lines if line.startswith("FAILED  samples independent: first is off")]


@pytest.mark.parametrize("words", [["--check"], ["pi", "--set", "a=1"]])
def test_check_needs_a_model_and_set_needs_check(words: list[str]) -> None:
    done = CliRunner().invoke(models, words)
    assert done.exit_code == 2
    assert "--check needs MODEL, and --set needs --check" in done.stderr
