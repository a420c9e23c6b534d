"""The broker's address: where it comes from, what it may say, how to show it without secrets."""

import os
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from protocol.errors import UsageError

AMQP_URL_VARIABLE = "MONTEMQ_AMQP_URL"
DEFAULT_AMQP_URL = "amqp://guest:guest@localhost:5672/"
HEARTBEAT_SECONDS = 10
CONNECT_SECONDS = 5.0
RETRY_SECONDS = 2.0
"""How often a lock is tried again, and the base of every reconnection back-off."""


@dataclass(frozen=True)
class Broker:
    """A broker's address; `str` and `repr` never show the password."""

    host: str
    port: int
    user: str
    password: str
    vhost: str
    heartbeat: int = HEARTBEAT_SECONDS

    def __str__(self) -> str:
        return f"amqp://{self.user}@{self.host}:{self.port}/{quote(self.vhost.strip('/'), safe='')}"

    __repr__ = __str__

    @property
    def url(self) -> str:
        """The whole address, password included; never to be logged."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        vhost = "" if self.vhost == "/" else quote(self.vhost, safe="")
        return f"amqp://{user}:{password}@{self.host}:{self.port}/{vhost}"


def broker_from_url(url: str, password_file: str | None = None) -> Broker:
    """Read an AMQP address.

    Raises
    ------
    UsageError
        It is not an AMQP address, or the password file cannot be read.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 5672
    except ValueError as error:
        raise UsageError(f"the AMQP address is wrong: {error}") from None
    if parts.scheme != "amqp" or not parts.hostname:
        raise UsageError("the AMQP address must read amqp://USER:PASSWORD@HOST:PORT/VHOST")
    password = unquote(parts.password or "guest")
    if password_file is not None:
        try:
            with open(password_file, encoding="utf-8") as file:  # noqa: PTH123 - one read
                password = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the password file cannot be read: {error}") from None
    return Broker(
        host=parts.hostname,
        port=port,
        user=unquote(parts.username or "guest"),
        password=password,
        # amqp://host and amqp://host/ both mean the virtual host "/", as RabbitMQ's tools read it.
        vhost=unquote(parts.path[1:]) or "/",
    )


def broker_from_environment() -> Broker:
    """Return the address in MONTEMQ_AMQP_URL, or the default."""
    return broker_from_url(os.environ.get(AMQP_URL_VARIABLE, DEFAULT_AMQP_URL))
