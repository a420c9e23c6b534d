import os
from datetime import date
from pathlib import Path

import pytest

from consumer.backtest.files import ECB, PriceFile, check_hash, content_hash, price_table
from consumer.backtest.prices import ReferenceRates, read_table
from protocol.errors import UnsupportedError

CSV = "date,gold,silver\n2026-01-05,10,1\n2026-01-06,20.5,\n2026-01-08,30,-2\n"


def rates() -> ReferenceRates:
    table = price_table(ECB, content_hash(ECB))
    assert isinstance(table, ReferenceRates)
    return table


def test_the_reference_rates_have_153_complete_crosses_of_18_currencies() -> None:
    pairs = rates().pairs()
    assert len(pairs) == len(set(pairs)) == 153
    assert len({pair[:3] for pair in pairs} | {pair[3:] for pair in pairs}) == 18
    assert {"EURUSD", "EURGBP", "USDJPY"} <= set(pairs)
    assert not any("BRL" in pair for pair in pairs)  # has rates only from 2008


def test_the_reference_rates_are_the_central_banks() -> None:
    # The euro's first fixing: 1.1789 dollars, 133.73 yen.
    table = rates()
    assert (table.dates[0], table.dates[-1]) == (date(1999, 1, 4), date(2026, 10, 30))
    assert len(table.dates) == 7126
    assert table.prices("EURUSD", slice(0, 1)).tolist() == [1.1789]
    assert table.prices("USDEUR", slice(0, 1)).tolist() == [1 / 1.1789]
    assert table.prices("USDJPY", slice(0, 1)).tolist() == [133.73 / 1.1789]


def test_a_file_newest_first_reads_like_the_same_file_oldest_first() -> None:
    lines = CSV.splitlines()
    backwards = "\n".join([lines[0], *reversed(lines[1:])])
    for text in (CSV, backwards):
        table = read_table("prices.csv", text)
        assert table.dates == [date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 8)]
        assert table.prices("gold", slice(0, 3)).tolist() == [10.0, 20.5, 30.0]


@pytest.mark.parametrize(
    ("instrument", "sentence"),
    [
        ("copper", "'copper' is not in prices.csv; it has gold, silver"),
        ("silver", "'silver' has no price on 2026-01-06 in prices.csv; choose first_date and "),
    ],
)
def test_a_price_that_is_not_there_is_named(instrument: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_table("prices.csv", CSV).prices(instrument, slice(0, 3))


@pytest.mark.parametrize("text", ["-2", "0", "1e999", "nan", "two"])
def test_a_price_is_a_positive_number(text: str) -> None:
    table = read_table("prices.csv", f"date,silver\n2026-01-08,{text}\n")
    with pytest.raises(ValueError, match=f"'silver' has the price '{text}' on 2026-01-08 in pri"):
        table.prices("silver", slice(0, 1))


@pytest.mark.parametrize("pair", ["EUREUR", "EUR", "EURXXX", "XXXEUR", "eurusd", "EURUSDX", ""])
def test_what_is_no_pair_of_known_currencies_is_refused(pair: str) -> None:
    with pytest.raises(ValueError, match=f"'{pair}' is no currency pair, .*; the codes are AUD, B"):
        rates().prices(pair, slice(0, 1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "should begin with a line of titles"),
        ("date\n2026-01-05\n", "should begin with a line of titles"),
        ("date,a,a\n", "should begin with a line of titles, all different"),
        ("date,,a\n", "should begin with a line of titles"),
        ("date,a,b\n2026-01-05,1\n", "row 2 of p.csv has 2 columns, the titles are 3"),
        ("date,a\n2026-01-05," + "1" * 200_000, "p.csv is no CSV: field larger than field limit"),
        ("date,a\n05.01.2026,1\n", "row 2 of p.csv begins with '05.01.2026'; it should be a date"),
        ("date,a\n2026-01-05,1\n2026-01-05,1\n", "2026-01-05 meets 2026-01-05"),
        ("date,a\n2026-01-05,1\n2026-01-03,1\n2026-01-07,1\n", "2026-01-03 meets 2026-01-05"),
    ],
)
def test_what_is_no_table_of_prices_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_table("p.csv", text)


@pytest.mark.parametrize("archive", [b"", b"PK\5\6" + bytes(18), b"quartz" * 100])
def test_reference_rates_that_are_no_archive_are_refused(archive: bytes) -> None:
    with pytest.raises(ValueError, match="the reference rates are no archive of a text"):
        _ = PriceFile(ECB, archive).table


def test_a_file_with_another_hash_is_unsupported_and_its_own_is_named_to_the_producer_only(
    tmp_path: Path,
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(CSV)
    before = content_hash(str(path))
    assert price_table(str(path), before).prices("gold", slice(0, 1)).tolist() == [10.0]
    path.write_text(CSV.replace("10", "11"))
    after = content_hash(str(path))
    assert after != before
    with pytest.raises(UnsupportedError) as caught:
        price_table(str(path), before)
    assert before in str(caught.value)
    assert after not in str(caught.value)
    with pytest.raises(UnsupportedError, match=f"{after} here, the run needs {before}"):
        check_hash(str(path), before)


def test_nothing_of_a_file_is_told_before_its_hash_agrees(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("quartz,1,1\n")
    with pytest.raises(UnsupportedError) as caught:
        price_table(str(path), "0" * 64)
    assert "quartz" not in str(caught.value)
    with pytest.raises(ValueError, match="line of titles"):
        price_table(str(path), content_hash(str(path)))


def test_what_is_no_file_is_unsupported(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, sentence in (
        (tmp_path / "none.csv", "cannot be read here: No such file or directory"),
        (tmp_path, "should be a file of at most 67108864 bytes"),
        (pipe, "should be a file of at most 67108864 bytes"),
    ):
        with pytest.raises(UnsupportedError, match=sentence):
            content_hash(str(path))
    with pytest.raises(UnsupportedError, match="cannot be read here: embedded null byte"):
        content_hash("/a\0b")


@pytest.mark.parametrize(
    "name", ["/proc/version", "//proc/version", "/usr/../dev/null", "/sys/kernel/uevent_seqnum"]
)
def test_windows_into_the_machine_are_no_data(name: str) -> None:
    with pytest.raises(UnsupportedError, match="it should not be under /dev, /proc, /sys"):
        content_hash(name)


def test_a_link_to_a_window_into_the_machine_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").symlink_to("/proc/version")
    with pytest.raises(UnsupportedError, match="it should not be under /dev, /proc, /sys"):
        content_hash(str(tmp_path / "prices.csv"))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(b"date,a\n\xff\n")
    with pytest.raises(ValueError, match="is not UTF-8"):
        price_table(str(path), content_hash(str(path)))


def test_first_and_last_date_are_both_included() -> None:
    table = read_table("prices.csv", CSV)
    assert table.days(None, None) == slice(0, 3)
    assert table.days(date(2026, 1, 6), date(2026, 1, 8)) == slice(1, 3)
    assert table.days(date(2026, 1, 7), date(2026, 1, 7)) == slice(2, 2)
    assert table.prices("silver", table.days(None, date(2026, 1, 5))).tolist() == [1.0]
