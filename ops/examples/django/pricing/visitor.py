"""What a visitor's signed cookie holds: a name nobody can guess, and the ids of their runs."""

import secrets

from django.contrib.sessions.backends.base import SessionBase
from django.http import Http404

MAX_RUNS = 30
"""A cookie holds 4 KB."""


def name(session: SessionBase) -> str:
    """Return who this is; given at the first visit."""
    if "visitor" not in session:
        session["visitor"] = secrets.token_hex(8)
    return str(session["visitor"])


def runs(session: SessionBase) -> list[str]:
    """Return the ids of the visitor's runs, newest first."""
    return list(session.get("runs", []))


def remember(session: SessionBase, run: str) -> None:
    """Put a run at the top of the list."""
    session["runs"] = [run, *(other for other in runs(session) if other != run)][:MAX_RUNS]


def expect_own(session: SessionBase, run: str) -> None:
    """Raise Http404 for a run that is not the visitor's: others may not see or cancel it."""
    if run not in runs(session):
        raise Http404("no such run")
