"""`montemq run`, `montemq resume` and `montemq wait`: submit, follow, print."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import click

from ops.commands import options
from ops.commands.answers import ask_once, show, valid
from ops.commands.campaign import campaign_of, run_campaign
from ops.commands.following import Following, follow
from ops.commands.run_files import describing_a_run, run_file
from producer.detaching import detach
from producer.reopening import look_up, reopen
from producer.run_id import Moment, slot_age, slot_begin
from producer.run_sections import setting
from producer.runfile import Submission, submission
from producer.session import raise_unless_finished
from protocol.definition import Lane
from protocol.errors import UnknownRunError, UsageError
from protocol.messages import RunState
from protocol.registry import Registry
from protocol.rpc_messages import DeclarationRequest, ResumeRequest, Status, StatusRequest
from protocol.settings import Broker


@click.command()
@click.argument("what", metavar="FILE|MODEL")
@describing_a_run
@click.option("--id", "run_id", help="The run's id; may hold {date}, {week}, {hour}, {hash}.")
@click.option("--lane", type=click.Choice([lane.value for lane in Lane]), help="How urgent it is.")
@click.option("--utc", is_flag=True, help="Read {date}, {week} and {hour} of --id in UTC.")
@click.option("--max-age", callback=options.duration, help="Latest start after --id's slot began.")
@click.option("--detach", "detached", is_flag=True, help="Declare it, print its id, and exit.")
@click.option(
    "--cancel-on-interrupt",
    "cancels",
    is_flag=True,
    help="Ctrl-C cancels the run; not with a campaign.",
)
@click.option("--chunk-blocks", type=click.IntRange(1, 2**20), help="Force a chunk size.")
@options.following
@options.model_files
@options.amqp
@options.as_json
def run(
    what: str,
    settings: tuple[str, ...],
    utc: bool,
    max_age: options.Duration | None,
    detached: bool,
    cancels: bool,
    chunk_blocks: int | None,
    timeout: float | None,
    quiet: bool,
    model_files: tuple[str, ...],
    amqp_url: str,
    password_file: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Submit a run, follow it to its end, and print its estimates.

    WHAT is a run file or a campaign file (TOML), or the name of a model with parameters given by
    --set.

    --id may hold {date} (2026-11-21), {week} (2026-W47), {hour} (00 to 23, beside {date}) and
    {hash} (of the run's definition), in this machine's time zone unless --utc is given. The finest
    of the first three is the run's slot: --max-age refuses a start so long after the slot began,
    unless the run has been started already.

    Ctrl-C stops following, and the run stays; a second one ends at once. With
    --cancel-on-interrupt, which no campaign takes, the first one cancels the run (exit code 7).
    """
    if detached and (timeout is not None or cancels or chunk_blocks is not None):
        raise click.UsageError(
            "--detach follows nothing: without --timeout, --cancel-on-interrupt and --chunk-blocks"
        )
    models = Registry(options.read_model_files(model_files))
    moment = Moment(time.time(), utc)
    how = Following(timeout, quiet=quiet, cancels=cancels, chunk_blocks=chunk_blocks)
    one_run = {"settings": settings, "max_age": max_age, "detach": detached, "cancel": cancels}
    if campaign := campaign_of(what, fields | one_run, models, moment):
        broker = options.broker_of(amqp_url, password_file)
        run_campaign(campaign, broker, how, as_json=as_json)
        return
    file = run_file(what, fields)
    settings_read = [setting(text) for text in settings]
    job = submission(file, settings_read, where=what, load=models.load, moment=moment)
    broker = options.broker_of(amqp_url, password_file)
    if max_age is not None:
        _refuse_late_start(broker, job, file.run.id, moment, max_age)
    if detached:
        _detach(broker, job, quiet=quiet, as_json=as_json)
        return
    how = replace(how, repeatable=file.run.id is not None)
    show(follow(broker, job, how), as_json=as_json)


@click.command()
@click.argument("run_id", metavar="RUN")
@options.following
@options.amqp
@options.as_json
def resume(
    run_id: str,
    timeout: float | None,
    quiet: bool,
    amqp_url: str,
    password_file: str | None,
    as_json: bool,
) -> None:
    """Take a run up again from what is missing, also a failed or cancelled one."""
    broker = options.broker_of(amqp_url, password_file)
    job = asyncio.run(reopen(broker, valid(lambda: ResumeRequest(run=run_id))))
    show(follow(broker, job, Following(timeout, quiet=quiet)), as_json=as_json)


@click.command()
@click.argument("run_id", metavar="RUN")
@options.following
@options.amqp
@options.as_json
def wait(
    run_id: str,
    timeout: float | None,
    quiet: bool,
    amqp_url: str,
    password_file: str | None,
    as_json: bool,
) -> None:
    """Follow a run that others schedule to its end, and print its estimates."""
    broker = options.broker_of(amqp_url, password_file)
    job = asyncio.run(look_up(broker, valid(lambda: DeclarationRequest(run=run_id))))
    how = Following(timeout, quiet=quiet, only_watches=True)
    show(follow(broker, job, how), as_json=as_json)


def _detach(broker: Broker, job: Submission, *, quiet: bool, as_json: bool) -> None:
    """Declare a run and leave it to the service; print its id."""
    detached = asyncio.run(detach(broker, job))
    click.echo(json.dumps({"run": job.run, "state": detached.state}) if as_json else job.run)
    raise_unless_finished(job.run, detached.state, detached.error)
    if detached.state is not RunState.RUNNING:
        return
    if not detached.served:
        click.echo(
            f"montemq: nobody schedules run '{job.run}' yet: start `montemq producer`, or "
            f"`montemq resume {job.run}`",
            err=True,
        )
    elif not quiet:
        click.echo(
            f"`montemq producer` schedules run '{job.run}'; follow it with "
            f"`montemq wait {job.run}`",
            err=True,
        )


def _refuse_late_start(
    broker: Broker, job: Submission, template: str | None, moment: Moment, max_age: options.Duration
) -> None:
    """Refuse a run whose slot began too long ago, unless it has been declared already."""
    age = None if template is None else slot_age(template, moment)
    begin = None if template is None else slot_begin(template, moment)
    if age is None or begin is None:
        raise UsageError("--max-age needs an --id with {date}, {week} or {hour}")
    if age <= max_age.seconds:
        return
    try:
        ask_once(broker, lambda: StatusRequest(run=job.run), Status)
    except UnknownRunError:
        raise UsageError(
            f"run '{job.run}' is not started: its slot began at {begin:%Y-%m-%d %H:%M}"
            f"{' UTC' if moment.utc else ''}, more than --max-age = {max_age.text} ago"
        ) from None
