"""Decoding what arrives: every kind of hostile body is refused with a reason of the closed set."""

import time
import tracemalloc
from collections.abc import Mapping
from typing import Any

import msgpack
import pytest

from protocol.codec import pack
from protocol.definition import Definition
from protocol.errors import MessageRefusedError
from protocol.exact import exact
from protocol.messages import (
    Chunk,
    Failure,
    FailureKind,
    Finished,
    Leader,
    Partial,
    Progress,
    RefusalReason,
    RunState,
    Telemetry,
    decode,
    encode,
)
from protocol.rpc_messages import Declare, Missing, StatusRequest
from protocol.statistics import BlockMoments, collect
from tests.support.all_messages import KINDS, MESSAGES

SCOPE = {
    "run": "r-1", "definition": b"\7" * 32, "attempt": 2**32, "cell": 0, "first_block": 32,
    "blocks": 2,
}  # fmt: skip
STATISTICS = collect([BlockMoments([1.0], [2.0], [0.0], [1.0])] * 2, 2).model_dump()
MODEL = {"samples": 3, "seconds": 0.5, "cpu_seconds": 0.25, "chunks": (0,) * 12}
TOTALS = {
    "models": {"pi": MODEL}, "failures": {"crash": 1}, "reconnections": 0, "cancels": 2**63 - 1,
}  # fmt: skip
VALID: dict[type, dict[str, Any]] = {
    Chunk: SCOPE | {
        "block_size": 2, "model": "pi", "model_version": 1, "params": {"a": 1, "b": (1.5, "x")},
        "outputs": ("x", "y"), "sampling": {"method": "pseudo"}, "seed": 2**64 - 1,
    },
    Partial: SCOPE | {
        "statistics": STATISTICS, "consumer": "h.1-2", "host": "h", "cpu_seconds": 0.5,
        "engine": "portable",
    },
    Failure: SCOPE | {"kind": "crash", "text": "ä\n", "consumer": "c", "host": "h"},
    Telemetry: {
        "consumer": "c", "host": "h", "pool": "default", "slots": 2, "busy": 1,
        "state": "running", "version": "0.1.0",
    },
    Leader: {
        "leader": "h.1-2", "host": "h", "version": "0.1.0", "first": True, "stopped": False,
        "runs": 1, "window": 4, "outstanding": 3, "unconfirmed": 0, "totals": {
            "published": 2**63 - 1, "returned": 0, "reissued": {"late": 1}, "blockings": 0,
            "confirm_seconds": 0.5, "confirms": (0,) * 13,
        },
    },
    Finished: {"run": "r", "definition": b"\7" * 32, "term": 1, "state": "finished"},
    Progress: {
        "run": "r", "epoch": 1, "sequence": 2,
        "cells": ({"cell": 0, "merged": ((0, 3),), "cost": 0.5},),
        "failed_attempts": (1, 2), "slots": 2, "consumers": 1, "merged_blocks": 3,
        "expected_blocks": 9, "cpu_seconds": 1.0,
        "headline": {"output": "pi", "mean": 3.0, "standard_error": None},
    },
}  # fmt: skip


def refused(kind: type[Any], fields: Mapping[str, Any] | bytes) -> MessageRefusedError:
    body = fields if isinstance(fields, bytes) else pack(fields)
    with pytest.raises(MessageRefusedError) as caught:
        decode(kind.type, body, kind)
    assert caught.value.reason in RefusalReason.__members__.values()
    assert len(caught.value.text) < 500
    assert caught.value.text.isprintable()
    return caught.value


@pytest.mark.parametrize("kind", VALID)
def test_a_valid_message_passes_and_comes_back_the_same(kind: type[Any]) -> None:
    message = decode(kind.type, pack(VALID[kind]), kind)
    assert decode(kind.type, encode(message), kind) == message


def test_a_consumer_may_tell_what_it_has_counted() -> None:
    fields = VALID[Telemetry] | {"golden": "failed", "suspended": "failures", "totals": TOTALS}
    message = decode(Telemetry.type, pack(fields), Telemetry)
    assert message.totals.failures == {FailureKind.CRASH: 1}
    assert decode(Telemetry.type, encode(message), Telemetry) == message


@pytest.mark.parametrize("kind", VALID)
def test_every_missing_field_is_named(kind: type[Any]) -> None:
    for name in VALID[kind]:
        fields = {key: value for key, value in VALID[kind].items() if key != name}
        error = refused(kind, fields)
        assert (error.reason, error.text) == ("invalid", f"{name} is missing")


@pytest.mark.parametrize("kind", VALID)
def test_an_unknown_field_is_named(kind: type[Any]) -> None:
    error = refused(kind, VALID[kind] | {"colour": 1})
    assert (error.reason, error.text) == ("invalid", "colour is no field of this message")


@pytest.mark.parametrize("kind", VALID)
@pytest.mark.parametrize(
    "wrong", [{}, b"bin", msgpack.Timestamp(1), exact(3), float("nan"), ((((),),),), -1.5]
)
def test_a_field_of_a_wrong_type_is_invalid(kind: type[Any], wrong: object) -> None:
    for name in VALID[kind]:
        if (name, wrong) not in (("params", {}), ("sampling", {})):
            body = msgpack.packb(VALID[kind] | {name: wrong}, default=packed_exact)
            error = refused(kind, body)
            assert error.reason == "invalid"
            assert error.text.startswith(name)


def packed_exact(value: object) -> Any:
    return msgpack.unpackb(pack(value), ext_hook=msgpack.ExtType)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Chunk, {"run": "a.b"}),
        (Chunk, {"run": b"r-1"}),
        (Chunk, {"definition": "x" * 32}),
        (Chunk, {"definition": b"x" * 31}),
        (Chunk, {"attempt": -1}),
        (Chunk, {"cell": 10_000}),
        (Chunk, {"first_block": -1}),
        (Chunk, {"first_block": True}),
        (Chunk, {"first_block": 1.0}),
        (Chunk, {"first_block": None}),
        (Chunk, {"blocks": 0}),
        (Chunk, {"blocks": -(2**63)}),
        (Chunk, {"first_block": 2**32 - 1, "blocks": 2}),
        (Chunk, {"block_size": 2**24 + 2}),
        (Chunk, {"block_size": 0}),
        (Chunk, {"outputs": ()}),
        (Chunk, {"outputs": ("x", "x")}),
        (Chunk, {"outputs": ("X",)}),
        (Chunk, {"params": {"A": 1}}),
        (Chunk, {"params": {"a": None}}),
        (Chunk, {"params": {"a": float("inf")}}),
        (Chunk, {"params": {"a": 2**63}}),
        (Chunk, {"params": {f"a{i}": 1 for i in range(65)}}),
        (Chunk, {"sampling": {"method": b"pseudo"}}),
        (Chunk, {"sampling": {"method": "pseudo", "seed": 1}}),
        (Chunk, {"not_by": ()}),
        (Chunk, {"not_by": ("",)}),
        (Chunk, {"not_by": ("h",) * 9}),
        (Partial, {"statistics": STATISTICS | {"blocks": -1}}),
        (Partial, {"statistics": STATISTICS | {"minimum": (float("nan"),)}}),
        (Partial, {"statistics": STATISTICS | {"minimum": (-0.0,)}}),
        (Partial, {"statistics": STATISTICS | {"sums": (1.5,)}}),
        (Partial, {"cpu_seconds": float("inf")}),
        (Partial, {"cpu_seconds": 1e300}),
        (Partial, {"cpu_seconds": -0.1}),
        (Partial, {"cpu_seconds": True}),
        (Partial, {"engine": "a b"}),
        (Failure, {"kind": "bored"}),
        (Failure, {"kind": b"crash"}),
        (Failure, {"text": "x" * 2049}),
        (Failure, {"block": -1}),
        (Telemetry, {"slots": 4097}),
        (Telemetry, {"state": 1}),
        (Telemetry, {"golden": "perhaps"}),
        (Telemetry, {"golden": b"passed"}),
        (Telemetry, {"suspended": "tired"}),
        (Telemetry, {"totals": TOTALS | {"cancels": 2**63}}),
        (Telemetry, {"totals": TOTALS | {"reconnections": -1}}),
        (Telemetry, {"totals": TOTALS | {"failures": {"bored": 1}}}),
        (Telemetry, {"totals": TOTALS | {"failures": {"crash": 0.5}}}),
        (Telemetry, {"totals": TOTALS | {"models": {f"m{i}": MODEL for i in range(17)}}}),
        (Telemetry, {"totals": TOTALS | {"models": {"a.b": MODEL}}}),
        (Telemetry, {"totals": TOTALS | {"models": {"pi": MODEL | {"chunks": (0,) * 11}}}}),
        (Telemetry, {"totals": TOTALS | {"models": {"pi": MODEL | {"chunks": (0,) * 13}}}}),
        (Telemetry, {"totals": TOTALS | {"models": {"pi": MODEL | {"seconds": float("inf")}}}}),
        (Telemetry, {"totals": TOTALS | {"models": {"pi": MODEL | {"samples": True}}}}),
        (Finished, {"state": "over"}),
        (Progress, {"cells": ({"cell": 0, "merged": ((0, 0),), "cost": None},)}),
        (Progress, {"cells": ({"cell": 0, "merged": ((0,),), "cost": None},)}),
        (Progress, {"cells": ({"cell": 0, "merged": ((0, 3),), "cost": -0.5},)}),
        (Progress, {"cells": ({"cell": 0, "merged": ((0, 3),), "cost": float("inf")},)}),
        (Progress, {"cells": ({"cell": 0, "merged": ((0, 3),), "cost": 2e12},)}),
        (Progress, {"headline": {"output": "pi", "mean": float("nan"), "standard_error": None}}),
    ],
)
def test_a_value_out_of_its_limits_is_invalid(kind: type[Any], changes: dict[str, Any]) -> None:
    assert refused(kind, VALID[kind] | changes).reason == "invalid"


@pytest.mark.parametrize("body", [b"\xc0", b"\x90", b"\x01", b"\xa1x", b"\x81\xc4\x03run\xa1r"])
def test_a_body_that_is_no_map_of_text_keys_is_invalid(body: bytes) -> None:
    assert refused(StatusRequest, body).reason == "invalid"


def test_an_integer_given_for_a_float_is_the_same_number() -> None:
    message = decode("partial.v1", pack(VALID[Partial] | {"cpu_seconds": 2}), Partial)
    assert (message.cpu_seconds, type(message.cpu_seconds)) == (2.0, float)


def test_a_float_of_32_bits_is_the_same_number() -> None:
    short = msgpack.packb(0.5, use_single_float=True)
    partial = pack(VALID[Partial]).replace(pack(0.5), short)
    assert decode("partial.v1", partial, Partial).cpu_seconds == 0.5


@pytest.mark.parametrize(
    "name", [None, "", "chunk", "chunk.v2", "CHUNK.V1", "partial.v1", "\0" * 9999]
)
def test_an_unknown_or_unexpected_type_is_told_what_is_allowed(name: str | None) -> None:
    with pytest.raises(MessageRefusedError) as caught:
        decode(name, pack(VALID[Chunk]), Chunk, Failure)
    assert caught.value.reason == "unknown_type"
    assert caught.value.text.endswith("allowed here: chunk.v1, failure.v1")
    assert len(caught.value.text) < 500


@pytest.mark.parametrize("kind", MESSAGES.values())
def test_a_body_above_the_limit_is_oversized_before_it_is_read(kind: type[Any]) -> None:
    assert refused(kind, b"\xc1" * (kind.limit + 1)).reason == "oversized"
    assert refused(kind, b"\xc1" * kind.limit).reason == "malformed"


@pytest.mark.parametrize("kind", MESSAGES.values())
def test_an_array_above_the_limit_of_its_message_is_malformed(kind: type[Any]) -> None:
    allowed, above = ((0,) * count for count in (kind.max_array, kind.max_array + 1))
    # Room for the claimed length, in a field that no message has.
    assert refused(kind, {"x": allowed}).reason == "invalid"
    assert refused(kind, {"x": above}).reason == "malformed"


@pytest.mark.parametrize("depth", [10, 100, 900, 1000, 1020, 1023, 1024, 5000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"])
def test_a_nesting_bomb_in_a_field_is_refused_at_any_depth(depth: int, opening: bytes) -> None:
    body = b"\x81\xa3run" + opening * depth + b"\x00"
    assert refused(StatusRequest, body).reason in ("malformed", "invalid")


def test_a_hostile_key_does_not_reach_the_log_as_it_is() -> None:
    error = refused(StatusRequest, {"x\n\x1b[31m" + "y" * 60_000: 1})
    assert error.reason == "invalid"


def packed_map(fields: Mapping[str, bytes]) -> bytes:
    assert len(fields) < 16
    return bytes([0x80 + len(fields)]) + b"".join(pack(k) + v for k, v in fields.items())


def array(count: int, item: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + item * count


NILS, MANY_NILS = array(4096, b"\xc0"), array(10_000, b"\xc0")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Chunk, packed_map({"params": packed_map(dict.fromkeys("abcdefghijklmno", NILS))})),
        (Chunk, packed_map({"params": array(4096, array(25, b"\x80"))})),
        (Partial, packed_map({"statistics": array(256, array(256, array(14, b"\x80")))})),
        (Partial, packed_map({"run": b"\xdd\x00\x00\x01\x00" * 1000})),
        (Progress, packed_map({"cells": array(10_000, b"\x80")})),
        (Progress, packed_map({"failed_attempts": array(100_000, b"\xc0")})),
        (Progress, packed_map({"failed_attempts": array(100_001, b"\x00")})),
        (Missing, packed_map({"cells": array(80, array(10_000, b"\x80"))})),
        (Declare, packed_map({"definition": packed_map({"cells": array(80, MANY_NILS)})})),
    ],
)  # fmt: skip
def test_a_body_made_to_cost_much_costs_little(kind: type[Any], body: bytes) -> None:
    tracemalloc.start()
    try:
        started = time.process_time()
        refused(kind, body)
        spent, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # An empty map is 1 byte on the wire and 64 in Python; what is built per byte stays at that.
    assert peak < 200 * len(body) + 5_000_000
    assert spent < 5.0


def test_closed_sets_are_values_of_their_enumerations() -> None:
    failure = decode("failure.v1", pack(VALID[Failure]), Failure)
    assert failure.kind is FailureKind.CRASH
    finished = decode("finished.v1", pack(VALID[Finished]), Finished)
    assert finished.state is RunState.FINISHED


def test_an_absent_field_with_a_default_may_also_be_nil() -> None:
    for fields in ({}, {"run": None}):
        assert decode("status.v1", pack(fields), StatusRequest).run is None


def test_a_request_has_no_field_that_older_receivers_refuse_unless_it_is_needed() -> None:
    assert "older_than" not in msgpack.unpackb(encode(StatusRequest(run="a")))
    page = StatusRequest(older_than=(1.5, "a"))
    assert decode(page.type, encode(page), StatusRequest) == page


def test_every_message_has_a_versioned_name_of_its_own() -> None:
    assert len(KINDS) > 10
    assert all(kind.type.endswith(".v1") for kind in KINDS)
    assert len({kind.type for kind in KINDS}) == len(KINDS)


def test_no_message_is_larger_than_every_release_of_rabbitmq_takes() -> None:
    assert max(kind.limit for kind in KINDS) <= 16 * 1024**2


def test_the_largest_chunk_of_a_valid_definition_fits_its_limit() -> None:
    params: dict[str, Any] = {f"p{i}": tuple(float(j) for j in range(2750)) for i in range(4)}
    definition = Definition(
        model="m" * 40, model_version=2**31 - 1,
        outputs=tuple(f"{i:040}".replace("0", "o", 1) for i in range(256)), cells=(params,),
        seed=2**64 - 1, block_size=2,
    )  # fmt: skip
    changes = {
        "params": params, "run": "r" * 100, "model": definition.model, "not_by": ("n" * 120,) * 8,
        "outputs": definition.outputs,
    }  # fmt: skip
    body = pack(VALID[Chunk] | changes)
    assert len(pack(params)) > 99_000
    assert decode("chunk.v1", body, Chunk).params == definition.cells[0]
