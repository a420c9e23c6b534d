"""The specification's vectors and tables, read from its page and checked against the code."""

import hashlib
import json
import re
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import BaseModel

from aggregator.estimates import estimates
from aggregator.stopping import Target, reached
from protocol import codec, definition, messages, results, rpc_messages, topology
from protocol.audit_odds import catch_probability
from protocol.definition import Definition, Method, Stop
from protocol.exact import MAX_BYTES, Exact, column, from_float, rounded_sqrt
from protocol.histogram import bin_edges, bin_numbers
from protocol.messages import FailureKind, RefusalReason, decode, encode
from protocol.model import moments
from protocol.rpc_messages import ErrorCode
from protocol.statistics import BlockMoments, Statistics, collect
from protocol.streams import BlockStream, generator_tag, philox4x32
from tests.support.all_messages import MESSAGES

PAGE = (Path(__file__).parents[2] / "protocol" / "README.md").read_text(encoding="utf-8")
VECTORS = {
    name: json.loads(text)
    for name, text in re.findall(r"^```json (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}


def exact_of(text: str) -> Exact:
    """Return the number that a vector's value means: a double, or a + b, a * b, (a)**2."""
    powers = {"(2**-1074)**2": from_float(2.0**-1074) * from_float(2.0**-1074)}
    if text in powers:
        return powers[text]
    if match := re.fullmatch(r"(\S+) ([+*]) (\S+)", text):
        left, right = from_float(float(match[1])), from_float(float(match[3]))
        return left + right if match[2] == "+" else left * right
    return from_float(float.fromhex(text))


def section(heading: str) -> str:
    """Return a section without its subsections' siblings."""
    start = PAGE.index(f"\n{heading}")
    level = heading.split(" ", 1)[0]
    following = re.search(rf"^#{{1,{len(level)}}} ", PAGE[start + 2 + len(heading) :], re.MULTILINE)
    stop = start + 2 + len(heading) + following.start() if following else len(PAGE)
    return PAGE[start:stop]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows."""
    return [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_page_has_all_vectors() -> None:
    assert set(VECTORS) == {
        "exact", "moments", "bins", "controls", "statistics", "digest", "definition", "target",
        "checkpoints", "stopping", "philox4x32-10", "uniforms", "sobol", "generator", "messages",
        "audits",
    }  # fmt: skip


@pytest.mark.parametrize("row", VECTORS["exact"], ids=lambda row: row["value"])
def test_exact_numbers_are_as_specified(row: dict[str, Any]) -> None:
    number = exact_of(row["value"])
    assert number == Exact(int(row["mantissa"]), row["shift"])
    assert number.to_bytes().hex() == row["bytes"]
    assert codec.pack(number).hex() == row["packed"]
    assert codec.unpack(bytes.fromhex(row["packed"]), 1000) == number


@pytest.mark.parametrize("row", VECTORS["philox4x32-10"])
def test_philox_gives_the_known_answers_of_random123(row: dict[str, list[str]]) -> None:
    counter = tuple(np.array([int(word, 16)], dtype=np.uint64) for word in row["counter"])
    low, high = (int(word, 16) for word in row["key"])
    output = philox4x32(counter, (low, high))  # type: ignore[arg-type]
    assert [f"{int(word[0]):08x}" for word in output] == row["output"]


def test_the_known_answers_are_the_three_of_random123() -> None:
    # From kat_vectors of Random123: zeros, ones, and digits of pi.
    assert [row["output"] for row in VECTORS["philox4x32-10"]] == [
        ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"],
        ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"],
        ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"],
    ]


@pytest.mark.parametrize("row", VECTORS["uniforms"])
def test_uniforms_are_as_specified(row: dict[str, Any]) -> None:
    pair, dimension = row["pair"], row["dimension"]
    stream = BlockStream(int(row["seed"]), row["cell"], row["block"], 2 * (pair + 1))
    words = [int(word[0, pair]) for word in stream.words(dimension, 1)]
    assert [f"{word:08x}" for word in words] == row["words"]
    even, odd = stream.uniform_pairs(dimension, 1)
    assert even[0, pair].hex() == row["even"]
    assert odd[0, pair].hex() == row["odd"]
    # Once more from the sentence of the page, in integers.
    k = (words[1] << 32 | words[0]) >> 12
    assert Fraction(float.fromhex(row["even"])) == Fraction(2 * k + 1, 2**53)


def philox4x64(counter: list[int], key: list[int]) -> list[int]:
    """Return Philox4x64-10 as the page describes it, in plain integers."""
    mask = 2**64 - 1
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1 = (right >> 64) ^ c1 ^ k0, right & mask
        c2, c3 = (left >> 64) ^ c3 ^ k1, left & mask
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return [c0, c1, c2, c3]


@pytest.mark.parametrize("row", VECTORS["generator"])
def test_the_numpy_generator_is_as_specified(row: dict[str, Any]) -> None:
    tag, seed = generator_tag(row["model"]), int(row["seed"])
    assert f"{tag:016x}" == row["tag"]
    stream = BlockStream(seed, row["cell"], row["block"], 2)
    raw = [int(word) for word in stream.generator(tag).bit_generator.random_raw(5)]
    assert [f"{word:016x}" for word in raw] == row["raw"]
    assert [value.hex() for value in stream.generator(tag).random(2)] == row["random"]
    assert [((word >> 11) * 2.0**-53).hex() for word in raw[:2]] == row["random"]
    first = philox4x64([1, 0, row["block"], row["cell"]], [seed, tag])
    assert raw == first + philox4x64([2, 0, row["block"], row["cell"]], [seed, tag])[:1]


@pytest.mark.parametrize("row", VECTORS["moments"])
def test_the_moments_of_samples_are_as_specified(row: dict[str, Any]) -> None:
    found = moments(np.array(row["samples"])[np.newaxis], 1)
    assert found.sums[0].hex() == row["sum"]
    assert found.squares[0].hex() == row["square"]
    assert found.minimum[0].hex() == row["minimum"]
    assert found.maximum[0].hex() == row["maximum"]


@pytest.mark.parametrize("row", VECTORS["bins"], ids=lambda row: row["value"])
def test_bins_are_as_specified(row: dict[str, Any]) -> None:
    value = float.fromhex(row["value"])
    assert bin_numbers(np.array([value])).tolist() == [row["bin"]]
    assert [edge.hex() for edge in bin_edges(row["bin"])] == [row["smallest"], row["largest"]]
    # Once more from the sentence of the page.
    bits = int.from_bytes(struct.pack(">d", value), "big")
    size = max(((bits & (2**63 - 1)) >> 46) - 63, 0)
    assert row["bin"] == (-size if bits >> 63 else size)


@pytest.mark.parametrize("method", [Method.PSEUDO, Method.SOBOL])
def test_control_variates_are_as_specified(method: Method) -> None:
    vector = VECTORS["controls"]
    found = [moments(np.array(block), vector["outputs"]) for block in vector["blocks"]]
    assert [value.hex() for value in found[0].squares] == vector["squares"]
    statistics = collect(found, 4)
    residuals = [float.fromhex(value) for value in vector["residuals"]]
    assert statistics.residuals == (column(residuals).total(),)
    (answer,) = estimates(statistics, method, 0.95)
    assert answer.mean == float.fromhex(vector[method]["mean"])
    assert answer.standard_error == float.fromhex(vector[method]["standard_error"])
    # And once from the samples themselves.
    blocks = np.array(vector["blocks"])
    y, *controls = blocks.mean(axis=2).T if method is Method.SOBOL else np.hstack(list(blocks))
    design = np.vstack((np.ones(len(y)), *controls)).T
    beta, rss, _, _ = np.linalg.lstsq(design, y)
    variance = rss[0] / (len(y) - 3) * np.linalg.inv(design.T @ design)[0, 0]
    assert answer.mean == pytest.approx(beta[0], rel=1e-12)
    assert answer.standard_error == pytest.approx(variance**0.5, rel=1e-9)
    for block, residual in zip(blocks, residuals, strict=True):
        design = np.vstack((np.ones(4), *block[1:])).T
        assert residual == pytest.approx(np.linalg.lstsq(design, block[0])[1][0], rel=1e-6)


def vector_statistics() -> Statistics:
    vector = VECTORS["statistics"]
    names = ("sum", "square", "minimum", "maximum")
    blocks = [
        BlockMoments(*([float.fromhex(block[name])] for name in names))
        for block in vector["blocks"]
    ]
    return collect(blocks, vector["block_size"])


def test_statistics_and_their_estimate_are_as_specified() -> None:
    vector, found = VECTORS["statistics"], vector_statistics()
    assert codec.canonical(found.model_dump()).hex() == vector["wire"]
    total, n, m = found.sums[0].fraction(), found.samples, vector["block_size"]
    between = found.cross[0].fraction() / m - total**2 / n
    variance = (found.squares[0].fraction() + between) / (n * (n - 1))
    assert float(total / n).hex() == vector["mean"]
    assert variance == Fraction(vector["variance_of_mean"])
    assert rounded_sqrt(variance).hex() == vector["standard_error"]


def test_the_digest_is_as_specified() -> None:
    vector, cell = VECTORS["digest"], vector_statistics().model_dump()
    assert vector["definition"] == VECTORS["definition"]["sha256"]
    body = codec.canonical([bytes.fromhex(vector["definition"]), [cell, cell]])
    assert hashlib.sha256(body).hexdigest() == vector["digest"]


def tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


def test_the_definition_hash_is_as_specified() -> None:
    vector = VECTORS["definition"]
    found = Definition.model_validate(tuples(vector["definition"]))
    assert found.canonical.hex() == vector["canonical"]
    assert codec.unpack(bytes.fromhex(vector["canonical"]), 10_000) == tuples(vector["definition"])
    assert hashlib.sha256(bytes.fromhex(vector["canonical"])).hexdigest() == vector["sha256"]
    assert found.hash.hex() == vector["sha256"]


def test_the_definition_hash_with_a_target_is_as_specified() -> None:
    vector, plain = VECTORS["target"], tuples(VECTORS["definition"]["definition"])
    with_target = plain | {"stop": plain["stop"] | tuples(vector["stop"])}
    found = Definition.model_validate(with_target)
    assert codec.unpack(found.canonical, 10_000) == with_target
    assert found.hash.hex() == vector["sha256"]


@pytest.mark.parametrize("row", VECTORS["checkpoints"])
def test_checkpoints_are_as_specified(row: dict[str, Any]) -> None:
    assert list(some_definition(row).checkpoints) == row["checkpoints"]


def some_definition(row: dict[str, Any]) -> Definition:
    return Definition(
        model="a", model_version=1, outputs=("x",), cells=({},), seed=0,
        block_size=row["block_size"], stop=Stop(samples=row["samples"]),
    )  # fmt: skip


@pytest.mark.parametrize("row", VECTORS["stopping"])
def test_the_rule_of_stopping_is_as_specified(row: dict[str, Any]) -> None:
    total, square = float.fromhex(row["sum"]), float.fromhex(row["square"])
    block = BlockMoments([total], [square], [-9.0], [9.0])
    found = collect([block] * row["blocks"], row["block_size"])
    names = ("standard_error", "relative_error")
    errors = [None if row[name] is None else float.fromhex(row[name]) for name in names]
    assert reached(found, Method.PSEUDO, Target(*errors)) is row["holds"]
    # Once more from the sentence of the page.
    blocks, n, variance = row["blocks"], found.samples, Fraction(row["variance_of_mean"])
    q, s = blocks * Fraction(square), blocks * Fraction(total)
    assert variance == (q + blocks * Fraction(total) ** 2 / row["block_size"] - s**2 / n) / (
        n * (n - 1)
    )
    mean, known = s / n, blocks > 1 and q > 0
    limits = [Fraction(errors[0])] if errors[0] is not None else []
    limits += [Fraction(errors[1]) * mean] if errors[1] is not None else []
    assert (known and variance > 0 and all(variance <= x * x for x in limits)) is row["holds"]


@pytest.mark.parametrize("row", VECTORS["audits"])
def test_the_odds_of_audits_are_as_specified(row: dict[str, Any]) -> None:
    share, wrong, chunks = row["share"], row["wrong"], row["chunks"]
    assert row["caught"] == pytest.approx(1 - (1 - share * wrong) ** chunks, abs=1e-10)
    assert row["caught"] == pytest.approx(catch_probability(share, wrong, chunks), abs=1e-10)


def test_the_vectors_of_the_rule_pass_and_fail() -> None:
    assert {row["holds"] for row in VECTORS["stopping"]} == {True, False}


def test_the_worked_table_of_segments_follows_from_the_checkpoints() -> None:
    points = (0, *VECTORS["checkpoints"][0]["checkpoints"])
    segments = {
        str(i): [f"{start:,}", f"{stop:,}", f"{stop * 1024:,}"]
        for i, (start, stop) in enumerate(pairwise(points))
    }
    table = [row for row in rows(section("## 9. Checkpoints")) if row[0].isdigit()]
    assert len(table) == 6
    assert all(segments[row[0]] == row[1:] for row in table)


@pytest.mark.parametrize("row", VECTORS["messages"], ids=lambda row: row["type"])
def test_the_examples_are_messages(row: dict[str, str]) -> None:
    kind = MESSAGES[row["type"]]
    message = decode(row["type"], bytes.fromhex(row["body"]), kind)
    assert encode(message).hex() == row["body"]


@pytest.mark.parametrize("row", VECTORS["messages"][:2], ids=lambda row: row["type"])
def test_the_examples_of_work_have_the_definition_of_the_page(row: dict[str, str]) -> None:
    message = decode(row["type"], bytes.fromhex(row["body"]), MESSAGES[row["type"]])
    assert message.definition.hex() == VECTORS["definition"]["sha256"]


def documented(text: str) -> list[str]:
    """Return the fields of the tables that begin with `field`."""
    names: list[str] = []
    inside = False
    for row in rows(text):
        if row[0] in ("field", "---"):
            inside = row[0] == "field" or inside
        elif inside and row[0].startswith("`"):
            names += quoted(row[0])
    return names


def named(kind: type[BaseModel]) -> list[str]:
    return sorted(kind.model_fields)


TABLES: dict[str, type[BaseModel]] = {
    "### 5.1 `chunk.v1`": messages.Chunk,
    "### 5.2 `partial.v1`": messages.Partial,
    "### 5.5 `progress.v1`": messages.Progress,
    "### 5.6 `finished.v1`": messages.Finished,
    "### 5.8 `missing_reply.v1`": rpc_messages.Missing,
    "### 5.10 `store.v1`": messages.StoreIdentity,
    "### 5.13 `declared.v1`": messages.Declared,
    "### 5.16 `refused.v1`": messages.HostRefused,
    "### 7.2 A partial": Statistics,
    "## 8. Definition": Definition,
}


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_has_the_fields_of_its_message(heading: str) -> None:
    assert sorted(documented(section(heading))) == named(TABLES[heading])


def part(start: str, stop: str) -> str:
    return PAGE[PAGE.index(start) : PAGE.index(stop)]


@pytest.mark.parametrize(
    ("kind", "start", "stop"),
    [
        (messages.Failure, "### 5.3", "| kind | meaning"),
        (messages.Telemetry, "### 5.4", "\n| `suspended` | it starts"),
        (messages.Totals, "\n`totals`:", "\nA model in `totals`"),
        (messages.ModelTotals, "\nA model in `totals`", "### 5.5"),
        (messages.Leader, "### 5.14", "\n`totals` of a leader:"),
        (messages.LeaderTotals, "\n`totals` of a leader:", "\n| `reissued` | because"),
        (messages.Control, "### 5.15", "\n| `command` | the consumer"),
        (rpc_messages.Declare, "\n`declare.v1`, as", "\n`status.v1`:"),
        (rpc_messages.StatusRequest, "\n`status.v1`:", "\n`fleet.v1`:"),
        (rpc_messages.FleetRequest, "\n`fleet.v1`:", "\n`history.v1`:"),
        (rpc_messages.HistoryRequest, "\n`history.v1`:", "\n`missing.v1`, `results.v1`"),
        (rpc_messages.FailuresRequest, "\n`missing.v1`, `results.v1`", "### 5.8"),
        (rpc_messages.MissingRequest, "\n`missing.v1`, `results.v1`", "### 5.8"),
        (rpc_messages.ResultsRequest, "\n`missing.v1`, `results.v1`", "### 5.8"),
        (rpc_messages.DeclarationRequest, "\n`missing.v1`, `results.v1`", "### 5.8"),
        (rpc_messages.CancelRequest, "\n`missing.v1`, `results.v1`", "### 5.8"),
        (rpc_messages.ResumeRequest, "\n`missing.v1`, `results.v1`", "### 5.8"),
        (rpc_messages.Status, "\n`status_reply.v1`:", "\n`fleet_reply.v1`:"),
        (rpc_messages.Fleet, "\n`fleet_reply.v1`:", "\n`results_reply.v1`:"),
        (rpc_messages.Results, "\n`results_reply.v1`:", "\n`history_reply.v1`:"),
        (rpc_messages.History, "\n`history_reply.v1`:", "\n`failures_reply.v1`:"),
        (rpc_messages.Failures, "\n`failures_reply.v1`:", "\n`error_reply.v1`, instead"),
        (rpc_messages.ErrorReply, "\n`error_reply.v1`, instead", "### 5.10"),
        (definition.Sampling, "\n`sampling`:", "\n`stop`:"),
        (definition.Stop, "\n`stop`:", "\nRun status:"),
        (rpc_messages.RunStatus, "\nRun status:", "\nFleet member, a"),
        (rpc_messages.FleetMember, "\nFleet member, a", "\nResult; numbers"),
        (results.Result, "\nResult; numbers", "\nAn estimate is"),
    ],
)
def test_a_smaller_table_has_its_fields(kind: type[BaseModel], start: str, stop: str) -> None:
    assert sorted(documented(part(start, stop))) == named(kind)


def test_every_message_of_the_code_is_on_the_page_and_no_other() -> None:
    assert set(re.findall(r"`(\w+\.v\d)`", PAGE)) == set(MESSAGES)


def test_the_size_limits_are_those_of_the_code() -> None:
    limits = {f"`{m.type}`": [f"{m.limit:,}", f"{m.max_array:,}"] for m in MESSAGES.values()}
    table = {row[0]: row[1:] for row in rows(section("## 3. Encoding")) if ".v1`" in row[0]}
    assert table == limits


@pytest.mark.parametrize(
    ("heading", "closed"),
    [("## 4. Refusals", RefusalReason), ("### 5.3 `failure.v1`", FailureKind)],
)
def test_closed_sets_are_on_the_page_whole(heading: str, closed: Any) -> None:
    table = [row for row in rows(section(heading)) if len(row) == 3]
    assert {name for row in table for name in quoted(row[0])} == {m.value for m in closed}


def test_what_may_end_a_cell_is_on_the_page_whole() -> None:
    table = rows(part("\n| `ended_by` | the cell", "\nWhether a target was reached"))
    names = {name for row in table for name in quoted(row[0])} - {"ended_by"}
    assert names == {by.value for by in results.EndedBy}


@pytest.mark.parametrize(
    ("start", "stop", "ends"),
    [
        ("\nA model in `totals`", "### 5.5", messages.CHUNK_SECONDS),
        ("### 5.14", "### 5.15", messages.CONFIRM_SECONDS),
    ],
)
def test_the_classes_of_seconds_are_those_of_the_code(
    start: str, stop: str, ends: tuple[float, ...]
) -> None:
    text = part(start, stop)
    assert f"array of {len(ends) + 1} counters" in text
    assert f"at most {', '.join(f'{end:g}' for end in ends)} seconds, and longer" in text


def test_the_number_of_models_that_a_consumer_tells_of_is_that_of_the_code() -> None:
    assert f"at most {messages.MAX_MODELS} entries" in part("\n`totals`:", "### 5.5")


def test_why_chunks_are_issued_again_is_on_the_page_whole() -> None:
    table = rows(part("\n| `reissued` | because", "### 5.15"))
    names = {name for row in table for name in quoted(row[0])} - {"reissued"}
    assert names == {reason.value for reason in messages.Reissue}


def test_what_telemetry_may_say_is_on_the_page_whole() -> None:
    row = next(row for row in rows(section("### 5.4")) if row[0] == "`golden`")
    assert set(quoted(row[2])) == {one.value for one in messages.Golden}
    table = rows(part("\n| `suspended` | it starts", "\n`totals`:"))[2:]
    names = [name for row in table for name in quoted(row[0])]
    assert names == [one.value for one in messages.Suspension]  # the first one is told


def test_what_consumers_are_told_is_on_the_page_whole() -> None:
    table = rows(part("\n| `command` | the consumer", "\nA command that changes"))[2:]
    assert [name for row in table for name in quoted(row[0])] == list(messages.Command)


def test_the_error_codes_are_on_the_page() -> None:
    row = next(row for row in rows(section("### 5.9")) if row[0] == "`code`")
    assert set(quoted(row[2])) == {code.value for code in ErrorCode}


def test_the_limits_of_the_encoding_are_those_of_the_code() -> None:
    text = section("## 3. Encoding")
    assert f"| entries of a map | {codec.MAX_MAP:,} |" in text
    assert f"| bytes of a str or bin | {codec.MAX_TEXT:,} |" in text
    assert f"| bytes of an exact number | {MAX_BYTES:,} |" in text


def test_the_topology_is_that_of_the_code() -> None:
    wanted, text = topology.topology(("<p>",)), section("### 2.2")
    exchanges = {row[0].strip("`"): row[1] for row in rows(text) if row[0].startswith("`mc.")}
    for exchange in wanted.exchanges:
        assert exchanges[exchange.name] == exchange.type
    bound = {
        tuple(cell.strip("`") for cell in (row[0], row[2], row[3]))
        for row in rows(text)
        if len(row) == 5
    }
    for binding in wanted.bindings:
        key = re.sub(r"\.(high|normal|low)$", ".<l>", binding.key) or "(empty)"
        queue = re.sub(r"\.(high|normal|low)\.q$", ".<l>.q", binding.queue)
        assert (binding.exchange, key, queue) in bound
    arguments = {
        name: quoted(row[1]) + re.findall(r" (\d+)\b", row[1])
        for row in rows(text)
        if len(row) == 2
        for name in quoted(row[0]) or [row[0]]
    }
    for declared in wanted.queues:
        known = arguments[re.sub(r"\.(high|normal|low)\.q$", ".<l>.q", declared.name)]
        flat = [str(word) for pair in declared.arguments.items() for word in pair]
        assert sorted(known) == sorted(flat)
    own = arguments["a subscriber's own"]
    assert sorted(own) == sorted(str(w) for pair in topology.subscription().items() for w in pair)


def test_the_common_types_have_the_patterns_of_the_code() -> None:
    table = {row[0]: row[2] for row in rows(section("## 5. Messages")) if len(row) == 3}
    for name, annotated in {
        "run id": definition.RunId,
        "run name": definition.RunName,
        "name": definition.Name,
        "consumer name": messages.ConsumerName,
        "word": messages.Word,
    }.items():
        pattern = get_args(annotated)[1].metadata[0].pattern
        assert f"`{pattern.strip('^$')}`" in table[name]
