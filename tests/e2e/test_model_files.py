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
    other = site.consumer(1, "--model-file", f"{edited}:Share")
    other.ready()
    words = ("share", "--samples", "100000", "--seed", "1", "--json")
    run = site.start("run", *words, "--model-file", model_file)
    other.says(f"model 'share' version {ModelFile.read(model_file).version} is not installed here")
    site.consumer(1, "--model-file", model_file).ready()
    result = run.wait().json
    assert result["samples"] == 100_352
    mine = site.command("run", *words, "--model-file", f"{edited}:Share").json
    # The same seed and in fact the same samples, but another model as far as anybody can know.
    assert mine["cells"] == result["cells"]
    assert mine["digest"] != result["digest"]


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
