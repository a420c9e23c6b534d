"""Who may come near a broker: listeners without TLS beyond loopback, and the user guest."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import psutil

from protocol.amqp_probe import probe
from protocol.errors import BrokerRefusedError, MontemqError, WrongPasswordError
from protocol.settings import DEFAULT_PORT, Broker

GREETING = b"AMQP\x00\x00\x09\x01"
ANSWER_SECONDS = 2.0
GUEST = "guest"


def plain_listeners(broker: Broker) -> Iterator[str]:
    """Yield where a broker can be reached from other machines without TLS.

    On this machine it is read from the system, which sends nothing; elsewhere a broker that is
    reached with TLS is asked at the usual port whether it would do without.
    """
    for node in broker.nodes:
        addresses = _addresses(node.host)
        here = any(_is_ours(address) for address in addresses)
        port = DEFAULT_PORT if node.tls else node.port
        if here:
            found = [address for address in _listening(port) if not _is_loopback(address)]
            if found and _speaks_plain_amqp(node.host, port):
                yield from (_shown(address, port) for address in found)
        elif node.tls is None or _speaks_plain_amqp(node.host, port):
            yield _shown(node.host, port)


def guest_may_log_in(broker: Broker) -> bool:
    """Return whether the user guest is there with the password that everybody knows."""
    try:
        probe(replace(broker, user=GUEST, password=GUEST))
    except WrongPasswordError:
        return False
    except BrokerRefusedError:
        return True  # it has passed, but not into this virtual host
    except MontemqError:
        return False
    return True


def _addresses(host: str) -> set[str]:
    with suppress(OSError):
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    return set()


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_ours(address: str) -> bool:
    own = {found.address for addresses in psutil.net_if_addrs().values() for found in addresses}
    return _is_loopback(address) or address in own


def _listening(port: int) -> set[str]:
    with suppress(psutil.AccessDenied):
        found = (c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        return {address.ip for address in found if address and address.port == port}
    return set()


def _speaks_plain_amqp(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), ANSWER_SECONDS) as connection:
        connection.sendall(GREETING)
        return connection.recv(1) == b"\x01"  # a method: the broker begins
    return False


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
