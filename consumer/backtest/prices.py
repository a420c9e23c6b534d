"""Daily prices by instrument: what a price file says, and what it must be to be believed.

Where the file comes from is in `files`; what a strategy does with its prices is not here either.
"""

import csv
import io
import itertools
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import date
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

EURO = "EUR"
_CODE = 3
_GAPS = frozenset({"", "N/A"})
_LISTED = 60


@dataclass(frozen=True)
class Table:
    """The prices of a file by columns, oldest day first.

    Attributes
    ----------
    name
        The file's name in complaints.
    dates
        Increasing.
    columns
        Prices by instrument, one for each date; NaN where there is none.
    faults
        What stands in the file instead of a positive number, by instrument and number of the day.
    """

    name: str
    dates: list[date]
    columns: dict[str, Doubles]
    faults: dict[tuple[str, int], str]

    def days(self, first: date | None, last: date | None) -> slice:
        """Return the days from `first` to `last`, both included; None is as far as it goes."""
        start = bisect_left(self.dates, first) if first else 0
        stop = bisect_right(self.dates, last) if last else len(self.dates)
        return slice(start, max(start, stop))

    def prices(self, instrument: str, days: slice) -> Doubles:
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
        column = self.columns.get(instrument)
        if column is None:
            listed = ", ".join(list(self.columns)[:_LISTED])
            raise ValueError(f"{instrument!r} is not in {self.name}; it has {listed}")
        gaps = np.isnan(column[days])
        if gaps.any():
            self._complain(instrument, days.start + int(gaps.argmax()))
        return column[days]

    def _complain(self, instrument: str, day: int) -> NoReturn:
        where = f"on {self.dates[day]} in {self.name}"
        fault = self.faults.get((instrument, day))
        if fault is None:
            raise ValueError(
                f"{instrument!r} has no price {where}; "
                "choose first_date and last_date so that it has one on every day between"
            )
        raise ValueError(
            f"{instrument!r} has the price {fault!r:.60} {where}; it should be a positive number"
        )


class ReferenceRates(Table):
    """Prices of currency pairs: EURUSD is how many dollars one euro buys.

    The columns are currencies, their prices how many units one euro buys.
    """

    def prices(self, instrument: str, days: slice) -> Doubles:
        """Return the prices of a pair, the ratio of two reference rates; see `Table.prices`."""
        base, quote = instrument[:_CODE], instrument[_CODE:]
        known = {EURO, *self.columns}
        if base == quote or base not in known or quote not in known:
            raise ValueError(
                f"{instrument!r} is no currency pair, which is two different codes as in EURUSD; "
                f"the codes are {', '.join(sorted(known))}"
            )
        return self._rates(quote, days) / self._rates(base, days)

    def pairs(self) -> list[str]:
        """Return the pairs, each in one direction, that have a price on every day."""
        whole = (code for code, rates in self.columns.items() if not np.isnan(rates).any())
        codes = [EURO, *whole]
        return [base + quote for i, base in enumerate(codes) for quote in codes[i + 1 :]]

    def _rates(self, currency: str, days: slice) -> Doubles:
        if currency == EURO:
            return np.ones(len(self.dates))[days]
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
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:  # which is no ValueError
        raise ValueError(f"{name} is no CSV: {error}") from None
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
    columns: dict[str, Doubles] = {}
    faults: dict[tuple[str, int], str] = {}
    for i, title in enumerate(titles, 1):
        texts = [row[i].strip() for row in rows[1:]]
        columns[title] = np.array([_price(text) for text in texts])
        bad = np.flatnonzero(np.isnan(columns[title]))
        faults |= {(title, int(day)): texts[day] for day in bad if texts[day] not in _GAPS}
    return kind(name, dates, columns, faults)


def _date(name: str, number: int, row: list[str], width: int) -> date:
    if len(row) < width:
        raise ValueError(f"row {number} of {name} has {len(row)} columns, the titles are {width}")
    try:
        return date.fromisoformat(row[0].strip())
    except ValueError:
        raise ValueError(
            f"row {number} of {name} begins with {row[0][:40]!r}; it should be a date as 2026-01-31"
        ) from None


def _price(text: str) -> float:
    """Return a positive number, or NaN where the text is none."""
    try:
        price = float(text)
    except ValueError:
        return math.nan
    return price if 0.0 < price < math.inf else math.nan
