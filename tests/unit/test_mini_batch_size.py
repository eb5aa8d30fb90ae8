"""core.mini_batch_size: counts of files, bytes and rows of tables, and words for what is neither."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.mini_batch_size import (
    DEFAULT_TABLE_SIZE,
    as_argument,
    read_file_count,
    read_table_size,
    size_warnings,
)
from mpibatch.core.settings import Wrong, shown
from mpibatch.core.tables import ByRows, BySize

GOOD: list[tuple[Any, BySize | ByRows]] = [
    (1, BySize(bytes=1)),
    (1024, BySize(bytes=1024)),
    ("1024", BySize(bytes=1024)),
    ("1024KB", BySize(bytes=2**20)),
    ("10MB", BySize(bytes=10 * 2**20)),
    ("1GB", BySize(bytes=2**30)),
    ("1024GB", BySize(bytes=2**40)),
    ("64B", BySize(bytes=64)),
    (" 2 kib ", BySize(bytes=2048)),
    ("2 MiB", BySize(bytes=2**21)),
    ("2gIb", BySize(bytes=2**31)),
    ("1.5MB", BySize(bytes=3 * 2**19)),
    ("0.5 KB", BySize(bytes=512)),
    ("0.3KB", BySize(bytes=307)),
    ("1\tMB", BySize(bytes=2**20)),
    ("500 rows", ByRows(rows=500)),
    ("500rows", ByRows(rows=500)),
    ("1 row", ByRows(rows=1)),
    (" 7 ROWS ", ByRows(rows=7)),
    (f"{2**31 - 1} rows", ByRows(rows=2**31 - 1)),
]


@pytest.mark.parametrize(("value", "want"), GOOD)
def test_sizes_of_tables(value: Any, want: BySize | ByRows) -> None:
    assert read_table_size(value) == want


WRONG: list[tuple[Any, list[str]]] = [
    (0, ["at least 1 byte"]),
    (-5, ["at least 1 byte"]),
    ("-5MB", ["for tables it is bytes, like 1MB"]),
    ("0 rows", ["whole number from 1"]),
    ("1.5 rows", ["whole number from 1"]),
    (f"{2**31} rows", ["whole number from 1 to 2147483647"]),
    ("0.0001KB", ["at least 1 byte"]),
    ("1025GB", ["at most 1024GB"]),
    (2**40 + 1, ["at most 1024GB"]),
    (10**5000, ["at most 1024GB"]),
    ("10M", ["units are B, KB, MB, GB, rows", "did you mean MB?"]),
    ("10 row s", ["for tables it is bytes"]),
    ("10 rwos", ["did you mean rows?"]),
    ("10TB", ["units are B, KB"]),
    ("500 lines", ['did you mean "500 rows"?']),
    ("500 records", ['did you mean "500 rows"?']),
    ("10 files", ["never crosses a file"]),
    ("1.5", ["without a unit is bytes"]),
    ("1,000 rows", ["for tables it is bytes"]),
    ("1e6", ["for tables it is bytes"]),
    ("rows", ["for tables it is bytes"]),
    ("MB", ["for tables it is bytes"]),
    ("", ["for tables it is bytes"]),
    ("9" * 5000, ["for tables it is bytes"]),
    ("५ rows", ["for tables it is bytes"]),
    (1.5, ["for tables it is bytes"]),
    (1024.0, ["for tables it is bytes"]),
    (True, ["for tables it is bytes"]),
    (None, ["for tables it is bytes"]),
    ([1], ["for tables it is bytes"]),
    ({"rows": 5}, ['"500 rows"']),
]


@pytest.mark.parametrize(("value", "words"), WRONG, ids=lambda value: shown(value)[:40])
def test_what_is_no_size_of_a_table(value: Any, words: list[str]) -> None:
    with pytest.raises(Wrong) as caught:
        read_table_size(value)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@settings(deadline=None)
@given(
    size=st.integers(1, 2**40).map(lambda n: BySize(bytes=n))
    | st.integers(1, 2**31 - 1).map(lambda n: ByRows(rows=n))
)
def test_what_the_script_is_told_means_the_same(size: BySize | ByRows) -> None:
    assert read_table_size(as_argument(size)) == size


@settings(deadline=None)
@given(
    count=st.integers(1, 1000), unit=st.sampled_from(["KB", "kb", "KiB"]), space=st.sampled_from(["", " "])
)
def test_units_multiply(count: int, unit: str, space: str) -> None:
    assert read_table_size(f"{count}{space}{unit}") == BySize(bytes=count * 1024)
    assert read_table_size(f"{count}.0{space}{unit}") == BySize(bytes=count * 1024)


def test_counts_of_files() -> None:
    assert read_file_count(1) == 1
    for value, words in (
        ("10MB", "for files it is a count of files"),
        ("500 rows", "bytes and rows are for tables"),
        ("5", "write 5 without quotes"),
        (0, "from 1 to"),
        (True, "whole number"),
    ):
        with pytest.raises(Wrong) as caught:
            read_file_count(value)
        assert words in str(caught.value)


def test_few_bytes_get_a_warning() -> None:
    (warning,) = size_warnings(BySize(bytes=10))
    assert warning.startswith("mini_batch_size: 10 is 10 bytes, ")
    assert '10 rows is mini_batch_size: "10 rows"' in warning
    (one,) = size_warnings(BySize(bytes=1))
    assert '1 row is mini_batch_size: "1 row"' in one
    assert "bytes" not in one
    assert size_warnings(BySize(bytes=1023)) != []
    for size in (BySize(bytes=1024), DEFAULT_TABLE_SIZE, ByRows(rows=1)):
        assert size_warnings(size) == []
