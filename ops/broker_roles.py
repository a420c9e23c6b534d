"""Who may do what on a broker: the rights of each role, as small as its work lets them be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from protocol import topology as t
from protocol.errors import UsageError
from protocol.machines import machine_of, machine_user

NOTHING = "^$"
_OWN_QUEUE = r"amq\.gen-.*"
_REFUSED = r"refused\.[^*#]+"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")


class Role(StrEnum):
    """What a user works as; all but consumers are one user each."""

    PRODUCER = "producer"
    AGGREGATOR = "aggregator"
    OPERATOR = "operator"
    CONSUMER = "consumer"


@dataclass(frozen=True)
class Topics:
    """Routing keys, as regular expressions, that may be published to an exchange or bound to it."""

    write: str = NOTHING
    read: str = NOTHING


@dataclass(frozen=True)
class Rights:
    """Names of queues and exchanges, as regular expressions, and routing keys by exchange."""

    configure: str
    write: str
    read: str
    topics: Mapping[str, Topics] = field(default_factory=dict)


@dataclass(frozen=True)
class User:
    """A user of the broker."""

    name: str
    role: Role

    @classmethod
    def machine(cls, host: str) -> "User":
        """Return the user of one consumer machine.

        Raises
        ------
        UsageError
            It is no host name.
        """
        if not _HOST.fullmatch(host):
            raise UsageError(
                f"host {host!r} is not allowed: a host name is A-Z, a-z, 0-9, - and ., begins and "
                "ends with a letter or digit, and has at most 63 characters"
            )
        # With the role before it no machine can take another role's name.
        return cls(machine_user(host), Role.CONSUMER)

    @classmethod
    def of_role(cls, role: Role) -> "User":
        """Return the user that a role has where it has only one."""
        return cls(role.value, role)

    @property
    def rights(self) -> Rights:
        """What this user may do."""
        return _RIGHTS[self.role] if self.role is not Role.CONSUMER else _consumer(self.name)


def asks_nobody(user: str) -> bool:
    """Say whether a user has a role that neither follows runs nor asks the aggregator."""
    return user == Role.AGGREGATOR or machine_of(user) is not None


def _any(*names: str, patterns: tuple[str, ...] = ()) -> str:
    """Return what matches these whole names, and these patterns, and nothing else."""
    return f"^({'|'.join([*map(re.escape, names), *patterns])})$"


def _subscriber(
    *,
    locks: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    topics: Mapping[str, Topics] | None = None,
) -> Rights:
    """Return the rights of somebody who asks the aggregator and hears its events."""
    return Rights(
        configure=_any(patterns=(_OWN_QUEUE, *locks)),
        write=_any(t.RPC, *writes, patterns=(_OWN_QUEUE,)),
        read=_any(t.EVENTS, patterns=(_OWN_QUEUE,)),
        topics=topics or {},
    )


def _consumer(user: str) -> Rights:
    keys = (t.partial_key(user), t.failure_key(user))
    return Rights(
        configure=_any(patterns=(_OWN_QUEUE,)),
        write=_any(t.RESULTS, t.TELEMETRY, patterns=(_OWN_QUEUE,)),
        read=_any(t.EVENTS, t.CONTROL, patterns=(_OWN_QUEUE, rf"{re.escape(t.WORK)}\..*\.q")),
        topics={
            t.RESULTS: Topics(write=_any(*keys)),
            t.TELEMETRY: Topics(write=_any(user)),
            t.EVENTS: Topics(read=_any(t.finished_key("*"), patterns=(_REFUSED,))),
            t.CONTROL: Topics(read=r"^fleet\."),
        },
    )


_RIGHTS = {
    Role.PRODUCER: _subscriber(
        locks=(
            *map(re.escape, t.lock_queues(t.PRODUCER_LOCK)),
            f"{re.escape(t.leader_lock(''))}.*",
        ),
        writes=(t.WORK, t.TELEMETRY),
        topics={t.TELEMETRY: Topics(write=_any(Role.PRODUCER))},
    ),
    Role.OPERATOR: _subscriber(writes=(t.CONTROL,)),
    Role.AGGREGATOR: Rights(
        configure=_any(*t.lock_queues(t.AGGREGATOR_LOCK)),
        # A reply goes through the default exchange; a standby asks the active one for its store.
        write=_any(t.EVENTS, t.RPC, "amq.default"),
        read=_any(t.RESULTS_QUEUE, t.TELEMETRY_QUEUE, t.RPC_QUEUE, t.DEAD_QUEUE, t.STORE_QUEUE),
    ),
}
