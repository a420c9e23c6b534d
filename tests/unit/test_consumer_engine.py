"""The engine word: portable models have none of this machine, others tell numpy and their code."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from consumer.engine import engine, fingerprint
from consumer.models.pi import Pi
from protocol.model import Model
from protocol.model_file import ModelFile
from tests.support.fresh_python import run_python

SOURCE = """
from protocol.model import GeneratorModel

class Normal(GeneratorModel):
    name = "normal"
    outputs = ("mean",)

    def sample(self, rng, n):
        return rng.standard_normal((n, 1))
"""


def packaged(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> type[Model]:
    """Return the model of an installed module of this source."""
    folder.mkdir()
    (folder / "engine_plugin.py").write_text(source, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.delitem(sys.modules, "engine_plugin", raising=False)
        model = import_module("engine_plugin").Normal
        assert isinstance(model, type)
        assert issubclass(model, Model)
        engine(model)  # reads the source while it is there
        return model


def test_a_portable_model_says_so() -> None:
    assert engine(Pi) == "portable"


def test_the_fingerprint_names_numpy_and_a_hash_of_what_it_computes() -> None:
    name, version, golden = fingerprint().split("-")
    assert (name, version) == ("numpy", np.__version__)
    assert len(bytes.fromhex(golden)) == 8


def test_machines_whose_products_differ_have_different_fingerprints() -> None:
    """Or audits would find an honest machine wrong that has another processor."""
    code = (
        "import numpy as np; from consumer.engine import fingerprint;"
        "a = np.random.default_rng(1).standard_normal((100, 60));"
        "print(fingerprint(), (a @ a.T).tobytes().hex())"
    )
    here, bits = run_python(code).stdout.split()
    there, other_bits = run_python(code, OPENBLAS_CORETYPE="Nehalem").stdout.split()
    assert bits != other_bits
    assert here != there


def test_other_code_under_the_same_name_and_version_is_another_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = (SOURCE, SOURCE, SOURCE.replace("(n, 1)", "(n, 1)) + (1.0"))
    models = [packaged(tmp_path / str(i), source, monkeypatch) for i, source in enumerate(sources)]
    assert len({(model.name, model.version) for model in models}) == 1
    first, same, other = (engine(model) for model in models)
    assert first == same
    assert first != other
    assert first.startswith(f"{fingerprint()}-")
    assert other.startswith(f"{fingerprint()}-")


def test_a_model_file_needs_no_hash_because_its_version_is_one(tmp_path: Path) -> None:
    path = tmp_path / "normal.py"
    path.write_text(SOURCE, encoding="utf-8")
    assert engine(ModelFile.read(f"{path}:Normal").load()) == fingerprint()
