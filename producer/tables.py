"""Results as tables on a terminal; the texts in them are made in `protocol.result_texts`."""

from rich.table import Table

from producer.status_table import console, plain
from protocol.result_texts import footnotes, result_texts, title
from protocol.results import Result

MAX_ROWS = 200


def print_result(result: Result) -> None:
    """Print a result on stdout."""
    out = console()

    def say(line: str) -> None:
        out.print(line, soft_wrap=True, markup=False, highlight=False)

    say(title(result))  # not the table's own, which wraps within words at the table's width
    out.print(result_table(result))
    hidden = len(result.cells) - MAX_ROWS
    for line in footnotes(result, f"{hidden} more cells: see --json" if hidden > 0 else None):
        say(line)
    if result.error:
        say(result.error)


def result_table(result: Result) -> Table:
    """Return the table of the first cells."""
    table = Table()
    texts = result_texts(result, MAX_ROWS)
    for column in texts.columns:
        table.add_column(column.name, justify="right" if column.right else "left")
    for row in texts.rows:
        table.add_row(*map(plain, row.texts))
    return table
