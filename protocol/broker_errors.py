"""What is wrong with a broker, one sentence for each case, whichever adapter has met it.

The adapters know their libraries' exceptions; the words stand here alone.
"""

import os
import ssl

from protocol import tls
from protocol.errors import (
    BrokerError,
    BrokerRefusedError,
    BrokerUnreachableError,
    BrokerUntrustedError,
    ConnectionLostError,
    TopologyMissingError,
    WrongPasswordError,
)
from protocol.settings import CONNECT_SECONDS, Broker

MAX_DETAIL = 300


def unreachable(broker: Broker, error: BaseException) -> BrokerUnreachableError:
    """Say that nobody answers; `error` is what the system said, not what a library made of it."""
    return BrokerUnreachableError(f"no broker can be reached at {broker}: {_why(error)}")


def untrusted(broker: Broker, error: ssl.SSLError) -> BrokerUntrustedError:
    """Say that no encrypted connection comes about; a plain one is never tried."""
    return BrokerUntrustedError(f"no secure connection to {broker}: {tls.why(error)}")


def tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return what TLS said of what a library has made an error of its own, None if nothing."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # the libraries make circles
        if isinstance(error, ssl.SSLError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def foreign(broker: Broker) -> BrokerError:
    """Say that somebody answers, but not in AMQP."""
    if broker.tls is not None:
        # A peer refuses our certificate after we have begun to speak: its reason may be lost.
        refusal = tls.refusal(broker.host, broker.port, broker.tls)
        if refusal is not None:
            return untrusted(broker, refusal)
    return BrokerUnreachableError(
        f"no broker can be reached at {broker}: whoever answers there does not speak AMQP 0-9-1, "
        "or closes the connection at once"
    )


def wrong_password(broker: Broker) -> WrongPasswordError:
    """Say that user and password do not go together."""
    return WrongPasswordError(
        f"the broker at {broker} refused user '{broker.user}': wrong user or password"
    )


def refused_vhost(broker: Broker, detail: str = "") -> BrokerRefusedError:
    """Say that the virtual host cannot be opened."""
    return BrokerRefusedError(
        f"the broker at {broker} refused virtual host '{broker.vhost}': it does not exist, or "
        f"user '{broker.user}' may not use it{_in_brackets(detail)}"
    )


def denied(broker: Broker, detail: str) -> BrokerRefusedError:
    """Say that the user lacks a permission on a queue or exchange."""
    return BrokerRefusedError(
        f"the broker at {broker} denies user '{broker.user}' a permission{_in_brackets(detail)}"
    )


def other_topology(broker: Broker, detail: str) -> BrokerRefusedError:
    """Say that a queue or exchange exists with other arguments than ours."""
    return BrokerRefusedError(
        f"the broker at {broker} holds another version of the topology{_in_brackets(detail)}"
    )


def missing(broker: Broker, detail: str) -> TopologyMissingError:
    """Say that a queue or exchange does not exist."""
    return TopologyMissingError(
        f"the broker at {broker} lacks part of montemq{_in_brackets(detail)}; "
        "run `montemq broker init`"
    )


def lost(broker: Broker, detail: str = "") -> ConnectionLostError:
    """Say that what was connected is no longer."""
    return ConnectionLostError(
        f"the connection to the broker at {broker} was lost{_in_brackets(detail)}"
    )


def _in_brackets(detail: str) -> str:
    return f" ({detail[:MAX_DETAIL]})" if detail else ""


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        # Libraries put the address into the text, which stands in the sentence already.
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:g} s"
    return str(error)[:MAX_DETAIL] or type(error).__name__
