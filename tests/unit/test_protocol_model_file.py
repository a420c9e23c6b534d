"""Models in files of their own: loaded, told apart by their content, refused with a reason."""

import sys
from pathlib import Path

import numpy as np
import pytest

from protocol.errors import UsageError
from protocol.model import GeneratorModel
from protocol.model_file import MODULE, ModelFile, is_from_file
from protocol.registry import Registry, load_model, model_names

SOURCE = """
import numpy as np
from pydantic import Field
from protocol.model import GeneratorModel

class Normal(GeneratorModel):
    name = "normal"
    outputs = ("mean",)
    location: float = Field(0.0, ge=-10, le=10)

    def sample(self, rng, n):
        return self.location + rng.standard_normal((n, 1))
"""


def write(folder: Path, source: str, name: str = "normal.py") -> str:
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return str(path)


def load(folder: Path, source: str, class_name: str = "Normal") -> Registry:
    return Registry([ModelFile.read(f"{write(folder, source)}:{class_name}")])


def refusal(folder: Path, source: str, class_name: str = "Normal") -> str:
    with pytest.raises(UsageError) as caught:
        load(folder, source, class_name)
    text = str(caught.value)
    assert text.startswith(f"--model-file {folder}/normal.py")
    assert "\n" not in text
    return text


def test_the_model_of_a_file_stands_beside_the_installed_ones(tmp_path: Path) -> None:
    registry = load(tmp_path, SOURCE)
    model = registry.load("normal")
    assert issubclass(model, GeneratorModel)
    assert model(location=1.0).sample(np.random.default_rng(1), 4).shape == (4, 1)
    assert registry.names() == sorted([*model_names(), "normal"])
    assert registry.load("pi") is load_model("pi")
    assert "normal" not in model_names()


def test_an_unknown_name_is_told_the_models_of_files_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'normal'"):
        load(tmp_path, SOURCE).load("norml")


def test_the_version_is_a_hash_of_the_file_so_that_any_edit_is_another_model(
    tmp_path: Path,
) -> None:
    first = load(tmp_path, SOURCE).load("normal")
    again = load(tmp_path, SOURCE).load("normal")
    other = load(tmp_path, SOURCE + "# edited\n").load("normal")
    assert first.version == again.version != other.version
    assert 1 <= first.version < 2**31
    assert is_from_file(first)
    assert not is_from_file(load_model("pi"))


def test_a_model_file_is_what_it_was_when_it_was_read(tmp_path: Path) -> None:
    file = ModelFile.read(f"{write(tmp_path, SOURCE)}:Normal")
    write(tmp_path, "raise RuntimeError")
    assert Registry([file]).load("normal").version == file.version


def test_what_a_file_prints_does_not_reach_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tmp_path, SOURCE + "print('hello')\n")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_no_bytecode_is_left_beside_the_file(tmp_path: Path) -> None:
    load(tmp_path, SOURCE)
    assert [path.name for path in tmp_path.iterdir()] == ["normal.py"]


@pytest.mark.parametrize(
    "text", ["x.py", "x.py:", "x:Normal", "x.py:a.b", ":Normal", "x.py:1a", ""]
)
def test_anything_but_a_path_and_a_class_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--model-file '.*' must read PATH.py:CLASS"):
        ModelFile.read(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.py cannot be read: No such file or directory"):
        ModelFile.read(f"{tmp_path}/none.py:Normal")
    big = write(tmp_path, "#" * (1 << 20) + "\n")
    with pytest.raises(UsageError, match="it has 1048577 bytes, allowed are 1048576"):
        ModelFile.read(f"{big}:Normal")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1\nimport no_such_package\n", "line 2: ModuleNotFoundError: No module named"),
        ("\n\ndef f(:\n", "line 3: SyntaxError: invalid syntax"),
        ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError: division by zero"),
        ("import json\njson.loads('x')\n", "line 2: JSONDecodeError: Expecting value"),
        ("raise SystemExit(3)\n", "line 1: SystemExit: 3"),
        ("x = 'a\0b'\n", "source code string cannot contain null bytes"),
        (SOURCE.replace("float = Field", "NoSuchType = Field"), "line 9: NameError: name 'NoSuch"),
    ],
)  # fmt: skip
def test_an_import_that_fails_is_refused_with_its_line(
    tmp_path: Path, source: str, text: str
) -> None:
    assert text in refusal(tmp_path, source)
    left = [module for name, module in sys.modules.items() if name.startswith(MODULE)]
    assert not [module for module in left if str(module.__file__).startswith(str(tmp_path))]


def test_a_missing_class_is_told_which_models_there_are(tmp_path: Path) -> None:
    assert refusal(tmp_path, SOURCE, "Norml").endswith("defines no Norml; its models are Normal")
    assert refusal(tmp_path, "x = 1\n").endswith("defines no Normal; it defines no model")


@pytest.mark.parametrize(
    "source",
    [
        "Normal = 3\n",
        "class Normal:\n    name = 'normal'\n",
        "from protocol.model import GeneratorModel as Normal\n",
        "from consumer.models.pi import Pi as Normal\n",
    ],
)
def test_what_is_no_model_of_this_file_is_refused(tmp_path: Path, source: str) -> None:
    version = load_model("pi").version
    assert "has no model of its own that is named Normal" in refusal(tmp_path, source)
    assert load_model("pi").version == version


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('    name = "normal"\n', "", "lacks `name`"),
        ('    outputs = ("mean",)\n', "", "lacks `outputs`"),
        ('("mean",)', '("mean")', "outputs = 'mean' is not allowed: it should be a tuple of names"),
        ('("mean",)', "()", "outputs = () is not allowed"),
        ('("mean",)', '("Mean",)', "outputs = ('Mean',) is not allowed"),
        ('("mean",)', '("a", "a")', "a name stands twice"),
        ('"normal"', '"Normal"', "name = 'Normal' is not allowed: a name is a-z, 0-9 and _"),
        ('"normal"', "7", "name = 7 is not allowed"),
        ("def sample", "def samples_of", "does not define `sample`"),
        ('"normal"', '"pi"', "there is another model named 'pi'"),
    ],
)
def test_a_model_that_lacks_something_is_refused(
    tmp_path: Path, old: str, new: str, text: str
) -> None:
    assert old in SOURCE
    assert text in refusal(tmp_path, SOURCE.replace(old, new))


def test_two_files_with_a_model_of_one_name_are_refused(tmp_path: Path) -> None:
    files = [
        ModelFile.read(f"{write(tmp_path, SOURCE + extra, name)}:Normal")
        for name, extra in (("one.py", ""), ("two.py", "\n"))
    ]
    with pytest.raises(UsageError, match=r"two\.py:Normal: there is another model named 'normal'"):
        Registry(files)
