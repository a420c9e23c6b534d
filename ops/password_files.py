"""Passwords of broker users, one file each that only its owner can read; made once, then kept."""

import os
import secrets
from pathlib import Path

from protocol.errors import UsageError

PASSWORD_BYTES = 24


def password_file(folder: Path, user: str) -> Path:
    """Return where the password of a user stands."""
    return folder / f"{user}.password"


def password_of(folder: Path, user: str) -> str:
    """Return a user's password, a random one that is written down where there is none yet.

    Raises
    ------
    UsageError
        The file cannot be read or written, others may read it, or it is empty.
    """
    path = password_file(folder, user)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return _read(path)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            password = secrets.token_urlsafe(PASSWORD_BYTES)
            file.write(f"{password}\n")
    except OSError as error:
        raise UsageError(f"the password file {path} is unusable: {error.strerror}") from None
    return password


def _read(path: Path) -> str:
    mode = path.stat().st_mode & 0o077
    if mode:
        raise UsageError(f"the password file {path} is open to others: run `chmod 600 {path}`")
    try:
        password = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        password = ""
    if not password:
        raise UsageError(f"the password file {path} must hold a password")
    return password
