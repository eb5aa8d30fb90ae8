"""Malformed records cost one item each: they are found, told of with file and line, and the others are read."""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.tables import CsvOptions
from mpibatch.inputs.csv_bad_records import Rules
from mpibatch.inputs.csv_reader import open_reader
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.dates import to_dates
from mpibatch.inputs.ranges import KeptFile, Lines
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.inputs.suspects import TooManyFail, failing
from mpibatch.work import Slice

HEADER = b"n,text,day\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


def read(
    folder: Path,
    records: list[bytes],
    *,
    header: bytes = HEADER,
    skip: int = 0,
    count: int | None = None,
    before: bytes = b"",
    **options: Any,
) -> Batch:
    """The records as one mini-batch of a file in which `before` stands between them and the header."""
    path = folder / "bad.csv"
    path.write_bytes(header + before + b"".join(records))
    start = len(header + before)
    source = Slice(bytes(path), start, path.stat().st_size, 0, len(records), skip)
    reader = open_reader(CsvOptions(**options), msgspec.msgpack.encode(CsvSetup(header)))
    try:
        return reader.read(source, len(records) if count is None else count)
    finally:
        reader.close()


def bads(batch: Batch) -> list[tuple[int, str]]:
    assert all(item.error.type == "BadRecord" for item in batch.bad)
    return [(item.position, item.error.message.split("bad.csv', ")[1]) for item in batch.bad]


# Each way to be bad -----------------------------------------------------------------------------------------

CASES: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("too many fields", b"1,a,b,c\n", {}, "4 fields where 3 are expected: '1,a,b,c'"),
    ("wrong encoding", b"1,\xff\xfe,\n", {}, r"field 2 has bytes that are no utf-8: '1,\\xff\\xfe,'"),
    ("ascii only", "1,é,\n".encode(), {"encoding": "ascii"}, "field 2 has bytes that are no ascii"),
    ("undefined byte", b"1,\x81,\n", {"encoding": "cp1252"}, "field 2 has bytes that are no cp1252"),
    ("no integer", b"x,a,\n", {"dtype": {"n": "int64"}}, "column 'n': 'x' is no int64: 'x,a,'"),
    ("a null", b",a,\n", {"dtype": {"n": "int64"}}, "column 'n': '' is no int64: ',a,'"),
    ("a null by name", b"none,a,\n", {"dtype": {"n": "int32"}, "na_values": ["none"]}, "'none' is no int32"),
    ("no number", b"1_0,a,\n", {"dtype": {"n": "float64"}}, "column 'n': '1_0' is no float64"),
    ("no nullable integer", b"1.5,a,\n", {"dtype": {"n": "Int64"}}, "column 'n': '1.5' is no Int64"),
    ("no bool", b"1,maybe,\n", {"dtype": {"text": "boolean"}}, "column 'text': 'maybe' is no boolean"),
    ("all of one dtype", b"1,2,x\n", {"dtype": "float64"}, "column 'day': 'x' is no float64"),
    ("no date", b"1,a,tomorrow\n", {"parse_dates": ["day"]}, "column 'day': 'tomorrow' is no date"),
    ("not that month", b"1,a,2020-13-01\n", {"parse_dates": ["day"]}, "'2020-13-01' is no date"),
]


@pytest.mark.parametrize(
    ("record", "options", "words"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
@pytest.mark.parametrize("at", [0, 1, 4])
def test_one_bad_record_among_good_ones(
    folder: Path, record: bytes, options: dict[str, Any], words: str, at: int
) -> None:
    good = [b"%d,%s,%s\n" % (n, b"10"[n % 2 :][:1], b"2020-01-0%d" % (n + 1)) for n in range(4)]
    if options.get("dtype") == "float64":
        good = [b"1,2,3\n", b"4,5,6\n", b"7,8,9\n", b"10,11,12\n"]
    batch = read(folder, [*good[:at], record, *good[at:]], **options)
    ((position, message),) = bads(batch)
    assert position == at
    assert message.startswith(f"line {at + 2}: ")
    assert words in message
    alone = read(folder, good, **options)
    assert alone.bad == []
    pd.testing.assert_frame_equal(batch.data, alone.data)


def test_quotes_that_are_not_closed_take_the_rest_of_the_file(folder: Path) -> None:
    batch = read(folder, [b"1,a,\n", b'2,"b,\n3,c,\n4,d,'])
    assert bads(batch) == [
        (1, r"line 3: a quoted field is not closed: '2,\"b,\n3,c,\n4,d,'".replace('\\"', '"'))
    ]
    assert batch.data["n"].tolist() == [1]


def test_where_newlines_always_end_a_record_quotes_take_their_line_only(folder: Path) -> None:
    batch = read(folder, [b"1,a,\n", b'2,"b,\n', b'3,"c",\n'], multiline=False)
    assert [position for position, _ in bads(batch)] == [1]
    assert batch.data["text"].tolist() == ["a", "c"]


def test_an_escape_character_hides_no_newline_that_ends_a_record(folder: Path) -> None:
    batch = read(folder, [b"1,a\\\n", b"2,b,\n"], multiline=False, escapechar="\\")
    ((position, message),) = bads(batch)
    assert (position, batch.data["n"].tolist()) == (0, [2])
    assert "escape character stands at its end" in message


def test_records_that_are_too_short_are_good(folder: Path) -> None:
    batch = read(folder, [b"1\n", b"2,a,b,c\n", b"3,d\n"])
    assert [position for position, _ in bads(batch)] == [1]
    assert batch.data["n"].tolist() == [1, 3]
    assert batch.data["text"].isna().tolist() == [True, False]


def test_an_empty_field_at_the_end_is_none_too_many(folder: Path) -> None:
    batch = read(folder, [b"1,a,b\n", b"2,a,b,\n", b'3,a,b,""\n', b"4,a,b,,\n", b"5,a,b,c"])
    assert [position for position, _ in bads(batch)] == [3, 4]
    assert batch.data["n"].tolist() == [1, 2, 3]


def test_types_are_those_of_the_good_records(folder: Path) -> None:
    batch = read(folder, [b"1,5,\n", b"x,y,z,w\n", b"2,6,"])
    assert [str(dtype) for dtype in batch.data.dtypes] == ["int64", "int64", "float64"]


def test_columns_that_are_not_read_may_hold_anything(folder: Path) -> None:
    records = [b"1,\xff,\n", b"2,b,c,d\n", b"x,e,\n"]
    batch = read(folder, records, columns=["day", "n"], dtype={"n": "int64", "text": "int64"})
    assert [position for position, _ in bads(batch)] == [2]
    assert batch.data["n"].tolist() == [1, 2]
    assert list(batch.data.columns) == ["day", "n"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_columns_decide_alike_in_each_encoding(folder: Path, encoding: str) -> None:
    batch = read(folder, [b"1,\x81,\n", b"2,b,\n"], columns=["n"], encoding=encoding)
    assert (batch.data["n"].tolist(), batch.bad) == ([1, 2], [])


def test_if_all_are_bad_there_is_a_table_without_rows(folder: Path) -> None:
    batch = read(folder, [b"x,1,\n", b"y,2,\n"], dtype={"n": "int64"}, parse_dates=["day"])
    assert len(batch.bad) == 2
    assert batch.data.shape == (0, 3)
    assert list(batch.data.columns) == ["n", "text", "day"]


@pytest.mark.parametrize(("skip", "count"), [(0, 1), (0, 2), (1, 1), (1, 3), (2, 2), (3, 1), (0, 4)])
def test_only_the_piece_counts(folder: Path, skip: int, count: int) -> None:
    records = [b"0,a,b,c\n", b"1,a,b\n", b"2,a,b,c\n", b"3,a,b\n"]
    batch = read(folder, records, skip=skip, count=count)
    wanted = range(skip, skip + count)
    assert [position for position, _ in bads(batch)] == [n - skip for n in (0, 2) if n in wanted]
    assert batch.data["n"].tolist() == [n for n in (1, 3) if n in wanted]
    assert isinstance(batch.data.index, pd.RangeIndex)


def test_without_names_columns_are_numbers_for_good_and_bad(folder: Path) -> None:
    path = folder / "bad.csv"
    path.write_bytes(b"1,\xff\n2,b\n3,c,d\n")
    reader = open_reader(CsvOptions(header="none"), msgspec.msgpack.encode(CsvSetup()))
    batch = reader.read(Slice(bytes(path), 0, 14, 0, 3), 3)
    reader.close()
    assert [position for position, _ in bads(batch)] == [0, 2]
    assert list(batch.data.columns) == [0, 1]


@pytest.mark.parametrize("first", [b"1,2,3,4\n", b'1,"2\n', b"\xff\n"])
@pytest.mark.parametrize("header", ["each", "none"])
def test_a_bad_first_record_does_no_harm_to_the_others(folder: Path, header: Any, first: bytes) -> None:
    path = folder / "bad.csv"
    head = b'"a\n' + b"x" * 200_000 + b'",b\n'
    path.write_bytes(head + first)
    source = Slice(bytes(path), len(head), path.stat().st_size, 0, 1)
    if header == "none":
        source = Slice(bytes(path), 0, path.stat().st_size, 0, 2)
    reader = open_reader(CsvOptions(header=header), msgspec.msgpack.encode(CsvSetup()))
    batch = reader.read(source, source.rows)
    reader.close()
    assert [item.position for item in batch.bad] == [source.rows - 1]
    assert batch.data.shape == (source.rows - 1, 2)
    assert "line 3: " in batch.bad[0].error.message


def test_whole_files_have_their_header_and_lines(folder: Path) -> None:
    path = folder / "bad.csv.gz"
    path.write_bytes(gzip.compress('\n"a\nb",c\n1,2\n3,4,5\n"x\ny",z\n1,2,3'.encode("utf-16")))
    reader = open_reader(CsvOptions(encoding="utf-16"), msgspec.msgpack.encode(CsvSetup()))
    batch = reader.read(Slice(bytes(path), 0, 1, 0, 4, whole=True), 4)
    assert list(batch.data.columns) == ["a\nb", "c"]
    assert batch.data["c"].tolist() == ["2", "z"]
    assert [item.position for item in batch.bad] == [1, 3]
    assert ["line 5" in batch.bad[0].error.message, "line 8" in batch.bad[1].error.message] == [True, True]
    path.write_bytes(gzip.compress("a,c\n1,2\n3,é\n".encode("utf-16")[:-1]))
    batch = reader.read(Slice(bytes(path), 0, 1, 0, 2, whole=True), 2)
    assert [item.position for item in batch.bad] == [1]
    assert "no utf-16" in batch.bad[0].error.message


def test_long_records_are_shortened(folder: Path) -> None:
    ((_, message),) = bads(read(folder, [b"1,2,3,%s\n" % (b"y" * 5000), b"1,2,3\n"]))
    assert message.endswith("yyy...'")
    assert len(message) < 200


def test_a_dtype_for_all_columns_is_none_for_dates(folder: Path) -> None:
    batch = read(folder, [b"1,2,2020-01-01\n", b"1,x,2020-01-01\n"], dtype="int64", parse_dates=["day"])
    assert [position for position, _ in bads(batch)] == [1]
    assert batch.data["day"].tolist() == [pd.Timestamp("2020-01-01")]


# Dates ------------------------------------------------------------------------------------------------------


def test_dates_of_several_iso_forms_are_dates(folder: Path) -> None:
    records = [b"1,a,2020-01-01\n", b"2,b,2020-01-01T10:00\n", b"3,c,\n"]
    batch = read(folder, records, parse_dates=["day"])
    assert batch.bad == []
    assert batch.data["day"].dtype.kind == "M"
    assert batch.data["day"][1] == pd.Timestamp("2020-01-01 10:00")


def test_dates_of_differing_time_zones_are_in_utc(folder: Path) -> None:
    records = [b"1,a,2020-01-01T10:00+01:00\n", b"2,b,2020-07-01T10:00+02:00\n", b"3,c,x\n"]
    batch = read(folder, records, parse_dates=["day"])
    assert [position for position, _ in bads(batch)] == [2]
    assert batch.data["day"].tolist() == [
        pd.Timestamp("2020-01-01T09:00Z"),
        pd.Timestamp("2020-07-01T08:00Z"),
    ]


def test_the_form_of_the_first_date_that_has_one_counts(folder: Path) -> None:
    records = [b"1,a,never\n", b"2,b,13.02.2020\n", b"3,c,01.02.2020\n"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = read(folder, records, parse_dates=["day"])
    assert [position for position, _ in bads(batch)] == [0]
    assert batch.data["day"].tolist() == [pd.Timestamp("2020-02-13"), pd.Timestamp("2020-02-01")]


def test_dates_without_any_form() -> None:
    dates, bad = to_dates(pd.Series(["x", None, "y"], dtype=object))
    assert bad.tolist() == [True, False, True]
    assert dates.isna().all()


# Many -------------------------------------------------------------------------------------------------------


def test_bad_values_in_half_of_many_records_are_all_found(folder: Path) -> None:
    records = [b"%d,a,\n" % n if n % 2 else b"x%d,a,\n" % n for n in range(1000)]
    batch = read(folder, records, dtype={"n": "int64"})
    assert [item.position for item in batch.bad] == list(range(0, 1000, 2))
    assert batch.data["n"].tolist() == list(range(1, 1000, 2))


Break = Callable[[int], bytes]
BREAKS: list[Break] = [
    lambda n: b"%d,a,2020-01-01,%d\n" % (n, n),
    lambda n: b"%d,\xff,\n" % n,
    lambda n: b"no%d,a,\n" % n,
    lambda n: b',"a\nb",2020-01-01\r\n',
    lambda n: b'%d,"a,",20.1.\n' % n,
]
GOODS: list[Break] = [
    lambda n: b"%d,a,2020-01-01\n" % n,
    lambda n: b'%d,"a\r\n,b",\r\n' % n,
    lambda n: b'%d,"""",2021-12-31\n' % n,
    lambda n: b"\n  \n%d\n" % n,
]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), lines=st.integers(0, 3), columns=st.booleans())
def test_exactly_the_broken_ones_are_bad(
    folder: Path, data: st.DataObject, lines: int, columns: bool
) -> None:
    kinds = data.draw(st.lists(st.sampled_from(GOODS + BREAKS), min_size=1, max_size=12))
    records = [make(n) for n, make in enumerate(kinds)]
    broken = [n for n, make in enumerate(kinds) if make in BREAKS]
    skip = data.draw(st.integers(0, len(records) - 1))
    count = data.draw(st.integers(1, len(records) - skip))
    options: dict[str, Any] = {"dtype": {"n": "int64", "text": "str"}, "parse_dates": ["day"]}
    if columns and not any(make is BREAKS[0] for make in kinds):
        options["columns"] = ["day", "text", "n"]
    batch = read(folder, records, skip=skip, count=count, before=b"0,z,\n" * lines, **options)
    wanted = range(skip, skip + count)
    assert [item.position for item in batch.bad] == [n - skip for n in broken if n in wanted]
    for item in batch.bad:
        above = b"".join([HEADER, b"0,z,\n" * lines, *records[: skip + item.position]])
        line = 1 + above.count(b"\n")
        assert f", line {line}: " in item.error.message
    kept = b"".join(record for n, record in enumerate(records) if n not in broken)
    names = options.pop("columns", None)
    expected = pd.read_csv(io.BytesIO(HEADER + kept), **options)
    positions = [n for n in range(len(records)) if n not in broken]
    expected = expected.iloc[[at for at, n in enumerate(positions) if n in wanted]].reset_index(drop=True)
    pd.testing.assert_frame_equal(batch.data, expected[names] if names else expected)


# The parts --------------------------------------------------------------------------------------------------

RULES: list[tuple[dict[str, Any], bytes, list[bytes]]] = [
    ({}, b'a,b\r\n"x\ny",2\r3\n', [b"a,b\r\n", b'"x\ny",2\r', b"3\n"]),
    ({}, b'a"b\n"c"d"\n,e\n', [b'a"b\n', b'"c"d"\n', b",e\n"]),
    ({}, b"\n  \n\t\na\n\r\n", [b"a\n"]),
    ({"sep": "\t"}, b"\t\n  \n", [b"\t\n"]),
    ({}, b'"a""\n"" b"\nc', [b'"a""\n"" b"\n', b"c"]),
    ({}, b'a,"b\nc\n', [b'a,"b\nc\n']),
    ({"multiline": False}, b'a,"b\nc"\n', [b'a,"b\n', b'c"\n']),
    ({"quotechar": None}, b'"a\nb"\n', [b'"a\n', b'b"\n']),
    ({"escapechar": "\\"}, b'a\\\nb\n"\\"\n"\nc\\', [b"a\\\nb\n", b'"\\"\n"\n', b"c\\"]),
    ({"escapechar": "\\"}, b'"a"\\\nb\n', [b'"a"\\\n', b"b\n"]),
    ({"quotechar": "'"}, b"'a\n',\"\nb", [b"'a\n',\"\n", b"b"]),
]


@pytest.mark.parametrize(("options", "data", "records"), RULES)
def test_records_are_parted_as_pandas_does(
    options: dict[str, Any], data: bytes, records: list[bytes]
) -> None:
    rules = Rules(CsvOptions(**options))
    assert [data[start:stop] for start, stop in rules.records(data)] == records
    first = data.index(records[0]) + len(records[0])
    assert rules.end_of_first(data) == first


@settings(max_examples=300, deadline=None)
@given(data=st.text('a,"\n\r \\', max_size=12), escape=st.sampled_from([None, "\\"]), quotes=st.booleans())
def test_there_are_as_many_records_as_pandas_has_rows(data: str, escape: str | None, quotes: bool) -> None:
    text = data.encode()
    rules = Rules(CsvOptions(escapechar=escape, quotechar='"' if quotes else None))
    spans = rules.records(text)
    names = [f"c{n}" for n in range(20)]
    quoting = 0 if quotes else 3
    closed = all(rules.is_closed(text[start:stop]) for start, stop in spans)
    try:
        frame = pd.read_csv(
            io.BytesIO(text),
            header=None,
            names=names,
            escapechar=escape,
            quoting=quoting,
            dtype=str,  # type: ignore[call-overload]
        )
    except pd.errors.ParserError as error:
        assert "EOF" in str(error)
        assert not closed
    else:
        assert closed
        assert len(frame) == len(spans)


@settings(max_examples=200, deadline=None)
@given(bad=st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_all_that_fail_are_found_in_few_tests(bad: list[bool]) -> None:
    tests = 0

    def passes(start: int, stop: int) -> bool:
        nonlocal tests
        assert start < stop
        tests += 1
        return not any(bad[start:stop])

    found = failing(len(bad), passes)
    assert found == [n for n, is_bad in enumerate(bad) if is_bad]
    assert tests <= min(2 * len(bad), len(found) * 2 * len(bad).bit_length())


def test_what_fails_only_in_company_is_not_to_blame() -> None:
    assert failing(2, lambda start, stop: stop - start < 2) == []
    assert failing(5, lambda start, stop: not (start <= 1 and stop > 3)) == []


def test_too_many_that_fail_are_no_bad_values() -> None:
    with pytest.raises(TooManyFail):
        failing(1000, lambda start, stop: False, most_tests=100)


def test_a_column_of_a_wrong_dtype_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failing, "__defaults__", (50,))
    records = [b"x%d,a,\n" % n for n in range(100)]
    with pytest.raises(Unreadable, match=r"'n': more values .* no int64, as 'x0' and 'x99'"):
        read(folder, records, dtype={"n": "int64"})


def test_lines_are_counted_on_from_the_last_place(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1\n2\r\n3\n4\n5\n")
    old = tmp_path / "b"
    old.write_bytes(b"1\r2\r3\r")
    file = KeptFile()
    lines = Lines(file)
    number = lines.numbers(bytes(path), 2, b"2\r\n3\n4\n5\n")
    assert [number(0), number(3), number(7), number(3)] == ["line 2", "line 3", "line 5", "line 3"]
    assert lines.numbers(bytes(path), 7, b"4\n5\n")(2) == "line 5"
    assert lines.numbers(bytes(path), 2, b"2\r\n3\n4\n5\n")(3) == "line 3"
    assert lines.numbers(bytes(old), 2, b"2\r3\r")(2) == "line 3"
    assert lines.numbers(bytes(path), 5, b"3\n")(0) == "line 3"
    far = 3 << 30
    assert lines.numbers(bytes(path), far, b"x")(0) == f"byte {far:,}"
    file.close()
