"""RabbitMQ's definitions for montemq: topology, users, rights, limits and policies as one document.

It makes values only; passwords stand in it as salted hashes.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from ops.broker_roles import Role, User
from protocol import topology as t
from protocol.tls import TlsFiles

HASHING = "rabbit_password_hashing_sha256"
SALT_BYTES = 4  # as RabbitMQ wants it
NO_PASSWORD = ""
"""Where a hash would stand: no password lets this user in, only a certificate of its name."""

CERTIFICATE_LOGIN = "rabbitmq_auth_mechanism_ssl"

MAX_QUEUES = 20_000
"""Of the virtual host: each subscriber and each run that is scheduled has one."""

MACHINE_LIMITS = {"max-connections": 64, "max-channels": 64}
"""A consumer has one connection with one channel; after a broken one the next comes first."""

OWN_QUEUE_EXPIRES_MS = 600_000
OWN_QUEUE_BYTES = 64 * 1024**2
CONSUMER_TIMEOUT_MS = 1_800_000

Document = dict[str, Any]


class Release(StrEnum):
    """The RabbitMQ releases that differ in what definitions can say."""

    V3_10 = "3.10"
    V4 = "4"


def definitions(
    release: Release, vhost: str, pools: tuple[str, ...], hashes: Mapping[User, str]
) -> Document:
    """Return the definitions that a node boots from.

    Parameters
    ----------
    release
        Of RabbitMQ, the oldest that must understand them.
    vhost
        The virtual host that everything is in.
    pools
        Those that shall have work queues.
    hashes
        The users with the hashes of their passwords, or `NO_PASSWORD`.
    """
    here = {"vhost": vhost}
    wanted = t.topology(pools)
    return {
        "rabbitmq_version": {Release.V3_10: "3.10.0", Release.V4: "4.0.0"}[release],
        "vhosts": [{"name": vhost}],
        **user_definitions(vhost, hashes),
        "exchanges": [
            here
            | {"name": e.name, "type": e.type, "durable": True, "auto_delete": False}
            | {"internal": False, "arguments": {}}
            for e in wanted.exchanges
        ],
        "queues": [
            here
            | {"name": q.name, "durable": True, "auto_delete": False}
            | {"arguments": dict(q.arguments)}
            for q in wanted.queues
        ],
        "bindings": [
            here
            | {"source": b.exchange, "destination": b.queue, "destination_type": "queue"}
            | {"routing_key": b.key, "arguments": {}}
            for b in wanted.bindings
        ],
        "parameters": [
            here
            | {"component": "vhost-limits", "name": "limits", "value": {"max-queues": MAX_QUEUES}},
            here | {"component": "operator_policy", "name": "subscriptions", "value": _OWN_QUEUES},
        ],
        "policies": [here | policy for policy in _POLICIES[release]],
    }


def booting_from(path: Path) -> tuple[str, ...]:
    """Return the lines of `rabbitmq.conf` that load a file of definitions."""
    return (
        "definitions.import_backend = local_filesystem",
        f"definitions.local.path = {path}",
        # Or each boot would bring back whoever was revoked since.
        "definitions.skip_if_unchanged = true",
    )


def listening_with(files: TlsFiles, host: str, port: int) -> tuple[str, ...]:
    """Return the lines of `rabbitmq.conf` that listen with a certificate.

    With an authority, clients need a certificate of their own from there; by the plug-in
    `CERTIFICATE_LOGIN` it logs in the user that it names, without a password.
    """
    asked = (
        f"ssl_options.cacertfile = {files.ca}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
        "ssl_cert_login_from = common_name",
        "auth_mechanisms.1 = PLAIN",
        "auth_mechanisms.2 = EXTERNAL",
    )
    return (
        f"listeners.ssl.1 = {host}:{port}",
        f"ssl_options.certfile = {files.cert}",
        f"ssl_options.keyfile = {files.key}",
        *(asked if files.ca else ()),
    )


def user_definitions(vhost: str, hashes: Mapping[User, str]) -> Document:
    """Return the part about users alone, which can be imported into a node that runs."""
    return {
        "users": [_user(user, password_hash) for user, password_hash in hashes.items()],
        "permissions": [
            {"user": user.name, "vhost": vhost}
            | {"configure": r.configure, "write": r.write, "read": r.read}
            for user in hashes
            for r in [user.rights]
        ],
        "topic_permissions": [
            {"user": user.name, "vhost": vhost, "exchange": exchange}
            | {"write": topics.write, "read": topics.read}
            for user in hashes
            for exchange, topics in user.rights.topics.items()
        ],
    }


def roles_and_machines(hosts: Iterable[str]) -> tuple[User, ...]:
    """Return the users of an installation: one of each role, and one of each consumer machine.

    Raises
    ------
    UsageError
        One is no host name.
    """
    alone = (User.of_role(role) for role in Role if role is not Role.CONSUMER)
    return (*alone, *(User.machine(host) for host in dict.fromkeys(hosts)))


def password_hash(password: str) -> str:
    """Return a password as RabbitMQ keeps it, salted."""
    salt = secrets.token_bytes(SALT_BYTES)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return base64.b64encode(salt + digest).decode()


def _user(user: User, hashed: str) -> Document:
    limits = MACHINE_LIMITS if user.role is Role.CONSUMER else {}
    return {
        "name": user.name,
        "password_hash": hashed,
        "hashing_algorithm": HASHING,
        "tags": "",
        "limits": limits,
    }


_OWN_QUEUES = {
    # Arguments are the client's to choose; this holds for one that asks for none, or leaves a
    # queue behind that is not exclusive.
    "pattern": r"^amq\.gen-",
    "apply-to": "queues",
    "priority": 0,
    "definition": {
        "expires": OWN_QUEUE_EXPIRES_MS,
        "max-length": t.SUBSCRIPTION_LENGTH,
        "max-length-bytes": OWN_QUEUE_BYTES,
    },
}

_POLICIES: dict[Release, list[Document]] = {
    Release.V3_10: [],
    # Before 3.12 only the node's configuration could say it.
    Release.V4: [
        {
            "name": "timeouts",
            "pattern": r"^mc\.",
            "apply-to": "quorum_queues",
            "priority": 0,
            "definition": {"consumer-timeout": CONSUMER_TIMEOUT_MS},
        }
    ],
}
