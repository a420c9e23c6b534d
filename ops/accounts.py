"""Makes and removes users on a broker that runs, through rabbitmqctl or its management API.

Neither is given a password, only its hash, and nothing that is secret stands on a command line.
"""

import base64
import json
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from ops.broker_definitions import Document
from protocol.errors import BrokerError, BrokerRefusedError, BrokerUnreachableError, UsageError

ANSWER_SECONDS = 60.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Accounts(Protocol):
    """Whoever keeps a broker's users."""

    def put(self, document: Document) -> None:
        """Make what definitions say, or change it.

        Raises
        ------
        BrokerError
            The broker does not, and why.
        """

    def drop(self, user: str) -> bool:
        """Remove a user; say whether there was one.

        Raises
        ------
        BrokerError
            The broker does not, and why.
        """


@dataclass(frozen=True)
class ControlProgram:
    """The node of this machine, through rabbitmqctl.

    Attributes
    ----------
    command
        How it is called.
    environment
        All of it; None for that of this process.
    """

    command: Sequence[str] = ("rabbitmqctl",)
    environment: Mapping[str, str] | None = None

    def put(self, document: Document) -> None:
        """Make what definitions say, or change it."""
        encoded = base64.b64encode(json.dumps(document).encode()).decode()
        call = f'ok = rabbit_definitions:import_raw(base64:decode("{encoded}")).'
        # `import_definitions` never ends in 4.0, where it is not given what it reads.
        self.run("eval", given=call)

    def drop(self, user: str) -> bool:
        """Remove a user; say whether there was one."""
        users = json.loads(self.run("list_users", "--formatter", "json"))
        known = any(row["user"] == user for row in users)
        if known:  # from 4.0 the deletion does not tell
            self.run("delete_user", user)
        return known

    def run(self, *arguments: str, given: str = "") -> str:
        """Return what it prints; `given` is its input.

        Raises
        ------
        BrokerError
            It ended with an error, which the text quotes.
        """
        done = self._run(*arguments, given=given)
        if done.returncode:
            raise self._failed(done)
        return done.stdout

    def _run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        # From 4.0 it is not given what it shall read where there is more than the command.
        quiet = () if given else ("--quiet",)
        try:
            return subprocess.run(  # noqa: S603 - our own command line
                [*self.command, *quiet, *arguments],
                env=None if self.environment is None else dict(self.environment),
                input=given,
                capture_output=True,
                text=True,
                check=False,
                timeout=ANSWER_SECONDS,
            )
        except FileNotFoundError:
            raise UsageError(
                f"{self.command[-1]} is not installed here: run this on the broker's machine, "
                "or give --management-url"
            ) from None
        except subprocess.TimeoutExpired:
            raise BrokerUnreachableError(
                f"{self.command[-1]} has not answered within {ANSWER_SECONDS:g} s"
            ) from None

    def _failed(self, done: subprocess.CompletedProcess[str]) -> BrokerError:
        said = " ".join((done.stderr or done.stdout).split())
        return BrokerRefusedError(f"{self.command[-1]} ended with {done.returncode}: {said[:300]}")


@dataclass(frozen=True)
class Management:
    """A node somewhere, through the HTTP API of its management plug-in.

    Attributes
    ----------
    url, user, password
        Where it is, and an administrator of it.
    ca_file
        The authority that its certificate must be from; the system's where None.

    Raises
    ------
    UsageError
        The password would cross a network in clear.
    """

    url: str
    user: str
    password: str = field(repr=False)
    ca_file: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        plain = parts.scheme == "http" and parts.hostname in LOOPBACK
        if not parts.hostname or (parts.scheme != "https" and not plain):
            raise UsageError(
                f"--management-url = {self.url!r} must read https://HOST:PORT, "
                "or http:// where HOST is this machine"
            )

    def put(self, document: Document) -> None:
        """Make what definitions say, or change it."""
        self._send("POST", "definitions", document)

    def drop(self, user: str) -> bool:
        """Remove a user; say whether there was one."""
        return self._send("DELETE", f"users/{quote(user, safe='')}") != HTTPStatus.NOT_FOUND

    def _send(self, method: str, path: str, document: Document | None = None) -> int:
        """Return the status of the answer, which is success or 'not found'."""
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = Request(  # noqa: S310 - http and https only, checked above
            f"{self.url.rstrip('/')}/api/{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
        )
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"the CA file {self.ca_file} cannot be used: {error}") from None
        try:
            with urlopen(request, timeout=ANSWER_SECONDS, context=context) as answer:  # noqa: S310
                return int(answer.status)
        except HTTPError as error:
            with error:
                if error.code == HTTPStatus.NOT_FOUND and method == "DELETE":
                    return error.code
                raise self._refused(error) from None
        except URLError as error:
            raise BrokerUnreachableError(
                f"the management API at {self.url} cannot be reached: {error.reason}"
            ) from None

    def _refused(self, error: HTTPError) -> BrokerRefusedError:
        if error.code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            why = f"user '{self.user}' is no administrator there, or the password is wrong"
        else:
            why = f"{error.code} {error.read(300).decode(errors='replace')}"
        return BrokerRefusedError(f"the management API at {self.url} refused: {why}")
