import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from protocol import amqp_frames
from protocol.amqp_pika_connection import CutOffError, Delivered, first_delivery
from tests.support.amqp_headers import UNREADABLE_HEADERS, header_frame

short = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
properties = st.builds(
    spec.BasicProperties,
    content_type=st.none() | short,
    headers=st.none() | st.dictionaries(short.filter(bool), short | st.integers(0, 2**31)),
    delivery_mode=st.sampled_from([1, 2]),
    message_id=st.none() | short,
    timestamp=st.none() | st.integers(0, 2**62),
    type=st.none() | short,
    user_id=st.none() | short,
)


def frames(
    consumer: str, tag: int, about: spec.BasicProperties, pieces: list[bytes]
) -> list[bytes]:
    deliver = spec.Basic.Deliver(consumer, tag, True, "mc.work", "default.normal")
    size = sum(map(len, pieces))
    return [
        frame.Method(1, deliver).marshal(),
        frame.Header(1, size, about).marshal(),
        *(frame.Body(1, piece).marshal() for piece in pieces),
    ]


@given(
    short,
    st.integers(1, 2**64 - 1),
    properties,
    st.lists(st.binary(min_size=1), max_size=3),
    st.binary(max_size=40),
)
def test_a_whole_delivery_is_read_as_the_library_would_write_it(
    consumer: str, tag: int, about: spec.BasicProperties, pieces: list[bytes], after: bytes
) -> None:
    stream = b"".join(frames(consumer, tag, about, pieces))
    expected = Delivered(len(stream), consumer, tag, about.type, b"".join(pieces))
    assert first_delivery(stream + after) == expected


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=3), st.data())
def test_what_is_cut_off_is_left_until_all_of_it_is_there(
    pieces: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(frames("c", 7, spec.BasicProperties(type="chunk.v1"), pieces))
    begun = amqp_frames.START.size + len(amqp_frames.DELIVER)  # by then it is known for a delivery
    short_of = data.draw(st.integers(0, len(stream) - 1))
    if short_of < begun:
        assert first_delivery(stream[:short_of]) is None
    else:
        with pytest.raises(CutOffError):
            first_delivery(stream[:short_of])


def test_other_frames_and_broken_ones_are_left_to_the_library() -> None:
    about = spec.BasicProperties(type="chunk.v1")
    deliver, header, body = frames("c", 7, about, [b"body"])
    ack = frame.Method(1, spec.Basic.Ack(7)).marshal()
    heartbeat = frame.Heartbeat().marshal()
    assert first_delivery(deliver + header + heartbeat + body) is None
    for stream in (ack, heartbeat, header + body, deliver + heartbeat + header + body):
        assert first_delivery(stream + deliver + header + body) is None
    broken = deliver + header + body[:-1] + b"\0"
    assert first_delivery(broken) is None


@pytest.mark.parametrize("headers", [*UNREADABLE_HEADERS.values()], ids=[*UNREADABLE_HEADERS])
def test_a_delivery_whose_properties_the_library_cannot_decode_has_no_type(headers: bytes) -> None:
    deliver, _, body = frames("c", 7, spec.BasicProperties(), [b"body"])
    header = header_frame(4, headers)
    found = first_delivery(deliver + header + body)
    assert found is not None
    assert (found.tag, found.type, found.body) == (7, None, b"body")
