"""JSON lines, read by ranges, are together what is in the file; lines that are no objects cost one item each."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.tables import JsonlOptions
from mpibatch.inputs.jsonl_reader import open_reader
from mpibatch.inputs.survey import Batch, Reader, Unreadable
from mpibatch.inputs.suspects import failing
from mpibatch.work import Slice

OPENED: list[Reader] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jsonl")


def read(
    folder: Path,
    lines: list[bytes],
    *,
    before: bytes = b"",
    skip: int = 0,
    count: int | None = None,
    rows: int | None = None,
    **options: Any,
) -> Batch:
    """The lines as one mini-batch of a file in which `before` comes first."""
    path = folder / "a.jsonl"
    path.write_bytes(before + b"".join(lines))
    reader = open_reader(JsonlOptions(**options), b"")
    OPENED.append(reader)
    rows = len(lines) if rows is None else rows
    source = Slice(bytes(path), len(before), path.stat().st_size, 0, rows, skip)
    return reader.read(source, rows if count is None else count)


def bads(batch: Batch) -> list[tuple[int, str]]:
    assert all(item.error.type == "BadRecord" for item in batch.bad)
    return [(item.position, item.error.message.split(".jsonl', ")[1]) for item in batch.bad]


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
)
ROWS = st.dictionaries(
    st.sampled_from(["a", "b", "ü", ""]), VALUES | st.lists(VALUES, max_size=2), max_size=3
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=8),
    edges=st.lists(st.integers(0, 8), max_size=3),
    ends=st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \t\r\n"]),
    ascii_only=st.booleans(),
    newline=st.booleans(),
)
def test_all_mini_batches_are_the_file(
    folder: Path, rows: list[dict[str, Any]], edges: list[int], ends: bytes, ascii_only: bool, newline: bool
) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode(errors="replace") + ends for row in rows]
    if not newline:
        lines[-1] = lines[-1].removesuffix(ends)
    rows = [json.loads(line) for line in lines]
    path = folder / "all.jsonl"
    path.write_bytes(b"".join(lines))
    reader = open_reader(JsonlOptions(as_="records"), b"")
    OPENED.append(reader)
    found: list[Any] = []
    cuts = sorted({0, len(rows), *(edge for edge in edges if edge < len(rows))})
    for first, stop in pairwise(cuts):
        at, size = len(b"".join(lines[:first])), len(b"".join(lines[first:stop]))
        batch = reader.read(Slice(bytes(path), at, at + size, first, stop - first), stop - first)
        assert batch.bad == []
        found += batch.data
    reader.close()
    assert found == rows


BAD = [
    (b"{", "no JSON object: "),
    (b"[1]", "no JSON object: Expected `object`, got `array`"),
    (b"17", "no JSON object: "),
    (b"null", "no JSON object: "),
    (b'{"a": 1} {"a": 2}', "no JSON object: trailing characters"),
    (b'{"a": "\xff"}', r"bytes that are no utf-8: '{\"a\": \"\\xff\"}'".replace('\\"', '"')),
    (b'{"a": NaN', "no JSON object: "),
    (b"[NaN]", "no JSON object: '[NaN]'"),
    (b'{"a": NaN, "b": "\\ud800"}', "no JSON object: "),
    (b'{"a": "\\ud800"}', "no JSON object: "),
    (b'{"a": ' + b"[" * 5000, "nested too deeply: "),
    (b"x" * 5000, "xxx...'"),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line[:12].decode(errors="replace") for line, _ in BAD])
@pytest.mark.parametrize("as_", ["frame", "records"])
@pytest.mark.parametrize("at", [0, 2])
def test_a_bad_line_among_good_ones(folder: Path, line: bytes, words: str, as_: str, at: int) -> None:
    lines = [b'{"n": 1}\r\n', b'{"n": 2}\n', b'{"n": 3}\n']
    lines.insert(at, line + b"\n")
    batch = read(folder, lines, before=b'{"n": 0}\n\n', as_=as_)
    ((position, message),) = bads(batch)
    assert position == at
    assert message.startswith(f"line {at + 3}: ")
    assert words in message
    assert len(message) < 250
    found = batch.data["n"].tolist() if as_ == "frame" else [row["n"] for row in batch.data]
    assert found == [1, 2, 3]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), as_=st.sampled_from(["frame", "records"]))
def test_exactly_the_broken_ones_are_bad(folder: Path, data: st.DataObject, as_: str) -> None:
    broken = data.draw(st.lists(st.sampled_from(["", "syntax", "number", "date"]), min_size=1, max_size=9))
    lines = []
    for n, how in enumerate(broken):
        row = {"n": "x" if how == "number" else n, "day": "yesterday" if how == "date" else "2020-01-02"}
        lines.append(json.dumps(row).encode() + (b"}\n" if how == "syntax" else b"\n"))
    skip = data.draw(st.integers(0, len(lines) - 1))
    count = data.draw(st.integers(1, len(lines) - skip))
    options: dict[str, Any] = {} if as_ == "records" else {"dtype": {"n": "int64"}, "parse_dates": ["day"]}
    batch = read(folder, lines, skip=skip, count=count, as_=as_, **options)
    is_bad = [how == "syntax" or (as_ == "frame" and how != "") for how in broken]
    wanted = range(skip, skip + count)
    assert [item.position for item in batch.bad] == [n - skip for n in wanted if is_bad[n]]
    good = [n for n in wanted if not is_bad[n]]
    if as_ == "frame":
        assert len(batch.data) == len(good)
        if all(how == "syntax" for how in broken):
            return  # Nobody knows any column.
        assert batch.data["n"].tolist() == good
        assert batch.data["day"].tolist() == [pd.Timestamp("2020-01-02")] * len(good)
        assert list(batch.data.index) == list(range(len(good)))
    else:
        assert batch.data == [json.loads(lines[n]) for n in good]


def test_numbers_that_only_python_writes(folder: Path) -> None:
    lines = [b'{"a": NaN}\n', b'{"a": -Infinity}\n', b'{"a": 1}\n']
    batch = read(folder, lines)
    assert batch.bad == []
    assert batch.data["a"].isna().tolist() == [True, False, False]
    assert batch.data["a"][1] == float("-inf")


def test_records_have_the_columns_that_are_there(folder: Path) -> None:
    lines = [b'{"a": 1, "b": 2, "c": 3}\n', b'{"b": 4}\n']
    assert read(folder, lines, as_="records", columns=["c", "b"]).data == [{"c": 3, "b": 2}, {"b": 4}]


def test_tables_have_all_columns_asked_for(folder: Path) -> None:
    lines = [b'{"a": 1, "b": 2}\n', b'{"b": null}\n']
    frame = read(folder, lines, columns=["z", "b"]).data
    assert list(frame.columns) == ["z", "b"]
    assert frame["z"].isna().all()
    assert frame["b"].isna().tolist() == [False, True]
    assert read(folder, lines, dtype={"a": "Int64"}).data["a"].tolist() == [1, pd.NA]
    assert read(folder, [b"{}\n", b"{}\n"]).data.shape == (2, 0)
    assert read(folder, [b"{}\n", b"{}\n"], columns=["a"]).data.shape == (2, 1)
    assert read(folder, [b"{\n", b"[]\n"], columns=["a"]).data.shape == (0, 1)


DTYPES: list[tuple[str, list[str], list[Any], list[int]]] = [
    ("int64", ["1", "1.5", "null", '"2"', '"x"', "3"], [1, 2, 3], [1, 2, 4]),
    ("int8", ["1", "300", "-128"], [1, -128], [1]),
    ("uint64", ["18446744073709551615", "-1"], [2**64 - 1], [1]),
    ("Int64", ["9007199254740993", "null", "0.5"], [9007199254740993, pd.NA], [2]),
    ("float64", ["1", '"2.5"', "[]", '"x"'], [1.0, 2.5], [2, 3]),
    ("bool", ["true", '"maybe"', "null", "false", "1", "[]"], [True, False, True], [1, 2, 5]),
    ("boolean", ["true", "null", "0", "2"], [True, pd.NA, False], [3]),
    ("Float64", ["1", "null", '"2.5"', "true"], [1.0, pd.NA, 2.5, 1.0], []),
    ("str", ['"a"', "1"], ["a", "1"], []),
    ("category", ['"a"', '"b"'], ["a", "b"], []),
]


@pytest.mark.parametrize(("dtype", "values", "good", "bad"), DTYPES, ids=[case[0] for case in DTYPES])
def test_declared_dtypes_lose_nothing(
    folder: Path, dtype: str, values: list[str], good: list[Any], bad: list[int]
) -> None:
    lines = [f'{{"a": {value}}}\n'.encode() for value in values]
    batch = read(folder, lines, dtype={"a": dtype, "not there": "int64"})
    assert [position for position, _ in bads(batch)] == bad
    assert batch.data["a"].astype(object).tolist() == good
    assert str(batch.data["a"].dtype) == dtype
    for _, message in bads(batch):
        assert f"is no {dtype}" in message


def test_a_column_of_a_wrong_dtype_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failing, "__defaults__", (50,))
    with pytest.raises(Unreadable, match=r"'a': more values .* no int64"):
        read(folder, [b'{"a": "x"}\n'] * 100, dtype={"a": "int64"})


def test_dates_that_are_no_text(folder: Path) -> None:
    lines = [b'{"a": "2020-01-01"}\n', b'{"a": {}}\n', b'{"a": [1]}\n']
    batch = read(folder, lines, parse_dates=["a"])
    assert [position for position, _ in bads(batch)] == [1, 2]
    assert batch.data["a"].tolist() == [pd.Timestamp("2020-01-01")]


def test_dates_of_several_forms(folder: Path) -> None:
    lines = [b'{"a": "2020-01-01"}\n', b'{"a": "2020-01-01T10:00"}\n', b"{}\n"]
    batch = read(folder, lines, parse_dates=["a", "not there"])
    assert batch.bad == []
    assert batch.data["a"].isna().tolist() == [False, False, True]
    assert batch.data["a"][1] == pd.Timestamp("2020-01-01T10:00")


def test_a_byte_order_mark_is_no_data(folder: Path) -> None:
    batch = read(folder, [b'\xef\xbb\xbf{"a": 1}\n', b"x\n"])
    assert batch.data["a"].tolist() == [1]
    assert [position for position, _ in bads(batch)] == [1]


def test_whole_files_are_unpacked(folder: Path) -> None:
    path = folder / "b.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n\n{"a": 2}\nx\n'))
    reader = open_reader(JsonlOptions(), b"")
    batch = reader.read(Slice(bytes(path), 0, 1, 0, 3, whole=True), 3)
    assert batch.data["a"].tolist() == [1, 2]
    assert bads_of_packed(batch) == ["line 4"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Unreadable, match="damaged or truncated"):
        reader.read(Slice(bytes(path), 0, 1, 0, 3, whole=True), 3)


def bads_of_packed(batch: Batch) -> list[str]:
    return [item.error.message.split("', ")[1].split(":")[0] for item in batch.bad]


def test_a_file_that_has_changed_is_told_of(folder: Path) -> None:
    with pytest.raises(Unreadable, match="has 2 rows where 3 were planned"):
        read(folder, [b"{}\n", b"{}\n"], rows=3)
    with pytest.raises(Unreadable, match="has 2 rows where 1 were planned"):
        read(folder, [b"{}\n", b"{}\n"], rows=1)
    reader = open_reader(JsonlOptions(), b"")
    with pytest.raises(Unreadable, match="nowhere' does not exist"):
        reader.read(Slice(bytes(folder / "nowhere"), 0, 10, 0, 1), 1)
