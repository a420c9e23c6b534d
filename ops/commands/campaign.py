"""What `montemq run` does with a campaign file: submit, follow and print all of its runs."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ops.commands import options
from ops.commands.following import Following
from ops.commands.run_files import is_file
from producer.campaign_file import CampaignFile, Over, is_campaign, read_campaign
from producer.campaign_session import CampaignOutcome, CampaignSession
from producer.quiet import Quiet
from producer.run_id import Moment
from producer.run_sections import read_toml
from protocol.errors import UsageError
from protocol.registry import Registry
from protocol.settings import Broker

CAMPAIGN_FIELDS = {"run_id": "id", "seed": "seed"}
"""Options of `montemq run` that speak of the campaign, and its fields."""

OTHER_NAMES = {"settings": "set", "cancel": "cancel-on-interrupt"}
INSTEAD = {
    "cancel": "Ctrl-C only stops following it, and `montemq cancel RUN` ends each of its runs",
    "detach": "who follows it starts the runs that wait for others",
    "max_age": "it starts whenever it is told to",
}
"""Why an option that no run file has is refused."""

RUN_FIELDS = ("pool", "lane")
"""Options that speak of every run of it."""


def campaign_of(
    what: str, fields: Mapping[str, Any], models: Registry, moment: Moment
) -> CampaignFile | None:
    """Return the campaign that a command line names, None where it names a run file.

    Parameters
    ----------
    what
        Path of a TOML file.
    fields
        The options that say something of a run, by name; None, empty or False where not given.
    models
        The models that can be run.
    moment
        What the placeholders of the campaign's id name.

    Raises
    ------
    UsageError
        The file is wrong, or an option is for one run alone.
    """
    path = Path(what)
    if not is_file(what) or not is_campaign(read_toml(path)):
        return None
    given = {
        name: value
        for name, value in fields.items()
        if value is not None and value is not False and value != ()
    }
    for name in given:
        if name not in CAMPAIGN_FIELDS and name not in RUN_FIELDS:
            option = "--" + OTHER_NAMES.get(name, name).replace("_", "-")
            instead = INSTEAD.get(name, "its runs say so themselves")
            raise UsageError(f"{option} is for one run, and {what} is a campaign: {instead}")
    over = {field: given[name] for name, field in CAMPAIGN_FIELDS.items() if name in given}
    run_over = {name: given[name] for name in RUN_FIELDS if name in given}
    return read_campaign(path, Over(over, run_over), models.load, moment)


def run_campaign(
    campaign: CampaignFile,
    broker: Broker,
    how: Following,
    *,
    as_json: bool,
) -> None:
    """See a campaign to its end, print all results, and fail as it did.

    Raises
    ------
    RunFailedError, RunCancelledError
        A run failed or was cancelled; the results of the others are printed all the same.
    """
    outcome = _follow(campaign, broker, how)
    if as_json:
        click.echo(outcome.model_dump_json())
    else:
        from producer.tables import print_result  # noqa: PLC0415 - rich loads when it is shown

        for run in outcome.runs.values():
            if run.result is not None:
                print_result(run.result)
    if error := outcome.error():
        raise error


def _follow(campaign: CampaignFile, broker: Broker, how: Following) -> CampaignOutcome:
    from producer.campaign_progress import CampaignDisplay  # noqa: PLC0415 - as above

    seeds = "their ids" if campaign.seed is None else f"seed {campaign.seed}"
    if not how.quiet:
        click.echo(f"campaign {campaign.id}: runs without a seed derive it from {seeds}", err=True)
    with Quiet() if how.quiet else CampaignDisplay(campaign.models) as display:
        session = CampaignSession(broker, campaign, display, how.chunk_blocks)
        try:
            return asyncio.run(options.interruptible(session.outcome(how.timeout)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            chained = any(campaign.after.values())
            alone = ", which alone starts those that wait for others" if chained else ""
            click.echo(
                f"montemq: stopped following; the runs of campaign '{campaign.id}' keep what is "
                f"merged: go on with the same command{alone}, or end each with "
                f"`montemq cancel {campaign.id}-NAME`; those under way go on by themselves where "
                "`montemq producer` is running",
                err=True,
            )
            raise KeyboardInterrupt from None
