"""Finding models through entry points, with real ones made from modules that exist."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from consumer.models.pi import Pi
from protocol import registry
from protocol.errors import UsageError
from protocol.registry import GROUP, load_model, model_names

ENTRIES = {
    "missing": "no_such_package.models:Missing",
    "number": "math:pi",
    "function": "math:sqrt",
    "nameless": "protocol.model:GeneratorModel",
    "pi": "consumer.models.pi:Pi",
}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entries = [EntryPoint(name, value, GROUP) for name, value in ENTRIES.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == GROUP else [])
    clear()
    yield
    clear()


def clear() -> None:
    registry._entries.cache_clear()
    load_model.cache_clear()


def test_names_are_sorted() -> None:
    assert model_names() == ["function", "missing", "nameless", "number", "pi"]


def test_an_unknown_name_is_told_what_is_installed_and_what_comes_close() -> None:
    with pytest.raises(UsageError) as caught:
        load_model("nmber")
    assert str(caught.value) == (
        "model = 'nmber' is not installed; "
        "installed are function, missing, nameless, number, pi; did you mean 'number'?"
    )


def test_a_package_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(UsageError, match=r"'missing' \(no_such_package.models:Missing\) cannot"):
        load_model("missing")


@pytest.mark.parametrize("name", ["number", "function", "nameless"])
def test_what_is_not_a_model_of_that_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"is not a protocol\.model\.Model of that name"):
        load_model(name)


def test_a_model_is_loaded_by_its_name() -> None:
    assert load_model("pi") is Pi
