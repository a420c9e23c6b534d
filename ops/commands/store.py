"""`montemq store`: backup, check, prune, export, readmit, also while the aggregator works on it."""

import csv
import json
import sys
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ops.commands import options
from ops.commands.options import Duration
from protocol.errors import UsageError
from protocol.sentences import counted

if TYPE_CHECKING:
    from protocol.results import Result

Function = TypeVar("Function", bound=Callable[..., Any])

WRONG = 1
COLUMNS = (
    *("run", "state", "model", "model_version", "seed", "sampling", "digest", "cell", "params"),
    *("cell_state", "samples", "output", "mean", "standard_error", "ci_low", "ci_high"),
    *("confidence", "error_reliable"),
)


class Format(StrEnum):
    """How results are exported."""

    JSONL = "jsonl"
    CSV = "csv"


def _store(function: Function) -> Function:
    return click.option(
        "--store",
        "path",
        type=click.Path(dir_okay=False, path_type=Path),
        default=options.DEFAULT_STORE,
        show_default=True,
        help="The database file.",
    )(function)


@click.group()
def store() -> None:
    """Back up, check, prune or export the aggregator's database; readmit a host.

    The aggregator may run meanwhile.
    """


@store.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@_store
def backup(target: Path, path: Path) -> None:
    """Copy the database as it is at this moment to TARGET, which must not exist yet.

    To restore, stop the aggregator, remove the database and the files beside it that end in -wal
    and -shm, copy TARGET to its place, and start the aggregator again.
    """
    from aggregator.store.care import backup as copy  # noqa: PLC0415 - keeps sqlite out of `--help`

    copy(path, target)
    click.echo(f"{path} is copied to {target}, {target.stat().st_size / 1e6:.1f} MB")


@store.command()
@_store
@options.as_json
def check(path: Path, as_json: bool) -> None:
    """Check the file, and that each run's sums give the digest that its result tells."""
    from aggregator.store.care import contradictions, damage  # noqa: PLC0415
    from aggregator.store.sqlite import Access, Store  # noqa: PLC0415

    findings = list(damage(path))
    with Store(path, Access.READ) as opened:
        runs = opened.runs()
        pruned = sum(1 for run in runs if opened.is_pruned(run))
        findings += [finding for run in runs for finding in contradictions(opened, run)]
    if as_json:
        content = {"ok": not findings, "runs": len(runs), "without_sums": pruned}
        click.echo(json.dumps(content | {"findings": findings}))
    else:
        for finding in findings:
            click.echo(f"WRONG  {finding}")
        without = f", {pruned} of them without sums to compare" if pruned else ""
        click.echo(f"{path}: {counted(len(runs), 'run')}{without}; {len(findings)} wrong")
    if findings:
        sys.exit(WRONG)


@store.command()
@click.option(
    "--older-than",
    required=True,
    callback=options.duration,
    help="Age of a run's end, such as 90d or 12h.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be pruned.")
@_store
def prune(older_than: Duration, dry_run: bool, path: Path) -> None:
    """Forget sums, history and failures of runs that ended long ago.

    Id, definition, digest and result stay for ever: nobody else can take the id, and the same
    command gets the same result. A failed or cancelled run that is resumed later starts afresh. The
    file keeps its size and fills up again; a backup of it is small.
    """
    from aggregator.store.sqlite import Access, Store  # noqa: PLC0415

    before = time.time() - older_than.seconds
    with Store(path, Access.READ if dry_run else Access.CARE) as opened:
        runs = opened.prunable(before)
        done = runs if dry_run else [run for run in runs if opened.prune(run, before)]
    for run in done:
        click.echo(run)
    verb = "would be" if dry_run else "were" if len(done) != 1 else "was"
    click.echo(f"{counted(len(done), 'run')} {verb} pruned", err=True)


@store.command()
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    default=Format.JSONL.value,
    show_default=True,
    help="A result on each line as `results --json` prints it, or a line for each estimate.",
)
@_store
def export(form: str, path: Path) -> None:
    """Print the results of all runs that have ended, in the order in which they began."""
    from aggregator.store.sqlite import Access, Store  # noqa: PLC0415

    with Store(path, Access.READ) as opened:
        found = (result for run in opened.runs() if (result := opened.result(run)) is not None)
        if Format(form) is Format.JSONL:
            for result in found:
                click.echo(result.model_dump_json())
            return
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        for result in found:
            writer.writerows(_lines(result))


@store.command()
@click.argument("host")
@_store
def readmit(host: str, path: Path) -> None:
    """Take again what HOST sends, after it was refused because it had sent wrong numbers.

    All its chunks are audited until a hundred have passed. The aggregator hears of it within
    seconds; the consumers there have ended and must be started again.
    """
    from aggregator.store.sqlite import Access, Store  # noqa: PLC0415

    with Store(path, Access.CARE) as opened:
        if not opened.readmit(host):
            refused = [one.host for one in opened.standings() if one.refused is not None]
            others = ", ".join(refused) or "none"
            raise UsageError(f"host '{host}' is not refused; refused are: {others}")
    click.echo(f"{host} is readmitted", err=True)


def _lines(result: "Result") -> Iterator[tuple[object, ...]]:
    """Yield the columns of each estimate; what is not known is empty."""
    of_run = (result.run, result.state, result.model, result.model_version, result.seed)
    for number, cell in enumerate(result.cells):
        params = json.dumps(cell.params, separators=(",", ":"))
        of_cell = (result.sampling, result.digest, number, params, cell.state, cell.samples)
        for name, e in cell.outputs.items():
            numbers = (e.mean, e.standard_error, e.ci_low, e.ci_high, e.confidence)
            yield (*of_run, *of_cell, name, *numbers, str(e.error_reliable).lower())
