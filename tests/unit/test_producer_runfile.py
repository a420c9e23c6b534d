"""Run files and settings: what they become, and the sentence for each way to get them wrong."""

import re
from pathlib import Path
from typing import Any

import pytest

from producer.run_sections import MAX_FILE_BYTES, parse, read_run_file, setting
from producer.runfile import Submission, submission
from protocol.definition import DEFAULT_SAMPLES, Lane, Method, RunId, Stop
from protocol.errors import UsageError
from protocol.messages import decode, encode
from protocol.rpc_messages import Declare

FULL = """\
[run]
model = "asian"
id = "book-1"
seed = 18446744073709551615
pool = "gpu"
lane = "high"
[params]
spot = 95.0
[[cells]]
strike = 90
[[cells]]
strike = 100
fixing_times = [0.5, 1.0]
[sweep]
volatility = [0.1, 0.2, 0.3]
option_type = ["call", "put"]
[sampling]
method = "pseudo"
block_size = 2048
common_random_numbers = true
[stop]
samples = 100_000
confidence = 0.99
"""


def read(tmp_path: Path, text: str | bytes) -> Submission:
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return submission(read_run_file(path))


def complaint(text: str, tmp_path: Path) -> str:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, text)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence.replace(f"{tmp_path}/", "")


def from_model(model: str = "asian", *settings: str, **sections: Any) -> Submission:
    content = {"run": {"model": model}} | sections
    return submission(parse(content, "test"), [setting(text) for text in settings])


# When it stops


def stop_of(text: str, tmp_path: Path) -> Stop:
    return read(tmp_path, f"run.model = 'asian'\n{text}").definition.stop


def test_a_target_is_of_the_first_output_unless_others_are_named(tmp_path: Path) -> None:
    assert stop_of("stop.standard_error = 1", tmp_path).outputs == ("price",)
    named = "stop = { relative_error = 0.01, outputs = ['delta', 'price_bump'] }"
    found = stop_of(f"{named}\n[outputs]\nbump = {{ volatility = 0.01 }}", tmp_path)
    assert found == Stop(
        samples=2**36, relative_error=0.01, outputs=("delta", "price_bump")
    )  # fmt: skip


def test_the_sample_limit_is_high_where_something_else_ends_a_cell(tmp_path: Path) -> None:
    assert stop_of("", tmp_path).samples == 2**20
    for rule in ("standard_error = 0.1", "relative_error = 0.1", "seconds = 60"):
        assert stop_of(f"stop.{rule}", tmp_path).samples == 2**36
        given = stop_of(f"stop = {{ {rule}, samples = 1000 }}", tmp_path)
        assert given.samples == 1000
    small = stop_of("stop.seconds = 1\nsampling.block_size = 2", tmp_path)
    assert small.samples == 2 * 2**32


def test_a_target_goes_with_all_that_a_run_can_report(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """\
run.model = "european"
stop = { standard_error = 0.01, relative_error = 0.001, seconds = 5, confidence = 0.9 }
sampling = { method = "sobol", control_variates = true }
outputs = { names = ["price"], quantiles = [0.5], bump = { spot = 1.0 } }
""",
    ).definition
    assert found.stop == Stop(
        samples=2**36, standard_error=0.01, relative_error=0.001, outputs=("price",), seconds=5.0,
        confidence=0.9,
    )  # fmt: skip
    assert decode(Declare.type, encode(read(tmp_path, FULL).declaration), Declare)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("standard_error = 0", "run.toml: stop.standard_error = 0 is not allowed: "),
        ("standard_error = nan", "run.toml: stop.standard_error = nan is not allowed: "),
        ("standard_error = inf", "run.toml: stop.standard_error = inf is not allowed: "),
        ("relative_error = 1.5", "run.toml: stop.relative_error = 1.5 is not allowed: "),
        ("relative_error = -1", "run.toml: stop.relative_error = -1 is not allowed: "),
        ("seconds = 0", "run.toml: stop.seconds = 0 is not allowed: "),
        ("seconds = 1e10", "run.toml: stop.seconds = 10000000000.0 is not allowed: "),
        (
            "outputs = ['delta']",
            "stop.outputs are named if and only if there is a stop.standard_error or ",
        ),
        (
            "standard_error = 1.0\nstop.outputs = ['rho']",
            "stop.outputs: the run reports no 'rho'; allowed are price, delta, vega, gamma",
        ),
        (
            "standard_error = 1.0\nstop.outputs = ['delta', 'delta']",
            "run.toml: stop.outputs = ['delta', 'delta'] is not allowed: ",
        ),
    ],
)
def test_a_wrong_stopping_rule_is_refused_in_one_sentence(
    rule: str, expected: str, tmp_path: Path
) -> None:
    text = f"run.model = 'asian'\nstop.{rule}"
    assert complaint(text, tmp_path).startswith(expected)


# What a file becomes


def test_every_section_reaches_the_submission(tmp_path: Path) -> None:
    found = read(tmp_path, FULL)
    definition = found.definition
    assert (found.run, found.pool, found.lane) == ("book-1", "gpu", Lane.HIGH)
    assert (definition.model, definition.seed, definition.block_size) == ("asian", 2**64 - 1, 2048)
    assert definition.outputs == ("price", "delta", "vega", "gamma")
    assert definition.sampling.method is Method.PSEUDO
    assert definition.sampling.common_random_numbers
    assert (definition.stop.samples, definition.stop.confidence) == (100_000, 0.99)


def test_cells_times_sweep_is_a_cartesian_product_in_the_order_of_the_file(tmp_path: Path) -> None:
    cells = read(tmp_path, FULL).definition.cells
    assert [(c["strike"], c["volatility"], c["option_type"]) for c in cells] == [
        (strike, volatility, kind)
        for strike in (90.0, 100.0)
        for volatility in (0.1, 0.2, 0.3)
        for kind in ("call", "put")
    ]
    assert {c["spot"] for c in cells} == {95.0}


def test_a_submission_can_be_declared(tmp_path: Path) -> None:
    found = read(tmp_path, FULL)
    request = decode(Declare.type, encode(found.declaration), Declare)
    assert request == found.declaration
    assert request.definition.hash == found.definition.hash


def test_a_model_alone_is_a_run_of_one_cell_with_defaults() -> None:
    found = from_model("pi")
    assert found.definition.cells == ({},)
    assert (found.pool, found.lane) == ("default", Lane.NORMAL)
    assert found.definition.stop.samples == DEFAULT_SAMPLES
    assert found.definition.block_size == 65_536


def test_a_model_may_need_fewer_samples_than_others() -> None:
    assert from_model("backtest").definition.stop.samples == 4096


def test_seed_and_id_are_fresh_unless_given() -> None:
    one, two = from_model("pi"), from_model("pi")
    assert one.definition.seed != two.definition.seed
    assert one.run != two.run
    assert one.run.startswith("pi-")


def test_an_integer_stands_for_a_float_and_defaults_are_part_of_the_definition() -> None:
    [cell] = from_model("asian", "strike=90").definition.cells
    assert cell["strike"] == 90.0
    assert type(cell["strike"]) is float
    assert cell["volatility"] == 0.2


def test_settings_override_params() -> None:
    found = from_model("asian", "strike=90", params={"strike": 80.0, "spot": 70.0})
    assert (found.definition.cells[0]["strike"], found.definition.cells[0]["spot"]) == (90.0, 70.0)


# Settings of the command line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k=1", 1),
        ("k=-2.5", -2.5),
        ("k=1e3", 1000.0),
        ("k=true", True),
        ('k="put"', "put"),
        ("k=put", "put"),
        (" k = average_price ", "average_price"),
        ("k=[0.5, 1.0]", [0.5, 1.0]),
        ("k=[1,", "[1,"),
        ("k=", ""),
        ("k=a=b", "a=b"),
        ("k=True", "True"),
        ("k=1\nother = 2", "1\nother = 2"),
        ("k=" + "[" * 5000, "[" * 5000),
    ],
)
def test_a_setting_is_a_toml_value_or_a_bare_word(text: str, expected: object) -> None:
    name, value = setting(text)
    assert (name, value) == ("k", expected)
    assert type(value) is type(expected)


@pytest.mark.parametrize("text", ["strike", "=5", " = 5", ""])
def test_a_setting_without_name_or_value_is_explained(text: str) -> None:
    with pytest.raises(UsageError, match="must read name=value"):
        setting(text)


# Complaints about the file


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(UsageError, match=f"the run file {path} cannot be read: [A-Z]"):
            read_run_file(path)


def test_bad_toml_names_the_line(tmp_path: Path) -> None:
    text = complaint('[run]\nmodel = "pi\n', tmp_path)
    assert text.startswith("the run file run.toml is not valid TOML: ")
    assert "line 2" in text


def test_bytes_that_are_no_text_are_not_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not valid TOML"):
        read(tmp_path, b"\xff\xfe")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    text = complaint("k = " + "[" * 100_000, tmp_path)
    assert text == "the run file run.toml is nested too deeply"
    with pytest.raises(UsageError, match=f"allowed are {MAX_FILE_BYTES}"):
        read(tmp_path, b"#" * (MAX_FILE_BYTES + 1))


# Complaints about its sections


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[rum]",
            "run.toml: rum is unknown; allowed are run, params, cells, sweep, sampling, outputs, ",
        ),
        (
            "[run]\nmodle = 'pi'",
            "run.toml: run.modle is unknown; allowed are model, id, seed, pool, lane",
        ),
        (
            "[stop]\nsample = 1",
            "run.toml: stop.sample is unknown; allowed are samples, ",
        ),
        ("run = 3", "run.toml: run = 3 is not allowed: "),
        ("cells = 3", "run.toml: cells = 3 is not allowed: "),
        ("sweep.strike = 3", "run.toml: sweep.strike = 3 is not allowed: "),
        ("[run]\nmodel = 3", "run.toml: run.model = 3 is not allowed: "),
        ("[run]\nid = 'a.b'", "run.toml: run.id = 'a.b' is not allowed: "),
        (f"[run]\nid = '{'a' * 101}'", "run.toml: run.id = 'aaaa"),
        ("[run]\nseed = -1", "run.toml: run.seed = -1 is not allowed: "),
        (f"[run]\nseed = {2**64}", f"run.toml: run.seed = {2**64} is not allowed: "),
        ("[run]\nseed = 1.5", "run.toml: run.seed = 1.5 is not allowed: "),
        ("[run]\nseed = true", "run.toml: run.seed = True is not allowed: "),
        ("[run]\npool = 'GPU'", "run.toml: run.pool = 'GPU' is not allowed: "),
        ("[run]\nlane = 'urgent'", "run.toml: run.lane = 'urgent' is not allowed: "),
        ("[stop]\nsamples = 0", "run.toml: stop.samples = 0 is not allowed: "),
        ("[stop]\nsamples = 1e6", "run.toml: stop.samples = 1000000.0 is not allowed: "),
        ("[stop]\nconfidence = 1.0", "run.toml: stop.confidence = 1.0 is not allowed: "),
        ("[stop]\nconfidence = nan", "run.toml: stop.confidence = nan is not allowed: "),
    ],
)
def test_a_wrong_section_names_field_value_and_rule(
    text: str, expected: str, tmp_path: Path
) -> None:
    assert complaint(text, tmp_path).startswith(expected)


def test_a_field_that_an_option_gave_is_named_by_the_option() -> None:
    content = {"run": {"model": "pi", "seed": -1}, "stop": {"samples": 10}}
    with pytest.raises(UsageError, match=r"^--seed = -1 is not allowed: "):
        parse(content, "job.toml", {"run.seed": "--seed"})
    with pytest.raises(UsageError, match=r"^job.toml: run.seed = -1 is not allowed: "):
        parse(content, "job.toml", {"stop.samples": "--samples"})


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"run": {}}, "run.model is missing; `montemq models` lists what can be run"),
        ({"run": {"model": "asain"}}, "did you mean 'asian'?"),
        ({"sweep": {"strike": []}}, "sweep.strike = [] has no values"),
        (
            {"run": {"model": "pi"}, "sampling": {"method": "sobol"}},
            "'sobol' is not offered by model 'pi'; allowed are",
        ),
        (
            {"run": {"model": "pi"}, "sampling": {"control_variates": True}},
            "sampling.control_variates = true: model 'pi' has none",
        ),
        (
            {"params": {"averaging": "geometric"}, "sampling": {"control_variates": True}},
            "sampling.control_variates = true needs averaging = 'arithmetic'",
        ),
        (
            {"sampling": {"method": "halton"}},
            "sampling.method = 'halton' is not allowed; allowed are",
        ),
        ({"sampling": {"block_size": 3}}, "sampling.block_size = 3 is not allowed: "),
        ({"sampling": {"block_size": 1}}, "sampling.block_size = 1 is not allowed: "),
        ({"sampling": {"block_size": 0}}, "sampling.block_size = 0 is not allowed: "),
        ({"sampling": {"block_size": -2}}, "sampling.block_size = -2 is not allowed: "),
        (
            {"outputs": {"bump": {"volatilty": 0.01}}},
            "outputs.bump.volatilty = 0.01: the cell has no number as parameter 'volatilty'",
        ),
        (
            {"outputs": {"bump": {"option_type": 1}}},
            "outputs.bump.option_type = 1: the cell has no number as parameter 'option_type'",
        ),
        (
            {"outputs": {"bump": {"volatility": -0.5}}},
            "outputs.bump: params.volatility = -0.3 is not allowed: it should be greater",
        ),
        (
            {"outputs": {"bump": {"fixings": 0.5}}},
            "outputs.bump: params.fixings = 252.5 is not allowed: it should be a valid integer",
        ),
        (
            {"outputs": {"bump": {"volatility": "x"}}},
            "outputs.bump.volatility = 'x' is not allowed: it should be a finite number",
        ),
        (
            {"outputs": {"bump": {"volatility": 0}}},
            "outputs.bump.volatility = 0 is not allowed: it should be a number other than 0",
        ),
        (
            {"outputs": {"bump": 1}},
            "outputs.bump = 1 is not allowed: it should be a table of names",
        ),
        (
            {"outputs": {"quantiles": [0.5, 1.0]}},
            "outputs.quantiles.1 = 1.0 is not allowed: it should be less than 1",
        ),
        (
            {"outputs": {"quantiles": [0.5, 0.1]}},
            "outputs.quantiles = [0.5, 0.1] is not allowed: probabilities must increase",
        ),
        (
            {"outputs": {"quantiles": 0.5}},
            "outputs.quantiles = 0.5 is not allowed: it should be a list, in brackets and with",
        ),
        (
            {"params": {"fixing_times": "0.5,1.0"}},
            "params.fixing_times = '0.5,1.0' is not allowed: it should be a list, in brackets and",
        ),
        (
            {"params": {"strike": 90.0}, "sweep": {"strike": [80.0, 90.0]}},
            "sweep.strike would replace strike = 90.0 of [params]; give it in one of them",
        ),
        (
            {"cells": [{}, {"strike": 90.0}], "sweep": {"strike": [80.0, 90.0]}},
            "sweep.strike would replace strike = 90.0 of cells[1]; give it in one of them",
        ),
        ({"outputs": {"names": []}}, "outputs.names = [] has no names"),
        (
            {"outputs": {"names": ["theta"]}},
            "outputs.names: model 'asian' has no output 'theta'; allowed are price",
        ),
        ({"outputs": {"names": ["price", "price"]}}, "outputs.names has 'price' twice"),
        (
            {"sampling": {"block_size": 2**32}},
            "sampling.block_size = 4294967296 is not allowed: it should be less than or equal",
        ),
        (
            {"stop": {"samples": 2**60}, "sampling": {"block_size": 2}},
            f"{2**60} samples are {2**59} blocks of 2, allowed are {2**32} blocks",
        ),
    ],
)
def test_what_the_model_does_not_allow_is_explained(
    sections: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError) as refused:
        from_model("asian", **sections)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"params": {"spotty": 1}}, "params.spotty is no parameter of model 'asian'; allowed are "),
        ({"params": {"spot": "x"}}, "params.spot = 'x' is not allowed: "),
        ({"params": {"spot": -1.0}}, "params.spot = -1.0 is not allowed: it should be greater"),
        ({"params": {"spot": float("nan")}}, "params.spot = nan is not allowed: "),
        ({"params": {"fixings": 1.5}}, "params.fixings = 1.5 is not allowed: "),
        ({"params": {"fixing_times": [0.5, 0.4]}}, "params: fixing_times must increase"),
        ({"cells": [{}, {"strike": -1}]}, "cells[1].strike = -1 is not allowed: "),
        ({"sweep": {"rate": [0.1, 7]}}, ".rate = 7 is not allowed: "),
    ],
)
def test_a_wrong_parameter_names_the_field(sections: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as refused:
        from_model("asian", **sections)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "sections", "where"),
    [
        (("x=1",), {}, "params.x"),
        ((), {"params": {"x": 1}}, "params.x"),
        ((), {"cells": [{}, {"x": 1}]}, "cells[1].x"),
        ((), {"sweep": {"x": [1]}}, "params.x"),
    ],
)
def test_a_model_without_parameters_says_so(
    settings: tuple[str, ...], sections: dict[str, Any], where: str
) -> None:
    with pytest.raises(UsageError) as refused:
        from_model("pi", *settings, **sections)
    assert str(refused.value) == f"{where} is no parameter of model 'pi', which has none"


def test_a_model_that_counts_cannot_be_bumped() -> None:
    with pytest.raises(UsageError, match=r"^outputs.bump: model 'pi' counts instead of"):
        from_model("pi", outputs={"bump": {"x": 1}})


def test_outputs_bump_and_quantiles_reach_the_definition() -> None:
    found = from_model(
        "asian",
        outputs={"names": ["price"], "quantiles": [0.01, 0.5], "bump": {"strike": 1, "fixings": 1}},
    ).definition
    assert (found.outputs, found.quantiles) == (("price",), (0.01, 0.5))
    assert found.reported == ("price", "price_bump")
    # In the type of each parameter, so that 1 and 1.0 give one definition.
    assert {name: repr(amount) for name, amount in found.bump.items()} == {
        "strike": "1.0", "fixings": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[outputs]\nbump = {strike = true}", "outputs.bump.strike"),
        ("[outputs]\nbump = 1", "run.toml: outputs.bump = 1 is not allowed: "),
        ("[outputs]\nquantiles = ['a']", "run.toml: outputs.quantiles.0 = 'a' is not allowed: "),
        ("[outputs]\nquantile = [0.5]", "outputs.quantile is unknown; allowed are names, "),
    ],
)
def test_a_wrong_outputs_section_names_the_field(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in complaint(text, tmp_path)


def test_too_many_cells_are_refused_before_they_are_made() -> None:
    sweep = {"strike": [float(k) for k in range(1, 1001)], "spot": [float(k) for k in range(1000)]}
    with pytest.raises(UsageError, match="the run has 2000000 cells, allowed are 10000"):
        from_model("asian", cells=[{}, {}], sweep=sweep)
    exactly = {"strike": [float(k) for k in range(1, 5001)]}
    assert len(from_model("asian", cells=[{}, {}], sweep=exactly).definition.cells) == 10_000


def test_a_run_too_large_to_be_declared_names_file_cells_and_limit() -> None:
    times = [k / 400 for k in range(1, 401)]
    content = {"run": {"model": "asian"}, "params": {"fixing_times": times}}
    file = parse(content | {"cells": [{"strike": float(k)} for k in range(1, 3001)]}, "big.toml")
    with pytest.raises(UsageError) as refused:
        submission(file, where="big.toml")
    sentence = r"big\.toml: with its 3000 cells the run takes (\d+) bytes, allowed are 8388608; "
    found = re.match(sentence, str(refused.value))
    assert found
    assert 3000 * 400 * 9 < int(found[1]) < 3000 * 401 * 10


def test_a_generated_id_is_a_run_id() -> None:
    from pydantic import TypeAdapter  # noqa: PLC0415 - only here

    run = from_model("asian").run
    assert TypeAdapter(RunId).validate_python(run) == run


def test_a_setting_that_would_make_swept_cells_alike_is_refused() -> None:
    file = parse({"run": {"model": "asian"}, "sweep": {"strike": [90.0, 110.0]}}, "here")
    with pytest.raises(UsageError, match=r"--set strike .*\[sweep\]"):
        submission(file, [("strike", 100.0)])
