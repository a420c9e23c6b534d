"""What an agent does that hears it is refused: how it ends, and what it says; pure."""

from consumer import events as e
from consumer.answers import Worker
from protocol.errors import HostRefusedError, OutdatedError
from protocol.messages import ConsumerOutdated, HostRefused
from protocol.origin import software_version

Refusal = HostRefused | ConsumerOutdated
REFUSALS = (HostRefused, ConsumerOutdated)


def refused(event: Refusal, worker: Worker) -> tuple[HostRefusedError, e.Drain | e.Stop] | None:
    """Return why and how to end, None where another one is meant."""
    if isinstance(event, HostRefused) and event.host == worker.host:
        text = (
            f"host {event.host} is refused: in an audit it sent other numbers than two other "
            "hosts; have its memory and processor checked, then readmit it with `montemq store "
            f"readmit {event.host}` where the aggregator runs"
        )
        return HostRefusedError(text), e.Stop()  # whatever it still sends is dropped
    if isinstance(event, ConsumerOutdated) and event.consumer == worker.consumer:
        text = (
            f"the aggregator takes consumers from montemq {event.oldest} on, and this is "
            f"{software_version()}: install a newer one, and start it again"
        )
        return OutdatedError(text), e.Drain()
    return None
