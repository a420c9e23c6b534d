"""`montemq plan`: what a run will take, and whether distributing it is worth while."""

import asyncio
from pathlib import Path
from typing import Any

import click

from ops.commands import options
from ops.commands.run_files import describing_a_run, is_file, run_file
from producer.campaign_file import is_campaign
from producer.run_sections import read_toml, setting
from producer.runfile import submission
from protocol.errors import UsageError
from protocol.registry import Registry

PATIENCE_SECONDS = 60.0


@click.command()
@click.argument("what", metavar="FILE|MODEL")
@describing_a_run
@click.option(
    "--timeout",
    type=options.Number(min=0, min_open=True),
    default=PATIENCE_SECONDS,
    show_default=True,
    help="Seconds to wait for the pilot.",
)
@options.model_files
@options.amqp
@options.as_json
def plan(
    what: str,
    settings: tuple[str, ...],
    timeout: float,
    model_files: tuple[str, ...],
    amqp_url: str,
    password_file: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Predict samples, core seconds and wall time of a run by a pilot of a few seconds.

    WHAT is a run file (TOML), or the name of a model with parameters given by --set. The pilot is
    a handful of small runs of its own, named MODEL-plan-TIME-RANDOM-NUMBER, in the lane high; the
    run itself is not declared.
    """
    if is_file(what) and is_campaign(read_toml(Path(what))):
        raise UsageError(f"{what} is a campaign; a plan is of one run")
    models = Registry(options.read_model_files(model_files))
    described = run_file(what, fields)
    job = submission(described, [setting(text) for text in settings], what, models.load)
    broker = options.broker_of(amqp_url, password_file)
    from producer.pilot import Pilot  # noqa: PLC0415 - the broker's client loads when it is used
    from producer.plan_table import print_plan  # noqa: PLC0415

    told: set[str] = set()

    def tell(run: str, waits: str | None) -> None:
        text = f"waiting: {waits}" if waits else f"measuring: {run}"
        if text not in told:
            told.add(text)
            click.echo(text, err=True)

    pilot = Pilot(broker, job, lambda run, update: tell(run, update.waits))
    try:
        measured = asyncio.run(options.interruptible(pilot.measure(timeout)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    if as_json:
        click.echo(measured.model_dump_json())
    else:
        print_plan(measured, job.definition)
