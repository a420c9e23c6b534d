"""Every message comes back from its bytes; no bytes at all get past decode() unrefused."""

from typing import Any

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import pack
from protocol.errors import MessageRefusedError
from protocol.messages import Message, RefusalReason, decode, encode
from protocol.statistics import BlockMoments, collect
from tests.support.all_messages import MESSAGES

REASONS = {
    RefusalReason.UNKNOWN_TYPE,
    RefusalReason.OVERSIZED,
    RefusalReason.MALFORMED,
    RefusalReason.INVALID,
}

names = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
runs = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True)
run_names = st.from_regex(r"[A-Za-z0-9{][A-Za-z0-9_{}-]{0,299}", fullmatch=True)
consumers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", fullmatch=True)
words = st.from_regex(r"[A-Za-z0-9._+-]{1,64}", fullmatch=True)
sentences = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
hashes = st.binary(min_size=32, max_size=32)
counters = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
seconds = st.floats(0, 1e12)
model_totals = st.fixed_dictionaries(
    {
        "samples": counters,
        "seconds": seconds,
        "chunks": st.lists(counters, min_size=12, max_size=12).map(tuple),
    },
    optional={"cpu_seconds": seconds},
)
states = st.sampled_from(["running", "finished", "failed", "cancelled"])
lanes = st.sampled_from(["high", "normal", "low"])
scalars = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), numbers, sentences)
params = st.dictionaries(
    names, st.one_of(scalars, st.lists(scalars, max_size=4).map(tuple)), max_size=4
)
sampling = st.fixed_dictionaries({}, optional={
    "method": st.sampled_from(["pseudo", "antithetic", "sobol"]),
    "common_random_numbers": st.booleans(), "control_variates": st.booleans(),
})  # fmt: skip
ranges = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 2**32)), max_size=4).map(
    tuple
)
cells = st.integers(0, 9_999)
block_sizes = st.integers(0, 24).map(lambda power: 2**power) | st.integers(1, 2**24)
scope = {
    "run": runs, "definition": hashes, "attempt": st.integers(0, 2**64 - 1), "cell": cells,
    "first_block": st.integers(0, 2**31), "blocks": st.integers(1, 2**31),
}  # fmt: skip
limits = {"samples": st.integers(1, 2**33), "confidence": st.floats(0.5, 0.999999),
          "seconds": st.none() | st.floats(1e-3, 1e9)}  # fmt: skip
plain_stops = st.fixed_dictionaries({}, optional=limits)
stops = st.fixed_dictionaries({}, optional=limits | {
    "standard_error": st.none() | st.floats(5e-324, 1e300),
    "relative_error": st.none() | st.floats(5e-324, 1.0),
    "outputs": st.lists(names, max_size=3, unique=True).map(tuple),
})  # fmt: skip
definitions = st.fixed_dictionaries({
    "model": names, "model_version": st.integers(1, 2**31 - 1),
    "outputs": st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    "cells": st.lists(params, min_size=1, max_size=3).map(tuple),
    "seed": st.integers(0, 2**64 - 1), "block_size": block_sizes,
}, optional={
    "sampling": st.fixed_dictionaries({}, optional={
        "method": st.sampled_from(["pseudo", "antithetic"]),
        "common_random_numbers": st.booleans(),
    }),
    "stop": plain_stops,
})  # fmt: skip
bumps = st.dictionaries(names, st.integers(1, 2**62) | st.floats(1e-9, 1e9), max_size=3)
run_only = st.fixed_dictionaries({"run": runs})
estimates = st.fixed_dictionaries({
    **dict.fromkeys(("mean", "standard_error", "ci_low", "ci_high"), st.none() | numbers),
    "confidence": numbers, "error_reliable": st.booleans(),
    "standard_deviation": st.none() | numbers, "variance_reduction": st.none() | numbers,
    "quantiles": st.lists(st.fixed_dictionaries({
        "probability": numbers, "value": numbers, "ci_low": st.none() | numbers,
        "ci_high": st.none() | numbers,
    }), max_size=2).map(tuple),
})  # fmt: skip

shares = st.floats(0, 1e18)
headlines = st.fixed_dictionaries({
    "output": names, "mean": numbers, "standard_error": st.none() | numbers,
})  # fmt: skip


@st.composite
def statistics(draw: st.DrawFn) -> dict[str, Any]:
    outputs = draw(st.integers(1, 3))
    columns = [draw(st.lists(numbers, min_size=outputs, max_size=outputs)) for _ in range(3)]
    squares = [abs(value) for value in columns[1]]
    high = [value + abs(value) / 2 if abs(value) < 1e300 else value for value in columns[2]]
    blocks = [BlockMoments(columns[0], squares, columns[2], high)] * draw(st.integers(1, 3))
    return collect(blocks, draw(st.sampled_from([2, 1024]))).model_dump()


not_by = st.lists(consumers, min_size=1, max_size=8).map(tuple)
audits = st.lists(
    st.fixed_dictionaries({
        "cell": cells, "first_block": st.integers(0, 2**32 - 1), "blocks": st.integers(1, 2**32),
        "not_by": not_by,
    }),
    max_size=3,
).map(tuple)  # fmt: skip

BODIES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "chunk.v1": st.fixed_dictionaries(
        scope | {
            "block_size": block_sizes, "model": names, "model_version": st.integers(1, 2**31 - 1),
            "params": params, "sampling": sampling, "seed": st.integers(0, 2**64 - 1),
            "outputs": st.lists(names, min_size=1, max_size=5, unique=True).map(tuple),
        },
        optional={
            "not_by": st.none() | not_by,
            "histograms": st.booleans(), "bump": bumps,
        },
    ),
    "partial.v1": st.fixed_dictionaries(scope | {
        "statistics": statistics(), "consumer": consumers, "host": consumers,
        "cpu_seconds": seconds, "engine": words,
    }),
    "failure.v1": st.fixed_dictionaries(
        scope | {
            "kind": st.sampled_from(["crash", "timeout", "declined"]), "text": sentences,
            "consumer": consumers, "host": consumers,
        },
        optional={"block": st.none() | st.integers(0, 2**32 - 1)},
    ),
    "telemetry.v1": st.fixed_dictionaries(
        {
            "consumer": consumers, "host": consumers, "pool": names,
            "slots": st.integers(0, 4096), "busy": st.integers(0, 4096),
            "state": st.sampled_from(["running", "draining", "stopped"]), "version": words,
        },
        optional={
            "golden": st.none() | st.sampled_from(["passed", "failed"]),
            "suspended": st.none() | st.just("failures"),
            "totals": st.none() | st.fixed_dictionaries({
                "models": st.dictionaries(names, model_totals, max_size=16),
                "failures": st.dictionaries(st.sampled_from(["crash", "timeout"]), counters),
                "reconnections": counters, "cancels": counters,
            }),
        },
    ),
    "leader.v1": st.fixed_dictionaries({
        "leader": consumers, "host": consumers, "version": words, "first": st.booleans(),
        "stopped": st.booleans(), "runs": counters, "window": counters,
        "outstanding": counters, "unconfirmed": counters, "totals": st.fixed_dictionaries({
            "published": counters, "returned": counters,
            "reissued": st.dictionaries(st.sampled_from(["late", "lost"]), counters),
            "blockings": counters, "confirm_seconds": seconds,
            "confirms": st.tuples(*[counters] * 13),
        }),
    }),
    "progress.v1": st.fixed_dictionaries(optional={"audits": st.none() | audits}, mapping={
        "run": runs, "epoch": counters, "sequence": counters,
        "cells": st.lists(
            st.fixed_dictionaries({"cell": cells, "merged": ranges, "cost": st.none() | seconds}),
            max_size=3,
        ).map(tuple),
        "failed_attempts": st.lists(st.integers(0, 2**64 - 1), max_size=3).map(tuple),
        "slots": counters, "consumers": counters, "merged_blocks": counters,
        "expected_blocks": counters, "cpu_seconds": seconds,
        "headline": st.none() | headlines,
    }),
    "finished.v1": st.fixed_dictionaries({
        "run": runs, "definition": hashes, "state": states, "term": st.integers(0, 2**32 - 1),
    }),
    "declare.v1": st.fixed_dictionaries(
        {"run": runs, "definition": definitions, "pool": names, "lane": lanes},
        optional={"name": st.none() | run_names},
    ),
    "refused.v1": st.fixed_dictionaries({"host": consumers}),
    "outdated.v1": st.fixed_dictionaries(
        {"consumer": consumers, "host": consumers, "oldest": words}
    ),
    "declared.v1": run_only, "declaration.v1": run_only,
    "status.v1": st.fixed_dictionaries(
        {},
        optional={
            "run": st.none() | runs, "state": st.none() | states,
            "older_than": st.none() | st.tuples(seconds, runs),
            "headlines": st.none() | st.booleans(),
        },
    ),
    "fleet.v1": st.fixed_dictionaries(
        {},
        optional={
            "pool": st.none() | names, "first": st.integers(1, 1000),
            "after": st.none() | consumers,
        },
    ),
    "fleet_reply.v1": st.fixed_dictionaries({
        "consumers": st.lists(st.fixed_dictionaries({
            "consumer": consumers, "host": consumers, "pool": names,
            "slots": st.integers(0, 4096), "busy": st.integers(0, 4096),
            "state": st.sampled_from(["running", "draining"]), "version": words,
            "last_seen": seconds,
        }), max_size=2).map(tuple),
        "total": counters, "clock": seconds,
    }),
    "missing.v1": run_only, "results.v1": run_only, "cancel.v1": run_only, "resume.v1": run_only,
    "missing_reply.v1": st.fixed_dictionaries(optional={"audits": st.none() | audits}, mapping={
        "run": runs, "state": states, "epoch": counters, "sequence": counters,
        "term": st.integers(0, 2**32 - 1), "slots": counters, "busy": counters,
        "consumers": counters, "merged_blocks": counters, "expected_blocks": counters,
        "cells": st.lists(
            st.fixed_dictionaries({"cell": cells, "missing": ranges, "cost": st.none() | seconds}),
            max_size=3,
        ).map(tuple),
        "failed_attempts": st.lists(st.integers(0, 2**64 - 1), max_size=3).map(tuple),
    }),
    "status_reply.v1": st.fixed_dictionaries({
        "runs": st.lists(st.fixed_dictionaries({
            "run": runs, "state": states, "model": names, "pool": names, "lane": lanes,
            "cells": counters, "samples": counters, "total_samples": counters,
            "created": seconds, "elapsed_seconds": seconds, "error": st.none() | sentences,
        }), max_size=2).map(tuple),
        "total": counters, "slots": counters, "consumers": counters, "clock": seconds,
        "store": words,
    }, optional={
        "headlines": st.none() | st.lists(st.none() | headlines, max_size=2).map(tuple),
        "rates": st.none() | st.lists(st.none() | seconds, max_size=2).map(tuple),
    }),
    "results_reply.v1": st.fixed_dictionaries({"result": st.fixed_dictionaries({
        "run": runs, "state": states, "model": names, "model_version": counters,
        "seed": counters, "sampling": names, "control_variates": st.booleans(),
        "block_size": counters, "stop": stops,
        "digest": st.none() | names, "reproducible": st.booleans(),
        "elapsed_seconds": numbers, "cpu_seconds": numbers, "samples": counters,
        "cells": st.lists(st.fixed_dictionaries({
            "params": params, "state": states, "samples": counters,
            "outputs": st.dictionaries(names, estimates, max_size=2),
            "ended_by": st.none() | st.sampled_from(["error", "samples", "seconds"]),
            "checkpoint": st.none() | counters, "overshoot": counters,
        }), max_size=2).map(tuple),
        "engines": st.lists(words, max_size=2).map(tuple), "error": st.none() | sentences,
    })}),
    "failures.v1": run_only,
    "history.v1": st.fixed_dictionaries({"run": runs, "cell": cells}),
    "history_reply.v1": st.fixed_dictionaries({
        "run": runs, "cell": cells, "created": seconds,
        "outputs": st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
        "points": st.lists(st.fixed_dictionaries({
            "samples": counters, "at": seconds,
            "estimates": st.lists(
                st.tuples(st.none() | numbers, st.none() | numbers), max_size=3
            ).map(tuple),
        }), max_size=3).map(tuple),
        "bars": st.lists(st.none() | st.fixed_dictionaries({
            "low": numbers, "high": numbers, "outside": shares,
            "counts": st.lists(shares, max_size=3).map(tuple),
        }), max_size=3).map(tuple),
    }),
    "failures_reply.v1": st.fixed_dictionaries({
        "run": runs, "failures": st.lists(st.fixed_dictionaries({
            "cell": cells, "first_block": st.integers(0, 2**32 - 1),
            "blocks": st.integers(1, 2**32), "attempt": st.integers(0, 2**64 - 1),
            "kind": st.sampled_from(["crash", "timeout"]), "text": sentences,
            "consumer": sentences.map(lambda text: text[:120]), "host": consumers,
        }), max_size=2).map(tuple),
    }),
    "error_reply.v1": st.fixed_dictionaries({
        "code": st.sampled_from(["invalid", "unknown_run", "run_id_taken", "too_large"]),
        "text": sentences,
    }),
    "store.v1": st.fixed_dictionaries({"store": words}),
    "control.v1": st.fixed_dictionaries({
        "command": st.sampled_from(["quiet", "resume", "drain", "stop"]), "by": consumers,
    }),
}  # fmt: skip

valid = st.sampled_from(sorted(BODIES)).flatmap(lambda name: st.tuples(st.just(name), BODIES[name]))
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | sentences
    | st.binary(max_size=40) | st.builds(msgpack.ExtType, st.integers(0, 3), st.binary(max_size=8))
    | st.just(msgpack.Timestamp(1)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(sentences, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def read(name: str, body: bytes) -> Message | None:
    """Decode; a refusal is the only other way out."""
    try:
        message: Message = decode(name, body, *MESSAGES.values())
    except MessageRefusedError as error:
        refusal = error
    else:
        fields = message.model_dump(mode="python")
        absent = [name for name in message.absent_if_none if fields[name] is None]
        assert encode(message) == pack({n: v for n, v in fields.items() if n not in absent})
        assert decode(name, encode(message), MESSAGES[name]) == message
        return message
    assert refusal.reason in REASONS
    assert len(refusal.text) < 500
    assert refusal.text.isprintable() or refusal.reason == "malformed"
    return None


def test_every_message_has_a_strategy() -> None:
    assert set(BODIES) == set(MESSAGES)


@settings(max_examples=600)
@given(valid)
def test_every_valid_message_comes_back_from_its_bytes(case: tuple[str, dict[str, Any]]) -> None:
    assert read(case[0], pack(case[1])) is not None


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=200))
def test_random_bytes_are_refused_with_a_reason(name: str, body: bytes) -> None:
    message = read(name, body)
    assert message is None or name == "status.v1"


@settings(max_examples=600)
@given(valid, st.data())
def test_a_mutated_message_is_read_or_refused_with_a_reason(
    case: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    body = bytearray(pack(case[1]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 3))
        body[at : at + cut] = data.draw(st.binary(max_size=4))
    read(case[0], bytes(body))


@given(valid, st.data())
def test_a_truncated_message_is_malformed(
    case: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    body = pack(case[1])
    assert read(case[0], body[: data.draw(st.integers(0, len(body) - 1))]) is None


@settings(max_examples=600)
@given(valid, anything, st.data())
def test_a_field_replaced_by_anything_is_read_or_refused_with_a_reason(
    case: tuple[str, dict[str, Any]], value: object, data: st.DataObject
) -> None:
    name, fields = case
    field = data.draw(st.sampled_from(sorted(MESSAGES[name].model_fields)))
    plain = msgpack.unpackb(pack(fields), ext_hook=msgpack.ExtType)
    read(name, msgpack.packb(plain | {field: value}))


@given(valid, sentences.filter(lambda key: key not in {"run", "block", "not_by"}), anything)
def test_an_unknown_field_is_refused(
    case: tuple[str, dict[str, Any]], key: str, value: object
) -> None:
    name, fields = case
    if key not in MESSAGES[name].model_fields:
        plain = msgpack.unpackb(pack(fields), ext_hook=msgpack.ExtType)
        assert read(name, msgpack.packb(plain | {key: value})) is None
