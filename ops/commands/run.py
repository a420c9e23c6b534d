"""`montemq run` and `montemq resume`: submit, follow, print."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import click

from ops.commands import options
from ops.commands.answers import show, valid
from producer.reopening import reopen
from producer.runfile import RunFile, Submission, parse, read_run_file, setting, submission
from protocol.definition import Lane
from protocol.registry import Registry
from protocol.results import Result
from protocol.rpc_messages import ResumeRequest
from protocol.settings import Broker

SUFFIX = ".toml"

OPTIONS = {
    "seed": ("run", "seed", "--seed"),
    "samples": ("stop", "samples", "--samples"),
    "run_id": ("run", "id", "--id"),
    "pool": ("run", "pool", "--pool"),
    "lane": ("run", "lane", "--lane"),
}
"""Section and field of a run file that each option overrides."""


@click.command()
@click.argument("what", metavar="FILE|MODEL")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A model parameter.")
@click.option("--seed", type=int, help="Seed of the run, 0 to 2^64-1; random if not given.")
@click.option("--samples", type=int, help="Samples of each cell, rounded up to whole blocks.")
@click.option("--id", "run_id", help="The run's id; the same id and definition is the same run.")
@click.option("--pool", help="The pool of consumers that computes it.")
@click.option("--lane", type=click.Choice([lane.value for lane in Lane]), help="How urgent it is.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait.")
@click.option("--chunk-blocks", type=click.IntRange(1, 2**20), help="Blocks per chunk.")
@options.model_files
@options.amqp
@options.as_json
def run(
    what: str,
    settings: tuple[str, ...],
    timeout: float | None,
    chunk_blocks: int | None,
    model_files: tuple[str, ...],
    amqp_url: str,
    password_file: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Submit a run, follow it to its end, and print its estimates.

    WHAT is a run file (TOML), or the name of a model with parameters given by --set.
    """
    file = _run_file(what, fields)
    models = Registry(options.read_model_files(model_files))
    settings_read = [setting(text) for text in settings]
    job = submission(file, settings_read, where=what, load=models.load)
    broker = options.broker_of(amqp_url, password_file)
    show(follow(broker, job, timeout, chunk_blocks), as_json=as_json)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait.")
@options.amqp
@options.as_json
def resume(
    run_id: str, timeout: float | None, amqp_url: str, password_file: str | None, as_json: bool
) -> None:
    """Take a run up again from what is missing, also a failed or cancelled one."""
    broker = options.broker_of(amqp_url, password_file)
    job = asyncio.run(reopen(broker, valid(lambda: ResumeRequest(run=run_id))))
    show(follow(broker, job, timeout, None), as_json=as_json)


def follow(
    broker: Broker, job: Submission, timeout: float | None, chunk_blocks: int | None
) -> Result:
    """See a run to its end, showing its progress on stderr.

    Raises
    ------
    KeyboardInterrupt
        After saying how to go on.
    """
    from producer.progress import ProgressDisplay  # noqa: PLC0415 - rich loads when it is shown
    from producer.resampled import is_resampled  # noqa: PLC0415
    from producer.session import RunSession  # noqa: PLC0415

    accurate = not is_resampled(job.definition.model)
    with ProgressDisplay(job.run, estimate=accurate) as display:
        session = RunSession(broker, job, display, chunk_blocks)
        try:
            return asyncio.run(_interruptible(session.result(timeout)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            click.echo(
                f"montemq: stopped following; run '{job.run}' keeps what is merged: go on with "
                f"`montemq resume {job.run}`, or end it with `montemq cancel {job.run}`",
                err=True,
            )
            raise KeyboardInterrupt from None


async def _interruptible(work: Any) -> Result:
    """Let SIGTERM end the work as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in a coroutine
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    result: Result = await work
    return result


def _run_file(what: str, fields: dict[str, Any]) -> RunFile:
    """Return the run file with the command line's fields laid over it."""
    content = _content(what)
    options = {}
    for name, value in fields.items():
        if value is not None:
            section, field, option = OPTIONS[name]
            content[section] = content.get(section, {}) | {field: value}
            options[f"{section}.{field}"] = option
    return parse(content, what, options)


def _content(what: str) -> dict[str, Any]:
    path = Path(what)
    if what.endswith(SUFFIX) or "/" in what or path.is_file():
        return read_run_file(path).model_dump(exclude_unset=True)
    return {"run": {"model": what}}
