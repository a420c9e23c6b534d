"""From a campaign file to runs that can be declared, each as soon as what it refers to is known.

Whatever can be refused before anything is published is refused here.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from producer import run_id
from producer.campaign import check_order
from producer.references import references, replaced
from producer.run_id import Moment
from producer.run_sections import RunFile, parse, read_run_file, read_toml
from producer.runfile import Outline, Submission, outline, submission
from protocol.definition import Name, RunId, Seed
from protocol.errors import UsageError
from protocol.model import Model
from protocol.registry import load_model
from protocol.results import Result
from protocol.sentences import rule

MAX_RUNS = 1_000
SECTIONS = frozenset(RunFile.model_fields)
OWN = ("file", "after")
"""Fields of a run beside the sections of a run file."""


class _Campaign(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, AfterValidator(run_id.checked)] | None = None
    seed: Seed | None = None


class _File(BaseModel):
    """What stands at the top; `runs` holds the sections of run files, which are read one by one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    campaign: _Campaign = _Campaign()
    runs: Annotated[dict[Name, dict[str, Any]], Field(min_length=1, max_length=MAX_RUNS)]


@dataclass(frozen=True)
class Entry:
    """One run of a campaign.

    Attributes
    ----------
    content
        The sections of its run file, references unresolved.
    after
        The runs that it waits for, those that it refers to included.
    """

    content: Mapping[str, Any]
    after: frozenset[str]


@dataclass(frozen=True)
class CampaignFile:
    """A checked campaign; runs that say no seed derive theirs from its seed, or else their ids."""

    id: str
    seed: int | None
    runs: Mapping[str, Entry]
    load: Callable[[str], type[Model]] = load_model
    name: str | None = None
    """What it has in common with other campaigns, see `run_id`."""

    @property
    def after(self) -> dict[str, frozenset[str]]:
        """For each run, in the order of the file, the runs that it waits for."""
        return {name: entry.after for name, entry in self.runs.items()}

    def run_id(self, name: str) -> str:
        """Return the id of the run that has this name in the campaign."""
        return f"{self.id}-{name}"

    @property
    def models(self) -> dict[str, str]:
        """The names of the runs' models."""
        return {name: entry.content["run"]["model"] for name, entry in self.runs.items()}

    def run_seed(self, name: str) -> int | None:
        """Return the seed of a run that says none: 64 bits of a hash, so that all differ."""
        if self.seed is None:
            return None  # a run with an id has one by it already
        text = f"{self.seed}-{name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

    def submission(self, name: str, results: Mapping[str, Result]) -> Submission:
        """Return a run with the numbers of earlier results in the place of references.

        Raises
        ------
        UsageError
            A result lacks a number, or the model does not allow it.
        """
        content = replaced(
            self.runs[name].content, lambda reference: reference.of(results[reference.run])
        )
        found = submission(
            parse(self._with_identity(name, content), f"runs.{name}"),
            where=f"runs.{name}",
            load=self.load,
        )
        return replace(found, name=self.name and f"{self.name}-{name}")

    def _with_identity(self, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
        seed = self.run_seed(name)
        derived = {} if seed is None else {"seed": seed}
        run = derived | content["run"] | {"id": self.run_id(name)}
        return dict(content) | {"run": run}


def is_campaign(content: Mapping[str, Any]) -> bool:
    """Say whether the content of a TOML file is a campaign rather than a run."""
    return "campaign" in content or "runs" in content


@dataclass(frozen=True)
class Over:
    """Fields laid over `[campaign]`, and over the section `run` of every run."""

    campaign: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)


def read_campaign(
    path: Path,
    over: Over | None = None,
    load: Callable[[str], type[Model]] = load_model,
    moment: Moment | None = None,
) -> CampaignFile:
    """Read and check a campaign file.

    Parameters
    ----------
    path
        Of the file; paths in it are relative to its folder.
    over
        What the command line says instead.
    load
        Finds a model by name.
    moment
        What the placeholders of the campaign's id name; now if None.

    Raises
    ------
    UsageError
        One sentence that names the run, the field, the value and what is allowed.
    """
    content = read_toml(path, "campaign file")
    try:
        over = over or Over()
        file = _parsed(content, over.campaign)
        entries = {
            name: _entry(name, run, path.parent, over.run) for name, run in file.runs.items()
        }
        template = file.campaign.id or _id_of(path)
        hashed = _content_hash(file.campaign.seed, entries)
        found = CampaignFile(
            id=run_id.of_definition(run_id.at(template, moment or Moment(time.time())), hashed),
            seed=file.campaign.seed,
            runs=entries,
            load=load,
            name=run_id.name(template),
        )
        check_order(found.after)
        for name in entries:
            _check_id(found, name)
        _check_runs(found)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return found


def _parsed(content: Mapping[str, Any], over: Mapping[str, Any]) -> _File:
    try:
        return _File.model_validate(
            dict(content) | {"campaign": _table(content, "campaign") | dict(over)}
        )
    except ValidationError as error:
        raise UsageError(_complaint(error)) from None


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "missing":
        return f"[{field}.NAME] is missing: a campaign has at least one run"
    if first["type"] == "extra_forbidden":
        allowed = _Campaign.model_fields if len(first["loc"]) > 1 else _File.model_fields
        return f"{field:.80} is unknown; allowed are {', '.join(allowed)}"
    return f"{field:.80} = {first['input']!r:.80} is not allowed: {rule(first)}"


def _table(content: Mapping[str, Any], name: str, where: str = "") -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{where}{name} = {table!r:.80} is not allowed: it should be a table")
    return table


def _entry(name: str, run: Mapping[str, Any], folder: Path, run_over: Mapping[str, Any]) -> Entry:
    """Return one run: its file, where it names one, and its own sections laid over that."""
    where = f"runs.{name}"
    own = {section: value for section, value in run.items() if section not in OWN}
    if unknown := [section for section in own if section not in SECTIONS]:
        allowed = ", ".join([*OWN, *RunFile.model_fields])
        raise UsageError(f"{where}.{unknown[0]} is unknown; allowed are {allowed}")
    content = _file_content(where, run["file"], folder) if "file" in run else {}
    for section, value in own.items():
        both = isinstance(value, dict) and isinstance(content.get(section), dict)
        content[section] = content[section] | value if both else value
    said = _table(content, "run", f"{where}.")
    if "id" in said:
        raise UsageError(
            f"{where}.run.id is not allowed: a run's id is the campaign's with its name"
        )
    content["run"] = said | dict(run_over)
    try:
        referred = {reference.run for _, reference in references(content)}
    except UsageError as error:
        raise UsageError(f"{where}.{error}") from None
    return Entry(content, _after(where, run.get("after", [])) | referred)


def _file_content(where: str, name: Any, folder: Path) -> dict[str, Any]:
    if not isinstance(name, str):
        raise UsageError(f"{where}.file = {name!r:.80} is not allowed: it should be a path")
    return read_run_file(folder / name).model_dump(exclude_unset=True)


def _after(where: str, names: Any) -> frozenset[str]:
    try:
        listed = TypeAdapter(list[Name]).validate_python(names, strict=True)
    except ValidationError:
        raise UsageError(
            f"{where}.after = {names!r:.80} is not allowed: it should be a list of names of runs"
        ) from None
    twice = next((one for one in listed if listed.count(one) > 1), None)
    if twice is not None:
        raise UsageError(f"{where}.after has '{twice}' twice")
    return frozenset(listed)


def _id_of(path: Path) -> str:
    """Return an id that the same file always has, and a changed one has not."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-")[:40] or "campaign"
    return f"{stem}-{{hash}}"


def _content_hash(seed: int | None, entries: Mapping[str, Entry]) -> bytes:
    """Return a hash of all that the campaign says, but not of pools and lanes."""
    said = [
        seed,
        {
            name: [
                {
                    section: {k: v for k, v in value.items() if k not in {"pool", "lane"}}
                    if section == "run"
                    else value
                    for section, value in entry.content.items()
                },
                sorted(entry.after),
            ]
            for name, entry in entries.items()
        },
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).digest()


def _check_id(campaign: CampaignFile, name: str) -> None:
    run = campaign.run_id(name)
    try:
        TypeAdapter(RunId).validate_python(run)
    except ValidationError:
        raise UsageError(
            f"the run '{name}' would have the id '{run}' of {len(run)} characters, allowed are "
            "100; give the campaign a shorter id"
        ) from None


def _check_runs(campaign: CampaignFile) -> None:
    """Check every run as far as it can be before any result is known."""
    found = {name: _outline(campaign, name) for name in campaign.runs}
    for name, entry in campaign.runs.items():
        for where, reference in references(entry.content):
            known = found[reference.run]
            try:
                reference.check(known.outputs, known.cells)
            except UsageError as error:
                raise UsageError(f"runs.{name}.{where}: {error}") from None


def _outline(campaign: CampaignFile, name: str) -> Outline:
    content = campaign.runs[name].content
    pending = frozenset(_parameter(where) for where, _ in references(content))
    try:
        if not pending:
            definition = campaign.submission(name, {}).definition
            return Outline(definition.reported, len(definition.cells))
        placed = replaced(content, lambda reference: reference.placeholder)
        return outline(parse(placed, f"runs.{name}"), pending, campaign.load)
    except UsageError as error:
        text = str(error)
        raise UsageError(text if f"runs.{name}" in text else f"runs.{name}: {text}") from None


def _parameter(where: str) -> str:
    """Return the parameter's name in a place such as `cells[0].strike` or `sweep.strike[1]`."""
    return where.split(".", 1)[1].partition("[")[0]
