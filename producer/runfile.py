"""From a run file, or a model and settings, to a validated submission; errors name the field."""

import hashlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from producer import run_id
from producer.run_id import Moment
from producer.run_sections import OutputsSection, RunFile, SamplingSection, complaint
from protocol.definition import (
    MAX_BLOCKS,
    Definition,
    Lane,
    Method,
    Params,
    Sampling,
    Stop,
    reported_outputs,
)
from protocol.errors import UsageError
from protocol.messages import encode
from protocol.model import Model, bumped, check_known, validated
from protocol.registry import load_model
from protocol.rpc_messages import Declare

MAX_CELLS = 10_000

LONG_SAMPLES = 2**36
"""Sample limit of each cell where an error or a time limit ends it, unless one is given."""


@dataclass(frozen=True)
class Submission:
    """A run that can be declared; `name` is what it has in common with others, see `run_id`."""

    run: str
    definition: Definition
    pool: str
    lane: Lane
    name: str | None = None

    @classmethod
    def of(cls, declared: Declare) -> Self:
        """Return the run that a request declares."""
        lane = Lane(declared.lane)
        return cls(declared.run, declared.definition, declared.pool, lane, declared.name)

    @property
    def declaration(self) -> Declare:
        """The request that declares it."""
        return Declare(
            run=self.run,
            definition=self.definition,
            pool=self.pool,
            lane=self.lane,
            name=self.name,
        )


def submission(
    file: RunFile,
    settings: Sequence[tuple[str, Any]] = (),
    where: str = "the run",
    load: Callable[[str], type[Model]] = load_model,
    moment: Moment | None = None,
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
    moment
        What the placeholders of the run's id name; now if None.

    Raises
    ------
    UsageError
        The model is unknown, or a field is wrong; nothing has been published.
    """
    model = _model(file, load)
    template = _named(file.run.id, model.name, moment or Moment(time.time()))
    seed = _seed(template, given=file.run.id) if file.run.seed is None else file.run.seed
    sampling = _sampling(file.sampling)
    cells = [validated(model, params, where) for where, params in _cells(file, dict(settings))]
    single = all(cell.single_sample for cell in cells)
    asked = file.sampling.block_size
    block_size = (1 if single else model.block_size) if asked is None else asked
    params = tuple(_complete(cell, sampling, block_size, file.outputs.bump) for cell in cells)
    outputs = _outputs(file.outputs, model)
    try:
        definition = Definition(
            model=model.name,
            model_version=model.version,
            outputs=outputs,
            controls=model.controls if sampling.control_variates else (),
            bump=_amounts(file.outputs.bump, params[0]),
            quantiles=file.outputs.quantiles,
            cells=params,
            seed=seed,
            block_size=block_size,
            sampling=sampling,
            stop=_single_sample(file.stop)
            if single
            else _stop(file.stop, outputs, block_size, model),
        )
    except ValidationError as error:
        raise UsageError(complaint(error).replace("block_size", "sampling.block_size")) from None
    run = run_id.of_definition(template, definition.hash)
    name = None if file.run.id is None else run_id.name(file.run.id)
    found = Submission(run, definition, file.run.pool, Lane(file.run.lane), name)
    size = len(encode(found.declaration))
    if size > Declare.limit:
        raise UsageError(
            f"{where}: with its {len(cells)} cells the run takes {size} bytes, "
            f"allowed are {Declare.limit}; make several runs of it"
        )
    return found


def _named(template: str | None, model: str, moment: Moment) -> str:
    """Return the run's id but for its hash: the user's, or one that nobody else has."""
    if template is None:
        return f"{model}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return run_id.at(template, moment)


def _seed(named: str, given: str | None) -> int:
    """Return a seed where none is given.

    The same id must be the same run, so a given id has a seed of its own; else it is random.
    """
    if given is None:
        return secrets.randbits(64)
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Outline:
    """What is known of a run while some of its parameters are not."""

    outputs: tuple[str, ...]
    cells: int


def outline(
    file: RunFile,
    pending: frozenset[str],
    load: Callable[[str], type[Model]] = load_model,
) -> Outline:
    """Check a run as far as it can be while some parameters are not known.

    Parameters
    ----------
    file
        The run, with numbers of the right type in the place of those that are not known.
    pending
        Names of the parameters that are not known in every cell.
    load
        As in `submission`.

    Raises
    ------
    UsageError
        Something is wrong whatever the unknown numbers will be.
    """
    model = _model(file, load)
    _sampling(file.sampling)
    cells = 0
    for where, params in _cells(file, {}):
        check_known(model, params, pending, where)
        cells += 1
    return Outline(reported_outputs(_outputs(file.outputs, model), file.outputs.bump), cells)


def _model(file: RunFile, load: Callable[[str], type[Model]]) -> type[Model]:
    if file.run.model is None:
        raise UsageError("run.model is missing; `montemq models` lists what can be run")
    return load(file.run.model)


def _cells(file: RunFile, settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each cell's parameters, and how to name them in a complaint."""
    _check_sweep(file, settings)
    sweep = [[(name, value) for value in values] for name, values in file.sweep.items()]
    count = max(1, len(file.cells))
    for values in file.sweep.values():
        count *= len(values)
    if count > MAX_CELLS:
        raise UsageError(f"the run has {count} cells, allowed are {MAX_CELLS}")
    for where, overrides in _numbered(file.cells) or [("params", {})]:
        for point in itertools.product(*sweep):
            yield where, file.params | overrides | dict(point) | settings


def _check_sweep(file: RunFile, settings: Mapping[str, Any]) -> None:
    """Refuse what would make cells alike, or be replaced without a word."""
    for name in settings:
        if name in file.sweep or any(name in overrides for overrides in file.cells):
            raise UsageError(f"--set {name} would make cells alike that [sweep] or [[cells]] vary")
    for name, values in file.sweep.items():
        if not values:
            raise UsageError(f"sweep.{name} = [] has no values")
        for section, given in (("[params]", file.params), *_numbered(file.cells)):
            if name in given:
                raise UsageError(
                    f"sweep.{name} would replace {name} = {given[name]!r:.80} of {section}; "
                    "give it in one of them"
                )


def _numbered(cells: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return cells with what to call them in a complaint."""
    return [(f"cells[{number}]", cell) for number, cell in enumerate(cells)]


def _stop(stop: Stop, outputs: tuple[str, ...], block_size: int, model: type[Model]) -> Stop:
    """Return when cells end, with what is not given written out."""
    update: dict[str, Any] = {}
    if stop.has_target and not stop.outputs:
        update["outputs"] = outputs[:1]
    if "samples" not in stop.model_fields_set:
        long = stop.has_target or stop.seconds is not None
        samples = LONG_SAMPLES if long else model.default_samples
        update["samples"] = min(samples, block_size * MAX_BLOCKS)
    return stop.model_copy(update=update)


def _single_sample(stop: Stop) -> Stop:
    """Return when cells end that have one sample each, whoever runs them."""
    for name in ("standard_error", "relative_error"):
        if (error := getattr(stop, name)) is not None:
            raise UsageError(
                f"stop.{name} = {error:g} is not allowed: these parameters give one sample, always "
                "the same, and one sample has no error"
            )
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


def _sampling(section: SamplingSection) -> Sampling:
    methods = [method.value for method in Method]
    if section.method not in methods:
        raise UsageError(
            f"sampling.method = {section.method!r} is not allowed; allowed are {', '.join(methods)}"
        )
    return Sampling.model_validate(section.model_dump(exclude={"block_size"}))


def _outputs(section: OutputsSection, model: type[Model]) -> tuple[str, ...]:
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
