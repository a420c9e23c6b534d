"""Users of the broker that belong to one machine, and for whom they may speak."""

_PREFIX = "consumer."


def machine_user(host: str) -> str:
    """Return the user of a machine that has one of its own."""
    return f"{_PREFIX}{host}"


def machine_of(user: str) -> str | None:
    """Return the machine that a user belongs to, None for a user who may be of several."""
    return user.removeprefix(_PREFIX) if user.startswith(_PREFIX) else None


def may_speak(user: str, host: str, consumer: str) -> bool:
    """Say whether what a user sends may be told of this consumer on this host."""
    machine = machine_of(user)
    return machine is None or (host == machine and consumer.startswith(f"{machine}-"))
