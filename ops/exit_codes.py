"""Turns how a program ended into one sentence on stderr and an exit code."""

import os
import sys
from collections.abc import Callable

import click

from protocol.errors import MontemqError

INTERRUPTED = 130


def exit_code(program: str, command: Callable[[], object]) -> int:
    """Run a command of click and return what the program ends with.

    Parameters
    ----------
    program
        Its name, which the sentence about an error begins with.
    command
        The command in click's non-standalone mode; a number that it returns is the exit code.
    """
    try:
        code = command()
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MontemqError as error:
        click.echo(f"{program}: {error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0
