"""`[outputs]` from a run file to a result, through chunks, statistics and the ledger."""

from itertools import pairwise
from typing import Any

import pytest

from aggregator.ledger import Ledger
from consumer.answers import Worker
from consumer.execution import execute
from producer.run_sections import parse
from producer.runfile import submission
from protocol.messages import Chunk, Partial, decode, encode
from protocol.results import Estimate, Result
from protocol.rpc_messages import Declare


def result(chunk_blocks: int = 7, **sections: Any) -> Result:
    """Return the result of a run of the Asian option, in chunks of so many blocks."""
    run = {"model": "asian", "seed": 5, "id": "r"}
    file = {"run": run, "params": {"fixings": 4}, "stop": {"samples": 40_000}} | sections
    job = submission(parse(file, "test"))
    of = job.definition
    ledger = Ledger(1)
    ledger.declare(Declare(run="r", definition=of, pool=job.pool, lane=job.lane), 0.0)
    edges = sorted({0, *of.checkpoints, *range(0, of.blocks, chunk_blocks)})
    for attempt, span in enumerate(pairwise(edges)):
        for cell in range(len(of.cells)):
            chunk = Chunk.of("r", of, cell, span, attempt)
            answer = execute(decode(chunk.type, encode(chunk), Chunk), Worker("h.1", "h"))
            ledger.partial(decode(answer.type, encode(answer), Partial), 1.0)
    return ledger.take_changes().results["r"]


def outputs(found: Result, cell: int = 0) -> dict[str, Estimate]:
    return found.cells[cell].outputs


def test_a_bump_is_the_difference_of_two_cells_with_common_random_numbers() -> None:
    bump = outputs(result(outputs={"names": ["price"], "bump": {"volatility": 0.01}}))
    pair = result(
        cells=[{"volatility": 0.2}, {"volatility": 0.2 + 0.01}],
        sampling={"common_random_numbers": True},
    )
    assert list(bump) == ["price", "price_bump"]
    low, high = (outputs(pair, cell)["price"] for cell in (0, 1))
    assert bump["price"] == low
    assert low.mean is not None
    assert high.mean is not None
    assert bump["price_bump"].mean == pytest.approx(high.mean - low.mean, rel=1e-9)
    # Its own error is that of the differences, far below that of either price.
    assert bump["price_bump"].standard_error is not None
    assert low.standard_error is not None
    assert 0 < bump["price_bump"].standard_error < low.standard_error / 10


def test_quantiles_do_not_depend_on_the_chunks_nor_change_the_mean() -> None:
    asked = {"quantiles": [0.25, 0.5, 0.99]}
    found = result(outputs=asked)
    price = outputs(found)["price"]
    assert [quantile.probability for quantile in price.quantiles] == asked["quantiles"]
    assert result(chunk_blocks=3, outputs=asked).digest == found.digest
    plain = outputs(result())["price"]
    assert price.model_copy(update={"quantiles": ()}) == plain
    # A quarter and more of all calls end worthless.
    assert price.quantiles[0].value == 0.0
    for quantile in price.quantiles[1:]:
        assert quantile.ci_low is not None
        assert quantile.ci_high is not None
        assert quantile.ci_low <= quantile.value <= quantile.ci_high


def test_a_bump_has_quantiles_of_its_own() -> None:
    found = outputs(result(outputs={"quantiles": [0.5, 0.9], "bump": {"spot": 1.0}}))
    for name in ("price", "price_bump"):
        assert len(found[name].quantiles) == 2
    # What a unit of spot adds to a call lies between 0 and a little more than a unit.
    assert 0 <= found["price_bump"].quantiles[1].value < 1.5


def test_a_result_with_a_list_among_its_parameters_is_written_and_read_without_a_word() -> None:
    # A warning is an error in tests; the aggregator writes results at every commit.
    found = result(params={"fixing_times": [0.5, 1.0]})
    text = found.model_dump_json()
    assert '"fixing_times":[0.5,1.0]' in text
    assert Result.model_validate_json(text) == found
