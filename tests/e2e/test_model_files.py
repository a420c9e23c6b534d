"""Models in files, through the whole pipeline: the same file everywhere, or no partial."""

import pytest

from protocol.model_file import ModelFile
from tests.support.stack_jobs import SIGMAS
from tests.support.stack_site import Site

EXACT = 0.5
SOURCE = """
from pydantic import Field
from protocol.model import GeneratorModel

class Share(GeneratorModel):
    name = "share"
    outputs = ("share",)
    limit: float = Field(0.5, ge=0, le=1)

    def sample(self, rng, n):
        return (rng.random((n, 1)) < self.limit).astype(float)
"""


@pytest.fixture
def model_file(site: Site) -> str:
    path = site.folder / "share.py"
    path.write_text(SOURCE, encoding="utf-8")
    return f"{path}:Share"


def test_a_model_file_runs_where_producer_and_consumer_were_given_it(
    site: Site, model_file: str
) -> None:
    site.aggregator().ready()
    site.consumer(2, "--model-file", model_file).ready()
    words = ("share", "--samples", "100000", "--seed", "1", "--model-file", model_file, "--json")
    result = site.command("run", *words).json
    estimate = result["cells"][0]["outputs"]["share"]
    assert abs(estimate["mean"] - EXACT) < SIGMAS * estimate["standard_error"]
    assert result["model_version"] == ModelFile.read(model_file).version
    assert len(result["engines"]) == 1


def test_consumers_with_another_file_take_no_part(site: Site, model_file: str) -> None:
    edited = site.folder / "edited.py"
    edited.write_text(SOURCE.replace("< self", "<= self"), encoding="utf-8")
    site.aggregator().ready()
    site.consumer(1, "--model-file", f"{edited}:Share").ready()
    words = ("share", "--samples", "100000", "--seed", "1", "--json")
    version = ModelFile.read(model_file).version
    run = site.command("run", *words, "--id", "mine", "--model-file", model_file)
    assert run.code == 5
    assert f"model 'share' has version {ModelFile.read(f'{edited}:Share').version} here" in run.err
    assert f"the run needs {version}" in run.err
    # The same seed and in fact the same samples, but another model as far as anybody can know.
    theirs = site.command("run", *words, "--model-file", f"{edited}:Share").json
    site.consumer(1, "--model-file", model_file).ready()
    result = site.command("resume", "mine", "--json").json
    assert (result["samples"], result["model_version"]) == (100_352, version)
    assert result["cells"] == theirs["cells"]
    assert result["digest"] != theirs["digest"]


def test_what_a_model_prints_is_not_among_the_data(site: Site) -> None:
    path = site.folder / "loud.py"
    loud = SOURCE.replace("        return", "        print('sampled')\n        return")
    path.write_text(f"print('loaded'){loud}", encoding="utf-8")
    for words in (("models",), ("models", "share"), ("models", "share", "--check")):
        ended = site.command(*words, "--json", "--model-file", f"{path}:Share")
        assert ended.json
        assert "loaded" in ended.err
        assert ("sampled" in ended.err) == ("--check" in words)


def test_a_consumer_refuses_a_broken_file_before_it_connects(site: Site) -> None:
    path = site.folder / "broken.py"
    path.write_text("import numpy\nimport no_such_package\n", encoding="utf-8")
    for words in (("consumer",), ("up",), ("run", "share"), ("models",)):
        ended = site.command(*words, "--model-file", f"{path}:Share")
        assert (ended.code, ended.out) == (2, ""), words
        assert ended.err.strip() == (
            f"montemq: --model-file {path}: line 2: ModuleNotFoundError: No module named "
            "'no_such_package' (a model file can import only what is installed)"
        )
