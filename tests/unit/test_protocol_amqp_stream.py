"""What the asyncio adapter makes of frames that the library beneath it cannot decode."""

import pamqp.frame
import pytest
from pamqp.base import Frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from protocol import amqp_frames as frames
from protocol.amqp_aio_content import content, properties
from tests.support.amqp_headers import UNREADABLE_HEADERS, header_frame

KEY = b"run.key"


@pytest.mark.parametrize(
    "method",
    [
        Basic.Deliver("tag", 7, True, "mc.work", KEY.decode()),
        Basic.GetOk(7, True, "mc.work", KEY.decode(), 3),
        Basic.Return(312, "NO_ROUTE", "mc.work", KEY.decode()),
    ],
)
def test_a_routing_key_that_is_no_text_leaves_the_rest_of_its_frame_readable(
    method: Frame,
) -> None:
    honest = pamqp.frame.marshal(method, 1)
    assert dict(content(frames.METHOD, honest)) == dict(method)
    foreign = content(frames.METHOD, honest.replace(KEY, b"run.\xff\xfe\xfd"))
    assert dict(foreign) == dict(method) | {"routing_key": "run.\ufffd\ufffd\ufffd"}


def test_properties_that_cannot_be_read_leave_a_message_without_a_type() -> None:
    ours = Basic.Properties(content_type="text", message_type="chunk.v1")
    honest = pamqp.frame.marshal(ContentHeader(0, 9, ours), 1)
    assert content(frames.HEADER, honest).properties.message_type == "chunk.v1"
    foreign = content(frames.HEADER, honest.replace(b"chunk", b"\xff\xff\xff\xff\xff"))
    assert (foreign.body_size, foreign.properties.message_type) == (9, None)


@pytest.mark.parametrize("headers", [*UNREADABLE_HEADERS.values()], ids=[*UNREADABLE_HEADERS])
def test_headers_that_cannot_be_read_end_no_connection(headers: bytes) -> None:
    frame = header_frame(9, headers)
    assert content(frames.HEADER, frame).properties.message_type is None
    size, found = properties(frame[frames.START.size : -1])
    assert (size, found.get("message_type")) == (9, None)
