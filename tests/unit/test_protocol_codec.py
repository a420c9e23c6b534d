"""msgpack in and out: the refusals, one by one, and the canonical form."""

import tracemalloc

import msgpack
import pytest

from protocol.codec import canonical, pack, unpack
from protocol.errors import MessageRefusedError
from protocol.exact import exact


def refusal(body: bytes, limit: int = 1 << 20) -> MessageRefusedError:
    with pytest.raises(MessageRefusedError) as caught:
        unpack(body, limit)
    return caught.value


def test_plain_values_and_exact_numbers_come_back() -> None:
    value = {"a": 1, "b": (1.5, True, None, "x", b"y"), "c": exact(-3, 7)}
    assert unpack(pack(value), 1000) == value


def test_an_object_of_another_kind_is_not_packed() -> None:
    with pytest.raises(TypeError, match="complex has no place"):
        pack(1j)


def test_a_body_at_the_limit_passes_and_one_byte_more_does_not() -> None:
    body = pack({"a": "x" * 10})
    assert unpack(body, len(body)) == {"a": "x" * 10}
    assert refusal(body, len(body) - 1).reason == "oversized"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x80\x80",
        b"\x81\xa1a",
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\x82\xa1a\x01\xa1a\x01",
        b"\x81\x01\x01",
        b"\x81\xc0\x01",
        b"\x81\x90\x01",
        b"\xd4\x02\x00",
        b"\xc7\x03\x02\x00\x00\x01",
        b"\xd4\x01\x00",
        b"\xc7\x03\x01\x00\x00\x02",
        b"\xc7\x00\x01",
    ],
)
def test_a_broken_body_is_malformed(body: bytes) -> None:
    assert refusal(body).reason == "malformed"


def test_a_cut_off_body_is_malformed_wherever_it_is_cut() -> None:
    body = pack({"a": [1, 2.5, exact(3)], "b": {"c": b"xyz"}})
    for length in range(len(body)):
        assert refusal(body[:length]).reason == "malformed"


@pytest.mark.parametrize(
    "header",
    [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
     b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01"],
)  # fmt: skip
def test_a_huge_length_prefix_is_malformed_and_costs_no_memory(header: bytes) -> None:
    tracemalloc.start()
    try:
        assert refusal(header + b"\0" * 100).reason == "malformed"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01"])
def test_a_nesting_bomb_is_malformed(opening: bytes) -> None:
    assert refusal(opening * 100_000).reason == "malformed"


def test_an_array_longer_than_its_body_is_malformed_before_room_is_made_for_it() -> None:
    # Each level would get room for 10,000 elements or more, though the body has 3,000 bytes.
    tracemalloc.start()
    try:
        error = refusal(b"\xdc\x27\x10" * 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert (error.reason, "max_array_len(3000)" in error.text) == ("malformed", True)


def test_an_array_has_the_elements_that_the_caller_allows() -> None:
    body = pack([0] * 17)
    assert len(unpack(body, 100, max_array=17)) == 17
    with pytest.raises(MessageRefusedError, match="malformed"):
        unpack(body, 100, max_array=16)


def test_a_map_text_or_binary_above_its_limit_is_malformed() -> None:
    assert refusal(pack({f"k{i}": 0 for i in range(1001)})).reason == "malformed"
    assert refusal(pack("x" * 65_537)).reason == "malformed"
    assert refusal(pack(b"x" * 65_537)).reason == "malformed"
    assert refusal(msgpack.packb(msgpack.ExtType(1, b"\0" * 601))).reason == "malformed"


def test_the_text_of_a_refusal_is_short() -> None:
    assert len(refusal(b"\xd9\xff" + b"\xff" * 255).text) <= 200


def test_the_canonical_form_does_not_depend_on_the_order_of_keys() -> None:
    one = {"b": {"y": 1, "x": [{"q": 1, "p": 2}]}, "a": 0}
    other = {"a": 0, "b": {"x": ({"p": 2, "q": 1},), "y": 1}}
    assert canonical(one) == canonical(other)
    assert canonical(one) == bytes.fromhex("82a16100a16282a1789182a17002a17101a17901")


def test_the_canonical_form_keeps_integers_and_floats_apart() -> None:
    assert len({canonical(value) for value in (1, 1.0, True, "1", b"1")}) == 5
    assert canonical(0.0) != canonical(-0.0)
