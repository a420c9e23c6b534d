"""The example run file, each cell through the consumer's code and the books, without a broker."""

from pathlib import Path

import pytest

from aggregator.books import RunBooks
from aggregator.result import result
from consumer.answers import Worker
from consumer.execution import execute
from producer.run_sections import read_run_file
from producer.runfile import submission
from producer.status_table import WIDTH
from producer.tables import result_table
from protocol.definition import Definition, Lane
from protocol.messages import Chunk, Partial
from protocol.results import Result
from tests.support.drawing import drawn

EXAMPLE = Path(__file__).resolve().parents[2] / "ops" / "examples" / "backtest.toml"


@pytest.fixture(scope="module")
def definition() -> Definition:
    return submission(read_run_file(EXAMPLE), [("first_date", "2015-01-01")]).definition


@pytest.fixture(scope="module")
def found(definition: Definition) -> Result:
    """Return the result of one block of every cell, on the years from 2015 to save time."""
    books = RunBooks("example", definition, "default", Lane.NORMAL, 0.0)
    for cell in range(len(definition.cells)):
        answer = execute(Chunk.of("example", definition, cell, (0, 1), 0), Worker("c", "h"))
        assert isinstance(answer, Partial), answer
        books.merge(answer)
    return result(books, 1.0)


def test_the_example_is_27_pairs_and_their_portfolio_by_6_rules(definition: Definition) -> None:
    legs = {cell["legs"] for cell in definition.cells}
    assert len(definition.cells) == 28 * 6
    assert len(legs) == 28
    single = [leg for leg in legs if isinstance(leg, tuple) and len(leg) == 1]
    (portfolio,) = legs - set(single)
    assert isinstance(portfolio, tuple)
    assert sorted(portfolio) == sorted(leg[0] for leg in single)
    rules = {(c["strategy"], c.get("fast"), c.get("look_back")) for c in definition.cells}
    assert len(rules) == 6


def test_the_examples_table_has_one_line_per_cell(found: Result) -> None:
    rows = [line for line in drawn(result_table(found), WIDTH) if line.startswith("│")]
    assert len(rows) == 28 * 6
    assert all(row.count(" ± ") == row.count(" … ") - ("(27)" in row) == 4 for row in rows)
    assert sum("EURUSD … (27)" in row for row in rows) == 6


def test_figures_of_the_example_are_possible_and_the_portfolio_is_the_calmest(
    found: Result,
) -> None:
    volatilities = {}
    for cell in found.cells:
        outputs = {name: estimate.mean or 0.0 for name, estimate in cell.outputs.items()}
        assert 0 < outputs["history_max_drawdown"] < 1
        assert outputs["volatility"] == pytest.approx(outputs["history_volatility"], rel=0.05)
        volatilities[cell.params["legs"], cell.params["strategy"], cell.params.get("fast")] = (
            outputs["history_volatility"]
        )
    assert min(volatilities, key=lambda key: volatilities[key])[0] == found.cells[27].params["legs"]
