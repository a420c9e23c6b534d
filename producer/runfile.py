"""From a run file, or a model and settings, to a validated submission; errors name the field."""

import itertools
import secrets
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from protocol.definition import (
    Definition,
    Lane,
    Method,
    Name,
    Params,
    RunId,
    Sampling,
    Seed,
    Stop,
)
from protocol.errors import UsageError
from protocol.messages import encode
from protocol.model import Model, bumped, validated
from protocol.registry import load_model
from protocol.rpc_messages import Declare

MAX_CELLS = 10_000
MAX_FILE_BYTES = 1 << 22


@dataclass(frozen=True)
class Submission:
    """A run that can be declared."""

    run: str
    definition: Definition
    pool: str
    lane: Lane

    @property
    def declaration(self) -> Declare:
        """The request that declares it."""
        return Declare(run=self.run, definition=self.definition, pool=self.pool, lane=self.lane)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class _Run(_Section):
    model: str | None = None
    id: RunId | None = None
    seed: Seed | None = None
    pool: Name = "default"
    lane: Annotated[Lane, Field(strict=False)] = Lane.NORMAL


class _Sampling(_Section):
    method: str = "pseudo"
    block_size: int | None = None
    common_random_numbers: bool = False
    control_variates: bool = False


class _Outputs(_Section):
    names: list[str] | None = None
    quantiles: list[float] = []
    bump: dict[str, int | float] = {}


class RunFile(_Section):
    """The sections of a run file; the model checks `[params]`, `[[cells]]` and `[sweep]`."""

    run: _Run = _Run()
    params: dict[str, Any] = {}
    cells: list[dict[str, Any]] = []
    sweep: dict[str, list[Any]] = {}
    sampling: _Sampling = _Sampling()
    outputs: _Outputs = _Outputs()
    stop: Stop = Stop()


def read_run_file(path: Path) -> RunFile:
    """Read a TOML run file.

    Raises
    ------
    UsageError
        It cannot be read, is no TOML, or has unknown or wrong fields.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the run file {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"the run file {path} has {len(data)} bytes, allowed are {MAX_FILE_BYTES}")
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the run file {path} is not valid TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"the run file {path} is nested too deeply") from None
    return parse(content, str(path))


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
            text = _complaint(error).removeprefix(field)
            raise UsageError(f"{options[field]}{text}") from None
        raise UsageError(f"{where}: {_complaint(error)}") from None


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


def submission(
    file: RunFile,
    settings: Sequence[tuple[str, Any]] = (),
    where: str = "the run",
    load: Callable[[str], type[Model]] = load_model,
) -> Submission:
    """Validate a run against its model and return what is to be declared.

    Parameters
    ----------
    file
        The run file, or its equivalent from the command line.
    settings
        Parameters that override `[params]`.
    where
        What a complaint about the whole begins with, such as the file's path.
    load
        Finds a model by name; raises UsageError where there is none.

    Raises
    ------
    UsageError
        The model is unknown, or a field is wrong; nothing has been published.
    """
    if file.run.model is None:
        raise UsageError("run.model is missing; `montemq models` lists what can be run")
    model = load(file.run.model)
    seed = secrets.randbits(64) if file.run.seed is None else file.run.seed
    sampling = _sampling(file.sampling)
    cells = [validated(model, params, where) for where, params in _cells(file, dict(settings))]
    single = all(cell.single_sample for cell in cells)
    asked = file.sampling.block_size
    block_size = (1 if single else model.block_size) if asked is None else asked
    params = tuple(_complete(cell, sampling, block_size, file.outputs.bump) for cell in cells)
    try:
        definition = Definition(
            model=model.name,
            model_version=model.version,
            outputs=_outputs(file.outputs, model),
            controls=model.controls if sampling.control_variates else (),
            bump=_amounts(file.outputs.bump, params[0]),
            quantiles=tuple(file.outputs.quantiles),
            cells=params,
            seed=seed,
            block_size=block_size,
            sampling=sampling,
            stop=_single_sample(file.stop) if single else file.stop,
        )
    except ValidationError as error:
        raise UsageError(_complaint(error).replace("block_size", "sampling.block_size")) from None
    run = file.run.id or f"{model.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    found = Submission(run, definition, file.run.pool, Lane(file.run.lane))
    size = len(encode(found.declaration))
    if size > Declare.limit:
        raise UsageError(
            f"{where}: with its {len(cells)} cells the run takes {size} bytes, "
            f"allowed are {Declare.limit}; make several runs of it"
        )
    return found


def _cells(file: RunFile, settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each cell's parameters, and how to name them in a complaint."""
    sweep = [[(name, value) for value in values] for name, values in file.sweep.items()]
    for name, values in file.sweep.items():
        if not values:
            raise UsageError(f"sweep.{name} = [] has no values")
    for name in settings:
        if name in file.sweep or any(name in overrides for overrides in file.cells):
            raise UsageError(f"--set {name} would make cells alike that [sweep] or [[cells]] vary")
    count = max(1, len(file.cells))
    for values in file.sweep.values():
        count *= len(values)
    if count > MAX_CELLS:
        raise UsageError(f"the run has {count} cells, allowed are {MAX_CELLS}")
    numbered = enumerate(file.cells) if file.cells else [(None, {})]
    for number, overrides in numbered:
        for point in itertools.product(*sweep):
            merged = file.params | overrides | dict(point) | settings
            yield "params" if number is None else f"cells[{number}]", merged


def _single_sample(stop: Stop) -> Stop:
    """Return when cells end that have one sample each, whoever runs them."""
    if "samples" in stop.model_fields_set and stop.samples != 1:
        raise UsageError(
            f"stop.samples = {stop.samples} is not allowed: these parameters give one sample, "
            "always the same"
        )
    return stop.model_copy(update={"samples": 1})


def _complete(
    cell: Model, sampling: Sampling, block_size: int, bump: Mapping[str, int | float]
) -> Params:
    """Return one cell's parameters, complete, once the model has agreed to sample them so."""
    try:
        cell.check_sampling(sampling, block_size)
        if bump:
            bumped(cell, bump).check_sampling(sampling, block_size)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return cell.params()


def _amounts(bump: Mapping[str, int | float], params: Params) -> dict[str, int | float]:
    """Return a bump in the types of its parameters, so that 1 and 1.0 are one definition."""
    return {
        name: float(amount) if isinstance(params[name], float) else amount
        for name, amount in bump.items()
    }


def _sampling(section: _Sampling) -> Sampling:
    methods = [method.value for method in Method]
    if section.method not in methods:
        raise UsageError(
            f"sampling.method = {section.method!r} is not allowed; allowed are {', '.join(methods)}"
        )
    return Sampling.model_validate(section.model_dump(exclude={"block_size"}))


def _outputs(section: _Outputs, model: type[Model]) -> tuple[str, ...]:
    if section.names is None:
        return model.outputs
    if not section.names:
        raise UsageError("outputs.names = [] has no names")
    for name in section.names:
        if name not in model.outputs:
            raise UsageError(
                f"outputs.names: model '{model.name}' has no output {name!r:.80}; "
                f"allowed are {', '.join(model.outputs)}"
            )
        if section.names.count(name) > 1:
            raise UsageError(f"outputs.names has {name!r} twice")
    return tuple(section.names)


def _complaint(error: ValidationError) -> str:
    first, field = _first(error), _field(error)
    if first["type"] == "extra_forbidden":
        section = RunFile.model_fields if len(first["loc"]) == 1 else _fields(str(first["loc"][0]))
        return f"{field} is unknown; allowed are {', '.join(section)}"
    if not field:
        return first["msg"].removeprefix("Value error, ")
    return f"{field} = {first['input']!r:.80} is not allowed: {first['msg']}"


def _field(error: ValidationError) -> str:
    return ".".join(str(part) for part in _first(error)["loc"])


def _first(error: ValidationError) -> ErrorDetails:
    return error.errors(include_url=False, include_context=False)[0]


def _fields(section: str) -> list[str]:
    schema = TypeAdapter(RunFile).json_schema()
    reference = schema["properties"].get(section, {})
    name = reference.get("$ref", "").rpartition("/")[2]
    return list(schema.get("$defs", {}).get(name, {}).get("properties", ()))
