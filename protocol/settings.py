"""The broker's address: where it comes from, what it may say, how to show it without secrets."""

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from protocol.errors import UsageError

AMQP_URL_VARIABLE = "MONTEMQ_AMQP_URL"
DEFAULT_AMQP_URL = "amqp://guest:guest@localhost:5672/"
DEFAULT_PORT = 5672
HEARTBEAT_SECONDS = 10
MAX_HEARTBEAT_SECONDS = 60
CONNECT_SECONDS = 5.0
RETRY_SECONDS = 2.0
"""How often a lock is tried again, and the base of every reconnection back-off."""

_RULE = (
    "the AMQP address must read amqp://USER:PASSWORD@HOST:PORT/VHOST, "
    "with special characters percent-encoded"
)


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
        return f"amqp://{quote(self.user, safe='')}@{self._address}"

    __repr__ = __str__

    @property
    def url(self) -> str:
        """The whole address, password included; never to be logged."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        option = "" if self.heartbeat == HEARTBEAT_SECONDS else f"?heartbeat={self.heartbeat}"
        return f"amqp://{user}:{password}@{self._address}{option}"

    @property
    def _address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else quote(self.vhost, safe="")
        return f"{host}:{self.port}/{vhost}"


def broker_from_url(url: str, password_file: str | None = None) -> Broker:
    """Read an AMQP address.

    Raises
    ------
    UsageError
        It is not an AMQP address, or the password file cannot be read.
    """
    try:
        parts = urlsplit(url)
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        # Python's own sentence would quote what it took for the port: part of a password.
        raise UsageError(f"{_RULE}; the host or port is wrong") from None
    if parts.scheme != "amqp" or not parts.hostname or parts.fragment:
        raise UsageError(_RULE)
    if not port:
        raise UsageError(f"{_RULE}; port 0 cannot be connected to")
    password = "guest" if parts.password is None else unquote(parts.password)
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
        heartbeat=_heartbeat(parts.query),
    )


def _heartbeat(query: str) -> int:
    """Read the one option that an address may carry."""
    if not query:
        return HEARTBEAT_SECONDS
    name, _, value = query.partition("=")
    allowed = {str(seconds): seconds for seconds in range(1, MAX_HEARTBEAT_SECONDS + 1)}
    if name != "heartbeat" or value not in allowed:
        raise UsageError(f"{_RULE}; after ? it may say heartbeat=1 to {MAX_HEARTBEAT_SECONDS} only")
    return allowed[value]
