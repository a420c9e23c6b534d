"""Which store a broker's runs live in: one durable message, so that none is used by mistake."""

from collections.abc import Callable

from aggregator.store.sqlite import Store
from protocol import topology
from protocol.amqp_aio import Delivery, Link
from protocol.errors import BrokerError, MessageRefusedError, StoreError
from protocol.messages import StoreIdentity, decode
from protocol.rpc_messages import Status, StatusRequest
from protocol.settings import Broker

ANSWER_SECONDS = 5.0

Refuse = Callable[[Delivery, MessageRefusedError], None]


class WrongStoreError(StoreError):
    """The broker belongs to another store."""


async def check_identity(link: Link, store: Store, refuse: Refuse, *, adopt: bool) -> None:
    """Compare this store with the one that the broker remembers; the first one is remembered.

    Parameters
    ----------
    link, store
        The broker, and the store of this aggregator.
    refuse
        Called with whatever stands in the queue and is no identity.
    adopt
        Make the broker remember this store instead.

    Raises
    ------
    WrongStoreError
        The broker remembers another one.
    """
    seen, others = 0, []
    while (known := await link.get(topology.STORE_QUEUE)) is not None:
        seen = known.tag
        try:
            remembered: StoreIdentity = decode(known.type, known.body, StoreIdentity)
        except MessageRefusedError as error:
            refuse(known, error)
        else:
            if remembered.store != store.id:
                others.append(remembered)
    # More than one is there where an aggregator died between the two steps that follow.
    wrong = others[0] if others and not adopt else None
    # A fresh copy, then the old ones are acknowledged: the number of deliveries never adds up.
    await link.publish("", topology.STORE_QUEUE, wrong or StoreIdentity(store=store.id))
    if seen:
        await link.ack(seen, multiple=True, written=True)
    if wrong is not None:
        raise _wrong(store, wrong.store)


async def check_with_active(broker: Broker, store: Store) -> None:
    """Ask the active aggregator for its store, so that a standby with another one never waits.

    Raises
    ------
    WrongStoreError
        The active one has another store.
    """
    try:
        async with await Link.open(broker, "montemq aggregator (standby)") as link:
            answer = await link.call(StatusRequest(), Status, ANSWER_SECONDS)
    except (BrokerError, MessageRefusedError):
        return  # nobody answers: it is asked again by taking the lock
    if isinstance(answer, Status) and answer.store != store.id:
        raise _wrong(store, answer.store)


def _wrong(store: Store, known: str) -> WrongStoreError:
    return WrongStoreError(
        f"the runs of this broker live in store {known}, but {store.path} is store {store.id}; "
        "give the right --store, or --adopt-store to go on with this one"
    )
