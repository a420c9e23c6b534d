"""`montemq models NAME --check`: the checks of a model, shown as they are made."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from consumer.model_check.blocks import Subject
from consumer.model_check.checks import check_model
from consumer.model_check.findings import Check, Outcome
from consumer.model_check.independence import FALSE_ALARM, SIGMAS
from protocol.definition import Method
from protocol.errors import CheckFailedError
from protocol.model import Model, validated
from protocol.model_file import ModelFile
from protocol.registry import Registry

WORDS = {Outcome.FAILED: "FAILED", Outcome.UNKNOWN: "?"}


def check(
    name: str, params: Mapping[str, Any], files: Sequence[ModelFile], *, as_json: bool
) -> None:
    """Check a model with every sampling method that it offers.

    Raises
    ------
    UsageError
        There is no such model, or it refuses the parameters.
    CheckFailedError
        It failed a check.
    """
    model = validated(Registry(files).load(name), params)
    found: list[tuple[Method, Check]] = []
    out = sys.stdout
    # What a model prints is no data of ours.
    with contextlib.redirect_stdout(sys.stderr):
        for method, each in _checks(model, files):
            found.append((method, each))
            if not as_json:
                line = _line(each, method if len(model.methods) > 1 else None)
                click.echo(line, file=out)
    failed = [each.name for _, each in found if each.outcome is Outcome.FAILED]
    if as_json:
        click.echo(json.dumps(_report(model, found)))
    else:
        click.echo(
            f"a sound model fails a comparison at {SIGMAS} sigma in at most one of "
            f"{1 / FALSE_ALARM:,.0f} cases; the seed is fixed",
            err=True,
        )
    if failed:
        what = f"{len(failed)} of {len(found)} checks: {', '.join(dict.fromkeys(failed))}"
        raise CheckFailedError(f"model '{name}' failed {what}")


def _checks(model: Model, files: Sequence[ModelFile]) -> Iterator[tuple[Method, Check]]:
    for method in model.methods:
        subject = Subject(model.name, model.params(), method, tuple(files))
        for found in check_model(subject):
            yield method, found


def _line(found: Check, method: Method | None) -> str:
    word = WORDS.get(found.outcome, found.outcome.value)
    where = f"{method}: " if method else ""
    return f"{word:6}  {where}{found.name}: {found.text}"


def _report(model: Model, found: Sequence[tuple[Method, Check]]) -> dict[str, Any]:
    return {
        "model": model.name,
        "version": model.version,
        "params": model.params(),
        "ok": all(each.outcome is not Outcome.FAILED for _, each in found),
        "checks": [{"method": method.value, **asdict(each)} for method, each in found],
    }
