"""Reads run files: TOML, its sections, and a complaint that names the field; no model is asked."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from producer import run_id
from protocol.definition import Amount, Lane, Name, Quantiles, Seed, Stop
from protocol.errors import UsageError
from protocol.sentences import rule

MAX_FILE_BYTES = 1 << 22


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class _Run(_Section):
    model: str | None = None
    id: Annotated[str, AfterValidator(run_id.checked)] | None = None
    seed: Seed | None = None
    pool: Name = "default"
    lane: Annotated[Lane, Field(strict=False)] = Lane.NORMAL


class SamplingSection(_Section):
    """How the samples are drawn."""

    method: str = "pseudo"
    block_size: int | None = None
    common_random_numbers: bool = False
    control_variates: bool = False


class OutputsSection(_Section):
    """What the result shows."""

    names: list[str] | None = None
    quantiles: Annotated[Quantiles, Field(strict=False)] = ()
    bump: dict[str, Amount] = {}


class RunFile(_Section):
    """The sections of a run file; the model checks `[params]`, `[[cells]]` and `[sweep]`."""

    run: _Run = _Run()
    params: dict[str, Any] = {}
    cells: list[dict[str, Any]] = []
    sweep: dict[str, list[Any]] = {}
    sampling: SamplingSection = SamplingSection()
    outputs: OutputsSection = OutputsSection()
    stop: Stop = Stop()


def read_run_file(path: Path) -> RunFile:
    """Read a TOML run file.

    Raises
    ------
    UsageError
        It cannot be read, is no TOML, or has unknown or wrong fields.
    """
    return parse(read_toml(path), str(path))


def read_toml(path: Path, what: str = "run file") -> dict[str, Any]:
    """Read a TOML file, whatever stands in it.

    Raises
    ------
    UsageError
        It cannot be read or is no TOML; the sentence says what it should be.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the {what} {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"the {what} {path} has {len(data)} bytes, allowed are {MAX_FILE_BYTES}")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the {what} {path} is not valid TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"the {what} {path} is nested too deeply") from None


def parse(
    content: Mapping[str, Any], where: str, options: Mapping[str, str] = MappingProxyType({})
) -> RunFile:
    """Check the sections of a run file.

    Parameters
    ----------
    content
        The sections.
    where
        What a complaint begins with, such as the file's path.
    options
        Fields, such as `stop.samples`, that were not given there but by an option of this name.

    Raises
    ------
    UsageError
        One sentence that names the field, or the option, the value and what is allowed.
    """
    try:
        return RunFile.model_validate(content)
    except ValidationError as error:
        field = _field(error)
        if field in options:
            text = complaint(error).removeprefix(field)
            raise UsageError(f"{options[field]}{text}") from None
        raise UsageError(f"{where}: {complaint(error)}") from None


def setting(text: str) -> tuple[str, Any]:
    """Read one `--set k=v`: v is a TOML value, or a bare word as a string.

    Raises
    ------
    UsageError
        There is no `=`.
    """
    name, separator, value = text.partition("=")
    name = name.strip()
    if not separator or not name:
        raise UsageError(f"--set {text!r} must read name=value")
    try:
        content = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return name, value.strip()
    return name, content["value"] if len(content) == 1 else value


def complaint(error: ValidationError) -> str:
    """Return one sentence that names the first wrong field, its value and what is allowed."""
    first, field = _first(error), _field(error)
    if first["type"] == "extra_forbidden":
        section = RunFile.model_fields if len(first["loc"]) == 1 else _fields(str(first["loc"][0]))
        return f"{field} is unknown; allowed are {', '.join(section)}"
    if not field:
        return rule(first)
    return f"{field} = {first['input']!r:.80} is not allowed: {rule(first)}"


def _field(error: ValidationError) -> str:
    return ".".join(str(part) for part in _first(error)["loc"])


def _first(error: ValidationError) -> ErrorDetails:
    return error.errors(include_url=False, include_context=False)[0]


def _fields(section: str) -> list[str]:
    schema = TypeAdapter(RunFile).json_schema()
    reference = schema["properties"].get(section, {})
    name = reference.get("$ref", "").rpartition("/")[2]
    return list(schema.get("$defs", {}).get(name, {}).get("properties", ()))
