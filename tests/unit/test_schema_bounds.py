"""Every bound in the built-in models' schemas: what is beyond is refused, what is at it is not.

What else the models refuse is in the tests of each.
"""

import math
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from consumer import golden
from ops import cli
from producer.run_sections import parse
from producer.runfile import submission
from protocol.errors import UsageError
from protocol.registry import load_model


@dataclass(frozen=True)
class Bound:
    """One keyword of a schema that limits a parameter, or the items of one that is a list."""

    model: str
    name: str
    of_items: bool
    kind: str
    limit: Any
    whole: bool

    @property
    def key(self) -> tuple[str, str, str]:
        return self.model, self.name, self.kind

    def params(self, value: Any) -> dict[str, Any]:
        """Return parameters with this value, and with what it needs beside it."""
        needed = BESIDE.get(self.key) or BESIDE.get((self.model, self.name, ""), {})
        return {**needed, self.name: [value] if self.of_items else value}


def listed(name: str, count: int) -> list[Any]:
    """Return a list that is right but for its length."""
    if name == "fixing_times":
        return [(i + 1) / count for i in range(count)]
    return ["EURUSD" if name == "legs" else 0.5] * count


def step(bound: Bound, towards: float) -> int | float:
    """Return the next number to a bound."""
    if bound.whole:
        return int(bound.limit) + (1 if towards > 0 else -1)
    return math.nextafter(bound.limit, towards)


RULES = {
    "minimum": "greater than or equal to",
    "maximum": "less than or equal to",
    "exclusiveMinimum": "greater than",
    "minLength": "at least",
    "maxLength": "at most",
    "minItems": "at least",
    "maxItems": "at most",
    "pattern": "match pattern",
    "enum": "be '",
}
"""What the sentence about each kind of bound says."""

BEYOND: Mapping[str, Callable[[Bound], list[Any]]] = {
    "minimum": lambda bound: [step(bound, -math.inf)],
    "maximum": lambda bound: [step(bound, math.inf)],
    "exclusiveMinimum": lambda bound: [bound.limit],
    "minLength": lambda bound: ["E" * (bound.limit - 1)],
    "maxLength": lambda bound: ["/" + "x" * bound.limit],
    "minItems": lambda bound: [listed(bound.name, bound.limit - 1)],
    "maxItems": lambda bound: [listed(bound.name, bound.limit + 1)],
    "pattern": lambda _: ["0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n"],
    "enum": lambda bound: ["", f"{bound.limit[0]} ", bound.limit[0].upper()],
}
AT: Mapping[str, Callable[[Bound], list[Any]]] = {
    "minimum": lambda bound: [bound.limit],
    "maximum": lambda bound: [bound.limit],
    "exclusiveMinimum": lambda bound: [step(bound, math.inf)],
    "minLength": lambda bound: ["E" * bound.limit],
    "maxLength": lambda bound: ["/" + "x" * (bound.limit - 1)],
    "minItems": lambda bound: [listed(bound.name, bound.limit)],
    "maxItems": lambda bound: [listed(bound.name, bound.limit)],
    "pattern": lambda _: ["0" * 64],
    "enum": lambda bound: bound.limit,
}

BESIDE: Mapping[tuple[str, str, str], dict[str, Any]] = {
    ("asian", "fixing_times", ""): {"maturity": 100.0},
    ("barrier", "spot", "minimum"): {"barrier_type": "up_and_out"},
    ("barrier", "barrier", "maximum"): {"barrier_type": "up_and_out"},
    ("barrier", "barrier_type", ""): {"barrier": 85.0},
    ("backtest", "weights", ""): {"legs": ["EURUSD"]},
    ("backtest", "weights", "maxItems"): {"legs": ["EURUSD"] * 200},
    ("backtest", "fast", ""): {"slow": 5000},
    ("backtest", "slow", ""): {"fast": 1},
    ("backtest", "look_back", ""): {"strategy": "momentum"},
    ("backtest", "volatility_look_back", ""): {"volatility_target": 0.1},
    ("backtest", "max_leverage", ""): {"volatility_target": 0.1},
}
ANOTHER_RULE = {
    ("asian", "fixing_times", "minimum"): "fixes only the spot, which is known",
    ("barrier", "barrier_type", "enum"): "barrier = 85.0 must be above spot",
    ("backtest", "data", "maxLength"): "cannot be read here",
    ("backtest", "data_hash", "pattern"): "the run needs 0000",
    ("backtest", "pair", "minLength"): "is no currency pair",
    ("backtest", "pair", "maxLength"): "is no currency pair",
    ("backtest", "legs", "minLength"): "is no currency pair",
    ("backtest", "legs", "maxLength"): "is no currency pair",
    ("backtest", "fast", "maximum"): "fast = 5000 should be below slow = 5000",
    ("backtest", "slow", "minimum"): "fast = 1 should be below slow = 1",
}
"""What refuses a value that is at its bound, where not every such value can be had."""


def bounds() -> Iterator[Bound]:
    """Yield every bound of every parameter of the built-in models."""
    for model in golden.PARAMS:
        for name, field in load_model(model).model_json_schema()["properties"].items():
            for part in (field, *field.get("anyOf", ())):
                yield from _bounds_of(model, name, part, of_items=False)
                yield from _bounds_of(model, name, part.get("items", {}), of_items=True)


def _bounds_of(
    model: str, name: str, part: Mapping[str, Any], *, of_items: bool
) -> Iterator[Bound]:
    whole = part.get("type") == "integer"
    for kind, limit in part.items():
        if kind not in NO_BOUNDS:
            yield Bound(model, name, of_items, kind, limit, whole)


NO_BOUNDS = {"anyOf", "default", "description", "items", "title", "type", "unit"}
BOUNDS = list(bounds())


def name_of(bound: Bound) -> str:
    return "-".join((bound.model, bound.name, *["item"] * bound.of_items, bound.kind))


def declared(bound: Bound, value: Any) -> None:
    """Do what `montemq run` does before it connects to anything."""
    content = {"run": {"model": bound.model}, "params": bound.params(value)}
    submission(parse(content, "run.toml"))


def test_there_are_bounds_of_all_kinds() -> None:
    assert {bound.kind for bound in BOUNDS} == BEYOND.keys() == AT.keys() == RULES.keys()
    assert {bound.model for bound in BOUNDS} == golden.PARAMS.keys() - {"pi"}
    assert len(BOUNDS) > 80


@pytest.mark.parametrize("bound", BOUNDS, ids=name_of)
def test_what_is_just_beyond_a_bound_is_refused_in_one_sentence(bound: Bound) -> None:
    for value in BEYOND[bound.kind](bound):
        with pytest.raises(UsageError) as refused:
            declared(bound, value)
        sentence = str(refused.value)
        field = f"params.{bound.name}{'.0' * bound.of_items} = "
        assert sentence.startswith(field)
        _, separator, rule = sentence.rpartition(" is not allowed: it should ")
        assert separator
        assert RULES[bound.kind] in rule
        assert "\n" not in sentence


@pytest.mark.parametrize("bound", BOUNDS, ids=name_of)
def test_what_is_at_a_bound_is_not_refused_for_it(bound: Bound) -> None:
    reasons = []
    for value in AT[bound.kind](bound):
        try:
            declared(bound, value)
        except UsageError as error:
            reasons.append(str(error))
    expected = ANOTHER_RULE.get(bound.key)
    assert bool(reasons) == bool(expected)
    assert all(expected and expected in reason for reason in reasons)


@pytest.mark.parametrize(
    ("model", "settings", "sentence"),
    [
        ("european", ["volatility=-0.2"], "params.volatility = -0.2 is not allowed: it should be"),
        ("barrier", ["maturity=0"], "params.maturity = 0 is not allowed: it should be greater"),
        ("asian", ["fixings=0"], "params.fixings = 0 is not allowed: it should be greater than"),
        ("asian", ["fixing_times=[0.5, 0.2]"], "fixing_times must increase, but 0.2 follows 0.5"),
        ("backtest", ["pair=EURXXX"], "pair: 'EURXXX' is no currency pair"),
        (
            "backtest",
            ["strategy=momentum", "look_back=300", "last_date=2000-01-31"],
            "the data leave 0 days to trade after the 300 that the rule looks back, allowed are",
        ),
    ],
)
def test_nonsense_ends_with_2_before_anybody_connects_to_the_broker(
    model: str,
    settings: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        broker.setblocking(False)
        address = f"amqp://guest:guest@127.0.0.1:{broker.getsockname()[1]}/"
        words = [word for setting in settings for word in ("--set", setting)]
        command = ["montemq", "run", model, *words, "--amqp-url", address]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        with pytest.raises(BlockingIOError):
            broker.accept()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert sentence in said.err
