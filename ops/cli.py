"""The program `montemq`: finds the command and runs it.

Commands are imported when they are called, so that `montemq --help` stays quick.
"""

import importlib
import sys
from typing import NoReturn

import click

from ops.exit_codes import exit_code

COMMANDS = {
    "up": ("ops.commands.up:up", "Run a broker and all services on this machine."),
    "run": ("ops.commands.run:run", "Submit a run, follow it and print its estimates."),
    "plan": ("ops.commands.plan:plan", "Predict what a run takes, and whether it is worth it."),
    "resume": ("ops.commands.run:resume", "Take a run up again from what is missing."),
    "wait": ("ops.commands.run:wait", "Follow a run that others schedule to its end."),
    "status": ("ops.commands.queries:status", "Show what runs there are and how far they are."),
    "top": ("ops.commands.top:top", "Watch runs and consumers live."),
    "results": ("ops.commands.queries:results", "Show the estimates of a run."),
    "report": ("ops.commands.report:report", "Write a run as one HTML file."),
    "cancel": ("ops.commands.queries:cancel", "End a run; what is merged is kept."),
    "models": ("ops.commands.models:models", "Show what can be run, with parameters and outputs."),
    "consumer": ("ops.commands.services:consumer", "Simulate on this machine."),
    "aggregator": ("ops.commands.services:aggregator", "Combine partial results."),
    "producer": ("ops.commands.services:producer", "Schedule runs that nobody else schedules."),
    "broker": ("ops.commands.broker:broker", "Prepare a broker, or run a private one."),
    "fleet": ("ops.commands.fleet:fleet", "Show the consumers, and tell them what to do."),
    "install": ("ops.commands.install:install", "Write a service's systemd unit."),
    "store": ("ops.commands.store:store", "Back up, check, prune or export the database."),
    "enrol": ("ops.commands.enrolment:enrol", "Make a consumer machine's credentials."),
    "revoke": ("ops.commands.enrolment:revoke", "Remove a consumer machine's credentials."),
    "doctor": ("ops.commands.doctor:doctor", "Check this installation and say what is wrong."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports them when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of their table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table says so
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="montemq", message="%(version)s")
def cli() -> None:
    """Monte Carlo on spare machines over RabbitMQ."""


def main() -> NoReturn:
    """Run the program."""
    sys.exit(exit_code("montemq", lambda: cli.main(prog_name="montemq", standalone_mode=False)))


if __name__ == "__main__":
    main()
