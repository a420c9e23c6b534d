"""Every error that a user of montemq can meet, one sentence each; a leaf that imports nothing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.results import Result


class MontemqError(Exception):
    """Base of all errors of montemq; `exit_code` is what the command line ends with."""

    exit_code = 1


def unread(error: OSError | UnicodeDecodeError) -> str:
    """Return why a file cannot be read, without its name."""
    return getattr(error, "strerror", None) or str(error)


class UsageError(MontemqError):
    """The command, run file or parameters are wrong; the text names field, value and rule."""

    exit_code = 2


class UnsupportedError(UsageError):
    """What is asked needs a file or version that is not here; another machine may have it."""


class BrokerError(MontemqError):
    """The broker, or a service behind it, cannot be used; base of the sentences that say why."""

    exit_code = 3


class BrokerUnreachableError(BrokerError):
    """Nothing that speaks AMQP answers at the address."""


class BrokerRefusedError(BrokerError):
    """The broker answers and refuses: user, password, virtual host or permission."""


class WrongPasswordError(BrokerRefusedError):
    """User and password do not go together."""


class BrokerUntrustedError(BrokerRefusedError):
    """The broker's certificate does not pass, or ours does not pass there."""


class TopologyMissingError(BrokerError):
    """A queue or exchange of montemq does not exist on this broker."""


class ConnectionLostError(BrokerError):
    """An established connection or channel ended; the caller reconnects."""


class LockedError(BrokerError):
    """Somebody else holds this lock (an exclusive queue)."""


class UnroutableError(BrokerError):
    """No queue takes the message: the topology lacks one."""


class RefusedMessageError(BrokerError):
    """The broker did not take a message (its queue is full, or could not store it)."""


class NoAggregatorError(BrokerError):
    """The broker is there, but no aggregator answers."""


class UnfinishedError(MontemqError):
    """A run has no final result; base of the errors that say why.

    Parameters
    ----------
    text
        What happened to which run.
    partial
        Its result so far; None where nobody could be asked for it.
    """

    def __init__(self, text: str, partial: "Result | None" = None) -> None:
        super().__init__(text)
        self.partial = partial


class TimedOutError(UnfinishedError):
    """The caller's time limit passed; the run goes on and can be resumed."""

    exit_code = 4


class NotHeardError(MontemqError):
    """Consumers have not shown in time that they do what they were told."""

    exit_code = 4


class RunFailedError(UnfinishedError):
    """The run ended because a block kept failing; the text names the first error."""

    exit_code = 5


class CheckFailedError(MontemqError):
    """A model failed a check that its author asked for."""

    exit_code = 5


class RunIdTakenError(MontemqError):
    """The run id names another definition."""

    exit_code = 6


class RunCancelledError(UnfinishedError):
    """Somebody cancelled the run."""

    exit_code = 7


class RunInterruptedError(MontemqError):
    """Whoever followed the run was told to stop; the text says what becomes of the run."""

    exit_code = 130


class ClientClosedError(MontemqError):
    """The Python client was closed; runs that it led are kept and can be taken up again."""


class UnknownRunError(MontemqError):
    """No run of this id is known to the aggregator."""

    exit_code = 2


class ResultTooLargeError(MontemqError):
    """The result of a run does not fit into a reply; the text says where else it can be had."""


class NotFiniteError(MontemqError):
    """A model returned NaN or an infinity."""


class OtherBitsError(MontemqError):
    """A built-in model gives other bits on this machine than on record, so it must not compute."""


class HostRefusedError(MontemqError):
    """A host has sent numbers that two others did not get: it must not compute any more."""

    exit_code = 8


class OutdatedError(HostRefusedError):
    """A consumer's version is refused: a newer one must be installed."""


class StoreError(MontemqError):
    """The aggregator's store cannot be used: wrong store, newer schema, or fenced off."""


class ServiceFailedError(MontemqError):
    """A service that a stack has started ended before it was ready.

    Parameters
    ----------
    text
        Which one, and what it said last.
    exit_code
        What it ended with, so that whoever started the stack can end with it too.
    """

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class MessageRefusedError(MontemqError):
    """A message does not follow the protocol.

    Parameters
    ----------
    reason
        One of a closed set of words (a metric label): see `protocol.messages.RefusalReason`.
    text
        What exactly is wrong with it.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text
