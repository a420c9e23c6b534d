"""Translates what aio-pika raises into our errors; part of the asyncio adapter."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aio_pika.exceptions as aio_errors
import aiormq

from protocol import broker_errors
from protocol.errors import BrokerError, LockedError
from protocol.settings import Broker

Sentence = Callable[[Broker, BaseException], BrokerError]


@contextmanager
def translated(broker: Broker, *, opening: bool = False) -> Iterator[None]:
    """Turn the client library's errors into ours, one sentence each.

    Parameters
    ----------
    broker
        The broker that is spoken to.
    opening
        Whether the connection is not open yet: then whoever is there may be no broker at all.
    """
    try:
        yield
    except BrokerError:
        raise
    except (TimeoutError, *aio_errors.CONNECTION_EXCEPTIONS) as error:
        if opening and (said := broker_errors.tls_error(error)) is not None:
            raise broker_errors.untrusted(broker, said) from error
        fallback = _unreachable if opening else _lost
        known = (to for kind, to in _TRANSLATIONS if isinstance(error, kind))
        raise next(known, fallback)(broker, error) from error


def ended(error: BaseException | None) -> BaseException | None:
    """Return how a connection or channel ended as something that `translated` knows.

    Whatever else ends the library's reader must not reach those who wait for the broker: a
    cancellation, above all, would look like their own.
    """
    if error is None or isinstance(error, aio_errors.CONNECTION_EXCEPTIONS):
        return error
    silent = isinstance(error, asyncio.CancelledError)
    text = "nothing came from it for too long" if silent else f"{type(error).__name__}: {error}"
    return aio_errors.AMQPConnectionError(text)


def detail(error: BaseException) -> str:
    """Return what an error says; the library's are no errors of the system, whatever they print."""
    return " ".join(str(argument) for argument in error.args) or type(error).__name__


def _vhost_or_foreign(broker: Broker, error: BaseException) -> BrokerError:
    # What aiormq makes of a Connection.Close in answer to Connection.Open.
    if "Connection.OpenOk" in str(error):
        return broker_errors.refused_vhost(broker)
    return broker_errors.foreign(broker)


def _lost(broker: Broker, error: BaseException) -> BrokerError:
    return broker_errors.lost(broker, detail(error))


def _unreachable(broker: Broker, error: BaseException) -> BrokerError:
    cause = error.__cause__
    if isinstance(cause, ConnectionResetError | asyncio.IncompleteReadError):
        return broker_errors.foreign(broker)
    return broker_errors.unreachable(broker, cause if isinstance(cause, OSError) else error)


# In order: the first class that an error is an instance of decides.
_TRANSLATIONS: tuple[tuple[type[BaseException], Sentence], ...] = (
    (aio_errors.ProbableAuthenticationError, lambda b, _: broker_errors.wrong_password(b)),
    (
        aiormq.exceptions.ConnectionNotAllowed,
        lambda b, e: broker_errors.refused_vhost(b, detail(e)),
    ),
    (aiormq.exceptions.InvalidFrameError, _vhost_or_foreign),
    (aio_errors.ChannelNotFoundEntity, lambda b, e: broker_errors.missing(b, detail(e))),
    (aiormq.exceptions.ChannelLockedResource, lambda _, e: LockedError(detail(e))),
    (aiormq.exceptions.ChannelAccessRefused, lambda b, e: broker_errors.denied(b, detail(e))),
    (
        aio_errors.ChannelPreconditionFailed,
        lambda b, e: broker_errors.other_topology(b, detail(e)),
    ),
    (aiormq.exceptions.ChannelClosed, _lost),
    (aiormq.exceptions.ChannelInvalidStateError, lambda b, _: broker_errors.lost(b)),
    (aiormq.exceptions.ConnectionClosed, _lost),
)
