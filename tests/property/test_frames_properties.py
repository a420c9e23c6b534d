import asyncio

import pamqp.commands
import pamqp.frame
import pamqp.header
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody

from protocol import amqp_frames
from protocol.amqp_aio_content import properties
from protocol.amqp_aio_wire import Receiver

short = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
texts = st.fixed_dictionaries(
    {},
    optional={
        name: st.none() | short.filter(bool)
        for name in (
            "content_type", "correlation_id", "reply_to", "expiration", "message_id",
            "message_type", "user_id", "app_id",
        )
    },
)  # fmt: skip


names = st.text("abcXYZ019-_.:", max_size=60)  # what the library allows


@given(st.integers(1, 65_535), names, short, st.booleans())
def test_a_publish_frame_is_what_the_library_would_write(
    channel: int, exchange: str, key: str, mandatory: bool
) -> None:
    library = pamqp.commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
    expected = pamqp.frame.marshal(library, channel)
    assert amqp_frames.publish(channel, exchange, key, mandatory=mandatory) == expected


@given(st.integers(1, 65_535), texts, st.sampled_from([1, 2]), st.binary(max_size=300))
def test_content_frames_are_what_the_library_would_write(
    channel: int, properties: dict[str, str | None], mode: int, body: bytes
) -> None:
    library = pamqp.commands.Basic.Properties(delivery_mode=mode, **properties)
    expected = pamqp.frame.marshal(pamqp.header.ContentHeader(0, len(body), library), channel)
    for at in range(0, len(body), 100):
        expected += pamqp.frame.marshal(ContentBody(body[at : at + 100]), channel)
    assert amqp_frames.content(channel, properties, mode, body, 100) == expected


class AnyDeliver(pamqp.commands.Basic.Deliver):
    """A delivery from whatever exchange: the library reads more than it would write."""

    def validate(self) -> None:
        """Allow every name."""


@given(texts, st.sampled_from([None, 1, 2]), st.sampled_from([None, 5]), st.integers(0, 2**40))
def test_a_header_is_read_as_the_library_reads_it(
    found: dict[str, str | None], mode: int | None, priority: int | None, size: int
) -> None:
    library = pamqp.commands.Basic.Properties(priority=priority, delivery_mode=mode, **found)
    payload = pamqp.frame.marshal(pamqp.header.ContentHeader(0, size, library), 1)[7:-1]
    length, read = properties(payload)
    assert length == size
    assert {name: value for name, value in read.items() if value} == {
        name: value for name, value in library if value
    }
    assert (amqp_frames.read_header(payload) is None) is (priority is not None)


@given(texts, st.data())
def test_a_broken_header_tells_at_least_how_long_the_body_is(
    found: dict[str, str | None], data: st.DataObject
) -> None:
    library = pamqp.commands.Basic.Properties(**found | {"app_id": "x"})
    payload = pamqp.frame.marshal(pamqp.header.ContentHeader(0, 7, library), 1)[7:-1]
    cut = data.draw(st.integers(14, len(payload) - 1))
    assert properties(payload[:cut])[0] == 7
    assert properties(payload[:-1] + b"\xff") == (7, dict(pamqp.commands.Basic.Properties()))


@given(short, st.integers(0, 2**63 - 1), st.booleans(), short, short)
def test_a_delivery_is_read_as_the_library_reads_it(
    consumer: str, tag: int, redelivered: bool, exchange: str, key: str
) -> None:
    library = AnyDeliver(consumer, tag, redelivered, exchange, key)
    payload = pamqp.frame.marshal(library, 1)[7:-1]
    assert payload.startswith(amqp_frames.DELIVER)
    assert amqp_frames.read_delivery(payload) == (consumer, tag, key)


@given(st.integers(0, 2**63 - 1), st.booleans())
def test_a_confirm_is_read_as_the_library_writes_it(tag: int, multiple: bool) -> None:
    for kind, start in (("Ack", amqp_frames.ACK), ("Nack", amqp_frames.NACK)):
        library = getattr(pamqp.commands.Basic, kind)(tag, multiple)
        payload = pamqp.frame.marshal(library, 1)[7:-1]
        assert payload.startswith(start)
        assert amqp_frames.read_confirm(payload) == (tag, multiple)


async def received(pieces: list[bytes]) -> list[tuple[int, int, str]]:
    reader = asyncio.StreamReader()
    receiver = Receiver(reader)
    frames = []

    async def read() -> None:
        async for weight, channel, frame in receiver:
            frames.append((weight, channel, frame.name))

    task = asyncio.ensure_future(read())
    for piece in pieces:
        reader.feed_data(piece)
        await asyncio.sleep(0)
    reader.feed_eof()
    await task
    return frames


@given(st.data())
def test_frames_are_cut_out_of_what_comes_however_it_is_split(data: st.DataObject) -> None:
    ack = pamqp.frame.marshal(pamqp.commands.Basic.Ack(7), 1)
    content = amqp_frames.content(3, {"content_type": "x"}, 1, b"body", 100)
    stream = ack + content + ack
    cuts = data.draw(st.lists(st.integers(1, len(stream) - 1), unique=True).map(sorted))
    ends = [*cuts, len(stream)]
    pieces = [stream[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    header = len(content) - 12
    assert asyncio.run(received(pieces)) == [
        (len(ack), 1, "Basic.Ack"),
        (header, 3, "ContentHeader"),
        (12, 3, "ContentBody"),
        (len(ack), 1, "Basic.Ack"),
    ]
