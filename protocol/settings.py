"""The broker's address: where it comes from, what it may say, how to show it without secrets."""

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from protocol.errors import UsageError, unread
from protocol.tls import CA_FILE_VARIABLE, CERT_FILE_VARIABLE, KEY_FILE_VARIABLE, TlsFiles

AMQP_URL_VARIABLE = "MONTEMQ_AMQP_URL"
DEFAULT_AMQP_URL = "amqp://guest:guest@localhost:5672/"
DEFAULT_PORT = 5672
DEFAULT_TLS_PORT = 5671
HEARTBEAT_SECONDS = 10
MAX_HEARTBEAT_SECONDS = 60
CONNECT_SECONDS = 5.0
RETRY_SECONDS = 2.0
"""How often a lock is tried again, and the base of every reconnection back-off."""
LONGEST_RETRY_SECONDS = 15.0
"""The longest pause between attempts to reconnect: work goes on two heartbeats after the cause of a
loss is gone."""

_RULE = (
    "the AMQP address must read amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://, "
    "with special characters percent-encoded, and HOST:PORT of each node of a cluster with commas"
)
_FILES = {
    "ca_file": CA_FILE_VARIABLE,
    "cert_file": CERT_FILE_VARIABLE,
    "key_file": KEY_FILE_VARIABLE,
}
"""Options of an amqps:// address, and the variables that stand for them where they are absent."""


@dataclass(frozen=True)
class Broker:
    """A broker's address; `str` and `repr` never show the password.

    Attributes
    ----------
    tls
        None for a connection that is not encrypted.
    others
        Host and port of further nodes of the same cluster, to be tried in this order.
    """

    host: str
    port: int
    user: str
    password: str
    vhost: str
    heartbeat: int = HEARTBEAT_SECONDS
    tls: TlsFiles | None = None
    others: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self._scheme}://{quote(self.user, safe='')}@{self._address}"

    __repr__ = __str__

    @property
    def url(self) -> str:
        """The whole address, password included; never to be logged."""
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        options = {} if self.heartbeat == HEARTBEAT_SECONDS else {"heartbeat": str(self.heartbeat)}
        if self.tls is not None:
            paths = (self.tls.ca, self.tls.cert, self.tls.key)
            options |= {name: path for name, path in zip(_FILES, paths, strict=True) if path}
        query = f"?{urlencode(options)}" if options else ""
        return f"{self._scheme}://{user}:{password}@{self._address}{query}"

    @property
    def nodes(self) -> "tuple[Broker, ...]":
        """One address for each node."""
        places = ((self.host, self.port), *self.others)
        return tuple(replace(self, host=host, port=port, others=()) for host, port in places)

    @property
    def by_certificate(self) -> bool:
        """Whether the certificate takes the place of a password."""
        return self.tls is not None and self.tls.cert is not None and not self.password

    @property
    def _scheme(self) -> str:
        return "amqp" if self.tls is None else "amqps"

    @property
    def _address(self) -> str:
        places = ((self.host, self.port), *self.others)
        hosts = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places)
        vhost = "" if self.vhost == "/" else quote(self.vhost, safe="")
        return f"{','.join(hosts)}/{vhost}"


def broker_from_url(
    url: str, password_file: str | None = None, files: TlsFiles | None = None
) -> Broker:
    """Read an AMQP address.

    Parameters
    ----------
    url
        The address.
    password_file
        Holds the password, whatever the address says.
    files
        For an amqps:// address; what they leave open its options say, then the environment.

    Raises
    ------
    UsageError
        It is not an AMQP address, or the password file cannot be read.
    """
    first, further = _one_by_one(url)
    try:
        parts, *rest = [urlsplit(text) for text in (first, *further)]
        encrypted = parts.scheme == "amqps"
        usual = DEFAULT_TLS_PORT if encrypted else DEFAULT_PORT
        ports = [usual if part.port is None else part.port for part in (parts, *rest)]
    except ValueError:
        # Python's own sentence would quote what it took for the port: part of a password.
        raise UsageError(f"{_RULE}; the host or port is wrong") from None
    hosts = [part.hostname or "" for part in (parts, *rest)]
    if parts.scheme not in {"amqp", "amqps"} or not all(hosts) or parts.fragment:
        raise UsageError(_RULE)
    if not all(ports):
        raise UsageError(f"{_RULE}; port 0 cannot be connected to")
    options = _options(parts)
    tls = _tls(options, files or TlsFiles(), encrypted=encrypted)
    return Broker(
        host=hosts[0],
        port=ports[0],
        user=unquote(parts.username or "guest"),
        password=_password(parts, password_file, tls),
        # amqp://host and amqp://host/ both mean the virtual host "/", as RabbitMQ's tools read it.
        vhost=unquote(parts.path[1:]) or "/",
        heartbeat=_heartbeat(options),
        tls=tls,
        others=tuple(zip(hosts[1:], ports[1:], strict=True)),
    )


def _one_by_one(url: str) -> tuple[str, tuple[str, ...]]:
    """Return an address with its first host only, and one that is nothing else for each other."""
    found = re.fullmatch(r"(\w+://(?:[^/?#]*@)?)([^/?#@]*)(.*)", url, re.DOTALL)
    if found is None:
        return url, ()
    host, *others = found[2].split(",")
    return found[1] + host + found[3], tuple(f"//{other}" for other in others)


def _password(parts: SplitResult, password_file: str | None, tls: TlsFiles | None) -> str:
    if password_file is not None:
        try:
            with open(password_file, encoding="utf-8") as file:  # noqa: PTH123 - one read
                return file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the password file {password_file} cannot be read: {unread(error)}"
            ) from None
    if parts.password is not None:
        return unquote(parts.password)
    return "" if tls is not None and tls.cert is not None else "guest"


def _options(parts: SplitResult) -> dict[str, str]:
    """Read what an address says after its question mark."""
    found = parse_qsl(parts.query, keep_blank_values=True) if parts.query else []
    options = dict(found)
    if not options.keys() <= {"heartbeat", *_FILES} or len(options) != len(found):
        raise UsageError(f"{_RULE}; after ? {_ALLOWED}")
    return options


def _tls(options: dict[str, str], files: TlsFiles, *, encrypted: bool) -> TlsFiles | None:
    asked = (files.ca, files.cert, files.key)
    paths = {name: path or options.get(name) for name, path in zip(_FILES, asked, strict=True)}
    if encrypted:
        ca, cert, key = (paths[name] or os.environ.get(_FILES[name]) or None for name in _FILES)
        return TlsFiles(ca, cert, key)
    if any(paths.values()):
        raise UsageError("certificates need an amqps:// address: amqp:// is not encrypted")
    return None


def _heartbeat(options: dict[str, str]) -> int:
    if "heartbeat" not in options:
        return HEARTBEAT_SECONDS
    allowed = {str(seconds): seconds for seconds in range(1, MAX_HEARTBEAT_SECONDS + 1)}
    if options["heartbeat"] not in allowed:
        raise UsageError(f"{_RULE}; after ? {_ALLOWED}")
    return allowed[options["heartbeat"]]


_ALLOWED = (
    f"it may say heartbeat=1 to {MAX_HEARTBEAT_SECONDS} only, and of amqps:// also ca_file, "
    "cert_file and key_file"
)
