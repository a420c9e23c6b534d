"""Every message of the protocol by its type, found in the code, so that none can be left out."""

from collections.abc import Iterator

from protocol import messages, rpc_messages
from protocol.messages import Message


def _messages() -> Iterator[type[Message]]:
    for module in (messages, rpc_messages):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Message) and hasattr(kind, "type"):
                yield kind


KINDS = tuple(_messages())
MESSAGES: dict[str, type[Message]] = {kind.type: kind for kind in KINDS}
