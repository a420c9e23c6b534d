"""Daily prices by instrument: what a price file says, and what it must be to be believed.

Where the file comes from is in `files`; what a strategy does with its prices is not here either.
"""

import csv
import io
import itertools
import math
from datetime import date

EURO = "EUR"
_CODE = 3
_GAPS = frozenset({"", "N/A"})
_LISTED = 60


class Table:
    """The texts of a price file by columns, oldest day first; numbers are read when asked for.

    Parameters
    ----------
    name
        The file's name in complaints.
    dates
        Increasing.
    columns
        The texts of each column, as many as `dates`; an empty text is a gap.
    """

    def __init__(self, name: str, dates: list[date], columns: dict[str, list[str]]) -> None:
        self.name, self.dates, self.columns = name, dates, columns

    def prices(self, instrument: str, days: range) -> list[float]:
        """Return the prices of one instrument.

        Parameters
        ----------
        instrument
            Its column's name.
        days
            Numbers of the days, counted from the oldest.

        Raises
        ------
        ValueError
            There is no such instrument, or a price is missing or is no positive number.
        """
        texts = self.columns.get(instrument)
        if texts is None:
            listed = ", ".join(list(self.columns)[:_LISTED])
            raise ValueError(f"{instrument!r} is not in {self.name}; it has {listed}")
        return [self._price(instrument, self.dates[day], texts[day]) for day in days]

    def _price(self, instrument: str, day: date, text: str) -> float:
        if not text:
            raise ValueError(
                f"{instrument!r} has no price on {day} in {self.name}; "
                "choose first_date and last_date so that it has one on every day between"
            )
        try:
            price = float(text)
        except ValueError:
            price = math.nan
        if not 0.0 < price < math.inf:
            raise ValueError(
                f"{instrument!r} has the price {text[:40]!r} on {day} in {self.name}; "
                "it should be a positive number"
            )
        return price


class ReferenceRates(Table):
    """Prices of currency pairs: EURUSD is how many dollars one euro buys.

    The columns are currencies, their prices the units that one euro buys.
    """

    def prices(self, instrument: str, days: range) -> list[float]:
        """Return the prices of a pair, the ratio of two reference rates; see `Table.prices`."""
        base, quote = instrument[:_CODE], instrument[_CODE:]
        known = {EURO, *self.columns}
        if base == quote or base not in known or quote not in known:
            raise ValueError(
                f"{instrument!r} is no currency pair, which is two different codes as in EURUSD; "
                f"the codes are {', '.join(sorted(known))}"
            )
        below, above = self._rates(base, days), self._rates(quote, days)
        return [a / b for a, b in zip(above, below, strict=True)]

    def pairs(self) -> list[str]:
        """Return the pairs, each in one direction, that have a price on every day."""
        codes = [EURO, *(code for code, texts in self.columns.items() if all(texts))]
        return [base + quote for i, base in enumerate(codes) for quote in codes[i + 1 :]]

    def _rates(self, currency: str, days: range) -> list[float]:
        if currency == EURO:
            return [1.0] * len(days)
        return super().prices(currency, days)


def read_table(name: str, text: str, kind: type[Table] = Table) -> Table:
    """Read CSV: a date (year-month-day) and then one price per instrument; newest first or last.

    Parameters
    ----------
    name
        The file's name in complaints.
    text
        Its content, the first line naming the columns.
    kind
        What the columns mean.

    Raises
    ------
    ValueError
        It is no such table.
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    header = [title.strip() for title in rows[0]] if rows else []
    while header and not header[-1]:  # the reference rates end each line with a comma
        header.pop()
    titles = header[1:]
    if not titles or not all(titles) or len(set(titles)) < len(titles):
        raise ValueError(f"{name} should begin with a line of titles, all different")
    dates = [_date(name, number, row, len(header)) for number, row in enumerate(rows[1:], 2)]
    if len(dates) > 1 and dates[0] > dates[-1]:
        rows[1:], dates = rows[:0:-1], dates[::-1]
    for earlier, later in itertools.pairwise(dates):
        if later <= earlier:
            raise ValueError(f"the dates of {name} should be in order, but {later} meets {earlier}")
    columns = {title: [_cell(row[i]) for row in rows[1:]] for i, title in enumerate(titles, 1)}
    return kind(name, dates, columns)


def _date(name: str, number: int, row: list[str], width: int) -> date:
    if len(row) < width:
        raise ValueError(f"row {number} of {name} has {len(row)} columns, the titles are {width}")
    try:
        return date.fromisoformat(row[0].strip())
    except ValueError:
        raise ValueError(
            f"row {number} of {name} begins with {row[0][:40]!r}; it should be a date as 2026-01-31"
        ) from None


def _cell(text: str) -> str:
    text = text.strip()
    return "" if text in _GAPS else text
