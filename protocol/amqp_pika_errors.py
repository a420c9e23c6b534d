"""Translates what pika reports into our errors; part of the consumer's adapter."""

import re

from pika import exceptions

from protocol import broker_errors
from protocol.errors import BrokerError
from protocol.settings import Broker

_ACCESS_REFUSED, _NOT_FOUND, _NOT_ALLOWED = 403, 404, 530
_LOST = (
    exceptions.ConnectionClosed,
    exceptions.StreamLostError,
    exceptions.AMQPHeartbeatTimeout,
    exceptions.AMQPChannelError,
)


def translated(broker: Broker, error: BaseException) -> BrokerError:
    """Return our error, one sentence, for whatever pika reports about a connection or channel."""
    if isinstance(error, BrokerError):
        return error
    said = broker_errors.tls_error(_innermost(error))
    found = broker_errors.untrusted(broker, said) if said else _translated(broker, error)
    found.__cause__ = error
    return found


def _translated(broker: Broker, error: BaseException) -> BrokerError:
    code = getattr(error, "reply_code", None)
    text = str(getattr(error, "reply_text", None) or error)
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return broker_errors.wrong_password(broker)
    if isinstance(error, exceptions.ProbableAccessDeniedError) or code == _NOT_ALLOWED:
        return broker_errors.refused_vhost(broker, _said(text))
    if isinstance(error, _LOST):
        return _ended(broker, code, text)
    if isinstance(error, exceptions.ConnectionOpenAborted):
        # Of the two who may give up an opening, it was pika's own clock: we close only open ones.
        return broker_errors.unreachable(broker, TimeoutError())
    if isinstance(error, exceptions.IncompatibleProtocolError):
        return broker_errors.foreign(broker)
    return broker_errors.unreachable(broker, _innermost(error))


def _ended(broker: Broker, code: int | None, text: str) -> BrokerError:
    if code == _ACCESS_REFUSED:
        return broker_errors.denied(broker, text)
    if code == _NOT_FOUND:
        return broker_errors.missing(broker, text)
    return broker_errors.lost(broker, text)


def _said(text: str) -> str:
    """Return the broker's own words, which pika wraps into the name of an exception."""
    wrapped = re.fullmatch(r"\w+: \(\d+\) '(.*)'", text)
    return wrapped[1] if wrapped else text


def _innermost(error: BaseException) -> BaseException:
    """Return what the system said: pika wraps it into one exception for each step of connecting."""
    while True:
        wrapped = [*getattr(error, "exceptions", ()), getattr(error, "exception", None)]
        inner = [e for e in (*wrapped, *error.args) if isinstance(e, BaseException)]
        if not inner:
            return error
        error = inner[-1]
