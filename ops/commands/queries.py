"""`montemq status`, `results` and `cancel`: ask the aggregator, over AMQP."""

import json

import click

from ops.commands import options
from ops.commands.answers import ask_once, show
from protocol.messages import RunState
from protocol.rpc_messages import (
    MAX_STATUS_RUNS,
    CancelRequest,
    Missing,
    Results,
    ResultsRequest,
    Status,
    StatusRequest,
)

SHOWN_RUNS = 100


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@options.amqp
@click.option(
    "--limit",
    default=SHOWN_RUNS,
    show_default=True,
    type=click.IntRange(1, MAX_STATUS_RUNS),
    help="Show so many runs, the newest ones.",
)
@click.option(
    "--state",
    type=click.Choice([state.value for state in RunState]),
    help="Show only runs in this state.",
)
@options.as_json
def status(
    run_id: str | None,
    amqp_url: str,
    password_file: str | None,
    limit: int,
    state: str | None,
    as_json: bool,
) -> None:
    """Show the runs, newest first, or one of them."""
    broker = options.broker_of(amqp_url, password_file)
    wanted = RunState(state) if state else None
    answer = ask_once(broker, lambda: StatusRequest(run=run_id, state=wanted, newest=limit), Status)
    if as_json:
        click.echo(json.dumps(answer.model_dump(mode="json")))
        return
    from producer.status_table import print_status  # noqa: PLC0415 - rich loads when it is shown

    print_status(answer)


@click.command()
@click.argument("run_id", metavar="RUN")
@options.amqp
@options.as_json
def results(run_id: str, amqp_url: str, password_file: str | None, as_json: bool) -> None:
    """Show the estimates of a run, as they are now."""
    broker = options.broker_of(amqp_url, password_file)
    answer = ask_once(broker, lambda: ResultsRequest(run=run_id), Results)
    show(answer.result, as_json=as_json)


@click.command()
@click.argument("run_id", metavar="RUN")
@options.amqp
@options.as_json
def cancel(run_id: str, amqp_url: str, password_file: str | None, as_json: bool) -> None:
    """End a run; what is merged is kept, and `montemq resume` takes it up again."""
    broker = options.broker_of(amqp_url, password_file)
    answer = ask_once(broker, lambda: CancelRequest(run=run_id), Missing)
    if as_json:
        click.echo(json.dumps({"run": answer.run, "state": answer.state}))
    else:
        click.echo(f"run {answer.run} is {answer.state}")
