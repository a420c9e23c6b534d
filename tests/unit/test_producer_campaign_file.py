"""Campaign files: what they become, what references give, and each way to get them wrong."""

import math
import re
from pathlib import Path

import pytest

from producer.campaign_file import CampaignFile, Over, is_campaign, read_campaign
from producer.references import Field, Reference, reference
from producer.run_id import Moment
from producer.run_sections import read_toml
from protocol.definition import Lane
from protocol.errors import UsageError
from protocol.results import CellResult, Estimate, Result

CHAIN = """
[campaign]
id = "desk"
[runs.pilot.run]
model = "asian"
[runs.pilot.stop]
samples = 2048
[runs.main]
run = { model = "european", seed = 5 }
params = { strike = "{pilot.outputs.price.mean}" }
[runs.last]
after = ["main"]
run = { model = "pi" }
"""
ESTIMATE = Estimate(
    mean=0.1 + 0.2, standard_error=0.0123, ci_low=0.25, ci_high=0.35, confidence=0.95,
    error_reliable=True, standard_deviation=1.5,
)  # fmt: skip


def result(*estimates: Estimate, output: str = "price") -> Result:
    """Return a finished run with one cell for each estimate."""
    cells = tuple(
        CellResult(params={}, state="finished", samples=1_000 + number, outputs={output: one})
        for number, one in enumerate(estimates or (ESTIMATE,))
    )
    return Result(
        run="desk-pilot", state="finished", model="asian", model_version=1, seed=7,
        sampling="pseudo", block_size=1024, digest="ab" * 32, reproducible=True,
        elapsed_seconds=1.25, cpu_seconds=2.0, samples=sum(cell.samples for cell in cells),
        cells=cells, engines=("portable",), error=None,
    )  # fmt: skip


def read(folder: Path, text: str, **over: object) -> CampaignFile:
    path = folder / "chain.toml"
    path.write_text(text, encoding="utf-8")
    return read_campaign(path, Over(over))


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as refused:
        read(folder, text)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"{folder}/chain.toml: ")
    return sentence.partition("chain.toml: ")[2]


# References


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{a.outputs.price.mean}", Reference("a", None, "price", Field.MEAN)),
        ("{a.cells.12.outputs.x_1.ci_low}", Reference("a", 12, "x_1", Field.CI_LOW)),
        ("{a.samples}", Reference("a", None, None, None)),
        ("{a.cells.0.samples}", Reference("a", 0, None, None)),
    ],
)
def test_a_reference_is_read_and_written_the_same(text: str, found: Reference) -> None:
    assert reference(text) == found
    assert str(found) == text


@pytest.mark.parametrize("text", ["", "call", "a.outputs.price.mean", "1.5", "a[0]"])
def test_a_text_without_braces_is_no_reference(text: str) -> None:
    assert reference(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "{a}", "{a.outputs.price}", "{a.outputs.price.mean", "a.outputs.price.mean}",
        "2*{a.outputs.price.mean}", "{a.outputs.price.mean} ", "{a.outputs.price.mean:.2f}",
        "{a.outputs.price.mean!r}", "{a.__class__.__name__}", "{a.outputs.price.__class__}",
        "{a.cells.00.outputs.price.mean}", "{a.cells.-1.samples}", "{a.cells.10000.samples}",
        "{{a.outputs.price.mean}}", "{}", "{A.samples}", "{a.digest}", "{a.samples}\n",
        "{a.cells.\uff11.samples}",
    ],
)  # fmt: skip
def test_whatever_else_has_braces_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no reference; one reads|is no field of an estimate"):
        reference(text)


def test_a_field_that_no_estimate_has_is_named_with_those_it_has() -> None:
    with pytest.raises(UsageError, match="'median' is no field of an estimate; allowed are mean, "):
        reference("{a.outputs.price.median}")


def test_a_reference_gives_the_number_with_all_its_bits() -> None:
    found = reference("{pilot.outputs.price.mean}")
    assert found is not None
    assert found.of(result()) == 0.30000000000000004
    for field in Field:
        one = Reference("pilot", 1, "price", field)
        assert one.of(result(ESTIMATE, ESTIMATE)) == getattr(ESTIMATE, field.value)


def test_samples_are_those_of_a_cell_or_of_all() -> None:
    both = result(ESTIMATE, ESTIMATE)
    assert Reference("pilot", None, None, None).of(both) == 2_001
    assert Reference("pilot", 1, None, None).of(both) == 1_001


def test_a_number_that_a_result_does_not_have_is_no_number() -> None:
    bare = ESTIMATE.model_copy(update={"standard_error": None})
    with pytest.raises(UsageError, match="the result of run 'pilot' has no such number"):
        Reference("pilot", None, "price", Field.STANDARD_ERROR).of(result(bare))


# What a file becomes


def test_runs_get_their_ids_and_wait_for_what_they_name_or_refer_to(tmp_path: Path) -> None:
    campaign = read(tmp_path, CHAIN)
    assert [campaign.run_id(name) for name in campaign.runs] == [
        "desk-pilot", "desk-main", "desk-last",
    ]  # fmt: skip
    assert campaign.after == {
        "pilot": frozenset(), "main": frozenset({"pilot"}), "last": frozenset({"main"}),
    }  # fmt: skip


def test_a_run_of_a_dated_campaign_has_its_template_for_a_name(tmp_path: Path) -> None:
    dated = read(tmp_path, CHAIN.replace('"desk"', '"desk-{date}"'))
    assert dated.submission("pilot", {}).name == "desk-{date}-pilot"
    assert dated.submission("pilot", {}).run == dated.run_id("pilot") != "desk-{date}-pilot"
    assert read(tmp_path, CHAIN).submission("pilot", {}).name is None


def test_a_referred_number_reaches_the_definition_with_all_its_bits(tmp_path: Path) -> None:
    estimate = ESTIMATE.model_copy(update={"mean": math.nextafter(100.0, 200.0)})
    job = read(tmp_path, CHAIN).submission("main", {"pilot": result(estimate)})
    (cell,) = job.definition.cells
    assert cell["strike"] == math.nextafter(100.0, 200.0)
    assert job.run == "desk-main"


def test_references_stand_in_cells_sweeps_and_lists_too(tmp_path: Path) -> None:
    text = (
        CHAIN
        + """
[runs.wide]
run = { model = "asian" }
cells = [{ strike = "{pilot.outputs.price.ci_low}" }, { strike = "{pilot.outputs.price.mean}" }]
sweep = { volatility = [0.1, "{pilot.outputs.delta.mean}"] }
params = { fixing_times = [0.25, "{pilot.outputs.price.standard_error}"] }
"""
    )
    small = ESTIMATE.model_copy(update={"mean": 0.5, "standard_error": 0.75})
    both = result(small)
    cell = both.cells[0].model_copy(update={"outputs": {"price": small, "delta": small}})
    results = {"pilot": both.model_copy(update={"cells": (cell,)})}
    cells = read(tmp_path, text).submission("wide", results).definition.cells
    assert [(c["strike"], c["volatility"]) for c in cells] == [
        (0.25, 0.1), (0.25, 0.5), (0.5, 0.1), (0.5, 0.5),
    ]  # fmt: skip
    assert cells[0]["fixing_times"] == (0.25, 0.75)


def seeds(campaign: CampaignFile) -> dict[str, int]:
    results = {"pilot": result()}
    return {name: campaign.submission(name, results).definition.seed for name in campaign.runs}


def test_seeds_are_the_runs_own_or_derived_and_the_same_for_ever(tmp_path: Path) -> None:
    # A campaign that an older version began must go on with the same seeds.
    by_id = seeds(read(tmp_path, CHAIN))
    assert (by_id["pilot"], by_id["main"]) == (17035749663885327127, 5)
    by_seed = seeds(read(tmp_path, CHAIN, seed=1))
    assert (by_seed["pilot"], by_seed["main"]) == (6614865153267527418, 5)
    assert len({*by_id.values(), *by_seed.values()}) == 5
    assert seeds(read(tmp_path, CHAIN, seed=1, id="other")) == by_seed


def test_an_id_may_name_the_day_and_the_content(tmp_path: Path) -> None:
    text = CHAIN.replace('"desk"', '"desk-{date}-{hash}"')
    (tmp_path / "chain.toml").write_text(text, encoding="utf-8")
    found = read_campaign(tmp_path / "chain.toml", moment=Moment(86_400.0, utc=True)).id
    assert found.startswith("desk-1970-01-02-")
    assert len(found) == len("desk-1970-01-02-") + 12
    (tmp_path / "chain.toml").write_text(text.replace("2048", "4096"), encoding="utf-8")
    assert read_campaign(tmp_path / "chain.toml", moment=Moment(86_400.0, utc=True)).id != found


def test_without_an_id_the_same_file_has_the_same_one_and_a_changed_file_another(
    tmp_path: Path,
) -> None:
    text = CHAIN.replace('id = "desk"', "")
    first = read(tmp_path, text).id
    assert first.startswith("chain-")
    assert read(tmp_path, f"# a comment\n{text}").id == first
    assert read(tmp_path, text.replace("2048", "4096")).id != first
    pooled = read_campaign(tmp_path / "chain.toml", Over(run={"pool": "gpu"}))
    assert pooled.id == read_campaign(tmp_path / "chain.toml").id


def test_pool_and_lane_of_the_command_line_are_those_of_every_run(tmp_path: Path) -> None:
    (tmp_path / "chain.toml").write_text(CHAIN, encoding="utf-8")
    campaign = read_campaign(tmp_path / "chain.toml", Over(run={"pool": "gpu", "lane": "high"}))
    job = campaign.submission("pilot", {})
    assert (job.pool, job.lane) == ("gpu", Lane.HIGH)


def test_a_run_may_be_a_run_file_with_fields_laid_over_it(tmp_path: Path) -> None:
    (tmp_path / "book.toml").write_text(
        '[run]\nmodel = "asian"\nseed = 3\n[params]\nspot = 90.0\nstrike = 1.0\n', encoding="utf-8"
    )
    campaign = read(
        tmp_path,
        CHAIN
        + """
[runs.book]
file = "book.toml"
params = { strike = "{pilot.outputs.price.mean}" }
""",
    )
    (cell,) = campaign.submission("book", {"pilot": result()}).definition.cells
    assert (cell["spot"], cell["strike"]) == (90.0, 0.1 + 0.2)


def test_a_campaign_is_told_from_a_run_file_by_its_tables(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[run]\nmodel = "pi"\n', encoding="utf-8")
    assert not is_campaign(read_toml(tmp_path / "run.toml"))
    for text in ("[campaign]\n", "[runs.a]\n"):
        (tmp_path / "run.toml").write_text(text, encoding="utf-8")
        assert is_campaign(read_toml(tmp_path / "run.toml"))


def test_the_campaign_of_the_readme_is_one(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (text,) = [t for t in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL) if "[runs." in t]
    campaign = read(tmp_path, text)
    assert campaign.after == {"pilot": frozenset(), "main": frozenset({"pilot"})}


# What is refused before anything is published

PILOT = '[runs.pilot]\nrun = { model = "asian" }\n'
SWEPT = PILOT + "sweep = { strike = [90.0, 100.0] }\n"


def second(params: str, more: str = "", model: str = "asian") -> str:
    return f'[runs.main]\nrun = {{ model = "{model}" }}\nparams = {{ {params} }}\n{more}\n'


def refers(text: str) -> str:
    return second(f'strike = "{text}"')


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[campaign]\n", "[runs.NAME] is missing: a campaign has at least one run"),
        ("[runs]\n", "runs = {} is not allowed"),
        ("campaign = 1\n" + PILOT, "campaign = 1 is not allowed: it should be a table"),
        ("[campaign]\nname = 1\n" + PILOT, "campaign.name is unknown; allowed are id, seed"),
        ('[campaign]\nid = "a.b"\n' + PILOT, "campaign.id = 'a.b' is not allowed"),
        ("[campaign]\nseed = -1\n" + PILOT, "campaign.seed = -1 is not allowed"),
        (PILOT + "[run]\n", "run is unknown; allowed are campaign, runs"),
        ("[runs.Pilot]\n", "runs.Pilot = 'Pilot' is not allowed"),
        (PILOT + "speed = 1\n", "runs.pilot.speed is unknown; allowed are file, after, run, "),
        (PILOT + "after = 1\n", "runs.pilot.after = 1 is not allowed: it should be a list of"),
        (PILOT + 'after = ["a", "a"]\n', "runs.pilot.after has 'a' twice"),
        (PILOT + 'after = ["a"]\n', "runs.pilot waits for 'a', which is no run of this campaign"),
        (PILOT + 'after = ["pilot"]\n', "runs.pilot waits for itself"),
        (PILOT + 'after = ["main"]\n' + refers("{pilot.samples}"),
         "these runs wait for each other: pilot → main → pilot"),
        (PILOT + "file = 1\n", "runs.pilot.file = 1 is not allowed: it should be a path"),
        (PILOT + 'file = "none.toml"\n', "none.toml cannot be read: No such file or directory"),
        ('[runs.pilot.run]\nmodel = "asian"\nid = "x"\n', "runs.pilot.run.id is not allowed: "),
        ("[runs.pilot]\nrun = 1\n", "runs.pilot.run = 1 is not allowed: it should be a table"),
        ("[runs.pilot]\nafter = []\n", "runs.pilot: run.model is missing"),
        (PILOT + "stop = { samples = 0 }\n", "runs.pilot: stop.samples = 0 is not allowed"),
        (PILOT + "params = { spot = -1.0 }\n", "runs.pilot: params.spot = -1.0 is not allowed"),
        (PILOT.replace("asian", "po"), "runs.pilot: model = 'po' is not installed"),
        (PILOT + refers("{other.samples}"), "runs.main waits for 'other', which is no run"),
        (PILOT + refers("{main.samples}"), "runs.main waits for itself"),
        (PILOT + refers("{pilot.outputs.rho.mean}"),
         "strike: {pilot.outputs.rho.mean}: run 'pilot' has no output 'rho'; allowed are price, "),
        (PILOT + refers("{pilot.outputs.price.medium}"),
         "runs.main.params.strike: {pilot.outputs.price.medium}: 'medium' is no field of an est"),
        (PILOT + refers("{pilot.cells.1.samples}"),
         "{pilot.cells.1.samples}: run 'pilot' has 1 cell, counted from 0"),
        (SWEPT + refers("{pilot.cells.2.outputs.price.mean}"),
         "run 'pilot' has 2 cells, counted from 0"),
        (SWEPT + refers("{pilot.outputs.price.mean}"),
         "run 'pilot' has 2 cells; name one, such as {pilot.cells.0.outputs.price.mean}"),
        (PILOT + refers("{pilot.outputs.price.mean} "), "runs.main.params.strike: "),
        (PILOT + second('fixings = "{pilot.outputs.price.mean}"'),
         "runs.main: params.fixings = 1.0 is not allowed: "),
        (PILOT + second('colour = "{pilot.samples}"'),
         "runs.main: params.colour is no parameter of model 'asian'"),
        (PILOT + second('strike = "{pilot.samples}", spot = -1.0'),
         "runs.main: params.spot = -1.0 is not allowed"),
        (PILOT + second('strike = "{pilot.samples}"', 'stop = { samples = "{pilot.samples}" }'),
         "runs.main: stop.samples = '{pilot.samples}' is not allowed"),
        (PILOT + second('strike = "{pilot.samples}"', 'outputs = { names = ["x"] }'),
         "runs.main: outputs.names: model 'asian' has no output 'x'"),
        (PILOT + second('strike = "{pilot.samples}"', 'sampling = { method = "x" }'),
         "runs.main: sampling.method = 'x' is not allowed"),
        (PILOT + second('x = "{pilot.samples}"', model="pi"),
         "runs.main: params.x is no parameter of model 'pi', which has none"),
        (f'[campaign]\nid = "{"i" * 96}"\n' + PILOT,
         "of 102 characters, allowed are 100; give the campaign a shorter id"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    assert sentence in complaint(tmp_path, text)


def test_two_runs_of_one_name_are_no_toml(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the campaign file .* is not valid TOML"):
        read(tmp_path, PILOT + PILOT)


def test_a_number_that_only_its_bounds_could_refuse_is_left_for_when_it_is_known(
    tmp_path: Path,
) -> None:
    campaign = read(tmp_path, PILOT + second('volatility = "{pilot.outputs.price.mean}"'))
    low = ESTIMATE.model_copy(update={"mean": -1.0})
    with pytest.raises(UsageError, match=r"params\.volatility = -1\.0 is not allowed"):
        campaign.submission("main", {"pilot": result(low)})
    campaign.submission("main", {"pilot": result()})
