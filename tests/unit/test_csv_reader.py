"""CSV mini-batches, read by ranges, are together what pandas reads of the whole file."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.tables import CsvOptions
from mpibatch.inputs.csv_reader import open_reader
from mpibatch.inputs.csv_reader_text import Text
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.survey import Batch, Reader, Unreadable
from mpibatch.work import Slice

OPENED: list[Reader] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


class Written(NamedTuple):
    """A file as records, each with its newline, the header first if there is one."""

    header: bytes
    records: list[bytes]

    @property
    def data(self) -> bytes:
        return self.header + b"".join(self.records)


def reader_of(head: bytes = b"", dtypes: dict[str, str] | None = None, /, **options: Any) -> Reader:
    setup = msgspec.msgpack.encode(CsvSetup(head, dtypes=dtypes))
    OPENED.append(open_reader(CsvOptions(**options), setup))
    return OPENED[-1]


def cut(path: Path, written: Written, numbers: list[int]) -> list[Slice]:
    """Mini-batches that begin at the records with these numbers, and the first one."""
    slices = []
    edges = [0, *sorted(set(numbers) - {0}), len(written.records)]
    row, at = 0, len(written.header)
    for first, stop in pairwise(edges):
        size = sum(map(len, written.records[first:stop]))
        rows = sum(not is_blank(record) for record in written.records[first:stop])
        if rows:
            slices.append(Slice(bytes(path), at, at + size, row, rows))
        at, row = at + size, row + rows
    return slices


def is_blank(record: bytes) -> bool:
    return not record.strip(b" \r\n")


def read_all(reader: Reader, slices: list[Slice]) -> list[pd.DataFrame]:
    frames = []
    for source in slices:
        batch = reader.read(source, source.rows)
        assert batch.bad == []
        assert list(batch.data.index) == list(range(source.rows))
        frames.append(batch.data)
    reader.close()
    return frames


def whole(path: Path, rows: int) -> Slice:
    return Slice(bytes(path), 0, path.stat().st_size, 0, rows, whole=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv") / "a.csv"


# Any table that csv.writer writes ---------------------------------------------------------------------------

WRITERS: list[dict[str, Any]] = [
    {"quoting": csv.QUOTE_MINIMAL},
    {"quoting": csv.QUOTE_ALL},
    {"quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\r\n"},
    {"quoting": csv.QUOTE_MINIMAL, "lineterminator": "\r\n", "delimiter": ";", "quotechar": "'"},
    {"quoting": csv.QUOTE_MINIMAL, "delimiter": "\t", "lineterminator": "\r"},
    {"quoting": csv.QUOTE_NONE, "escapechar": "\\"},
    {"quoting": csv.QUOTE_MINIMAL, "escapechar": "\\"},
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, Any], list[str], list[list[str]], list[int]]:
    how = draw(st.sampled_from(WRITERS))
    odd = "\"',; é\N{GRINNING FACE}\n1.-NA"
    alphabet = (
        odd if how.get("lineterminator", "\n") != "\r\n" and how["quoting"] != csv.QUOTE_ALL else odd + "\r"
    )
    if how.get("lineterminator") == "\r":
        alphabet = odd.replace("\n", "\r")
    field = st.text(alphabet, max_size=4)
    names = draw(st.lists(field.map("c".__add__), min_size=1, max_size=3))
    # Behind a blank line that a CR ends, pandas swallows a separator.
    fewest = int(how.get("lineterminator") == "\r")
    rows = draw(st.lists(st.lists(field, min_size=fewest, max_size=len(names)), min_size=1, max_size=8))
    return how, names, rows, draw(st.lists(st.integers(0, 7), max_size=4))


def write(how: dict[str, Any], rows: list[list[str]], encoding: str = "utf-8") -> list[bytes]:
    records = []
    for row in rows:
        text = io.StringIO()
        with contextlib.suppress(csv.Error):  # Without quotes there is no way to write a lone empty field.
            csv.writer(text, **{"lineterminator": "\n", **how}).writerow(row)
        records.append(text.getvalue().encode(encoding))
    return records


def options_of(how: dict[str, Any]) -> dict[str, Any]:
    quotes = how["quoting"] != csv.QUOTE_NONE
    return {
        "sep": how.get("delimiter", ","),
        "quotechar": how.get("quotechar", '"') if quotes else None,
        "escapechar": how.get("escapechar"),
    }


def pandas_options(options: dict[str, Any]) -> dict[str, Any]:
    if options["quotechar"] is None:
        return {**options, "quotechar": '"', "quoting": csv.QUOTE_NONE}
    return options


@settings(max_examples=200, deadline=None)
@given(table=tables(), nulls=st.booleans(), newline=st.booleans(), header=st.sampled_from(["all", "each"]))
def test_texts_are_those_of_the_whole_file(
    file: Path,
    table: tuple[dict[str, Any], list[str], list[list[str]], list[int]],
    nulls: bool,
    newline: bool,
    header: str,
) -> None:
    how, names, rows, edges = table
    options = options_of(how)
    written = Written(write(how, [names])[0], write(how, rows))
    if not newline and not is_blank(written.records[-1]):
        ending = how.get("lineterminator", "\n").encode()
        written.records[-1] = written.records[-1].removesuffix(ending)
    file.write_bytes(written.data)
    expected = pd.read_csv(
        io.BytesIO(written.data), dtype=str, keep_default_na=nulls, index_col=False, **pandas_options(options)
    )
    slices = cut(file, written, [edge for edge in edges if edge < len(rows)])
    assert sum(source.rows for source in slices) == len(expected)
    reader = reader_of(
        written.header if header == "all" else b"",
        dtype="str",
        keep_default_na=nulls,
        header=header,
        **options,
    )
    frames = read_all(reader, slices)
    if slices:
        pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), expected)


# Declared dtypes --------------------------------------------------------------------------------------------

TYPED = {
    "whole": "int64",
    "real": "float64",
    "maybe": "Int64",
    "text": "string",
    "kind": "category",
    "yes": "bool",
}


@st.composite
def typed(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(1, 9))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=n, max_size=n))

    text = st.text('ab", \n', max_size=3)
    day = st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2100-01-01"))
    return pd.DataFrame(
        {
            "whole": column(st.integers(-(2**62), 2**62)),
            "real": column(st.floats(allow_nan=True, width=32)),
            "maybe": pd.array(column(st.none() | st.integers(-9, 9)), dtype="Int64"),
            "text": pd.array(column(st.none() | text), dtype="string"),
            "kind": pd.Categorical(column(st.sampled_from(["red", "blue, dark", "green"]))),
            "yes": column(st.booleans()),
            "day": pd.Series(column(st.none() | day), dtype="datetime64[us]"),
        }
    )


@settings(max_examples=50, deadline=None)
@given(frame=typed(), edges=st.lists(st.integers(0, 8), max_size=4), columns=st.booleans())
def test_declared_dtypes_are_those_of_the_whole_file(
    file: Path, frame: pd.DataFrame, edges: list[int], columns: bool
) -> None:
    header = frame.iloc[:0].to_csv(index=False).encode()
    # Formatted as a whole, as the form of dates depends on the column; then taken apart.
    lines = frame.astype({"day": object}).assign(day=frame["day"].dt.strftime("%Y-%m-%d %H:%M:%S.%f"))
    records = [lines.iloc[n : n + 1].to_csv(index=False, header=False).encode() for n in range(len(frame))]
    written = Written(header, records)
    file.write_bytes(written.data)
    names = ["day", "kind", "whole"] if columns else None
    reader = reader_of(header, dtype=TYPED, parse_dates=["day"], columns=names)
    frames = read_all(reader, cut(file, written, [edge for edge in edges if edge < len(records)]))
    expected = pd.read_csv(io.BytesIO(written.data), dtype=TYPED, parse_dates=["day"])
    if names is not None:
        expected = expected[names]
    for read in frames:
        assert {name: str(read[name].dtype) for name in TYPED if name in read} == {
            name: dtype for name, dtype in TYPED.items() if name in read
        }
        assert read["day"].dtype.kind == "M"
    found = pd.concat([read.astype(object) for read in frames], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected.astype(object))


# Each thing by itself ---------------------------------------------------------------------------------------


def put(tmp_path: Path, data: bytes, name: str = "a.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def one(path: Path, start: int, rows: int, **more: Any) -> Slice:
    return Slice(bytes(path), start, path.stat().st_size, 0, rows, **more)


def test_a_piece_is_a_part_of_its_mini_batch(tmp_path: Path) -> None:
    path = put(tmp_path, b"a,b\n1,x\n2,y\n3,z\n4,w\n")
    reader = reader_of(b"a,b\n")
    batch = reader.read(one(path, 4, 4, skip=1), 2)
    pd.testing.assert_frame_equal(batch.data, pd.DataFrame({"a": [2, 3], "b": ["y", "z"]}))
    assert isinstance(batch.data.index, pd.RangeIndex)


def test_columns_are_those_asked_for_in_their_order(tmp_path: Path) -> None:
    path = put(tmp_path, b"a,b,c\n1,x,2020-01-01\n")
    reader = reader_of(
        b"a,b,c\n", columns=["c", "a"], parse_dates=["c"], dtype={"b": "int64", "a": "float32"}
    )
    frame = reader.read(one(path, 6, 1), 1).data
    assert list(frame.columns) == ["c", "a"]
    assert [str(dtype) for dtype in frame.dtypes][1] == "float32"
    assert frame["c"][0] == pd.Timestamp("2020-01-01")


def test_numbers_and_nulls_as_the_options_have_them(tmp_path: Path) -> None:
    path = put(tmp_path, b"a;b;c\n1.000,5;none;NA\n")
    options: dict[str, Any] = {"sep": ";", "decimal": ",", "thousands": "."}
    options |= {"na_values": ["none"], "keep_default_na": False}
    frame = reader_of(b"a;b;c\n", **options).read(one(path, 6, 1), 1).data
    assert frame["a"][0] == 1000.5
    assert frame["b"].isna().all()
    assert frame["c"][0] == "NA"


def test_found_dtypes_come_from_the_setup(tmp_path: Path) -> None:
    path = put(tmp_path, b"a,b\n1,2020-01-01\n")
    dtypes = {"a": "float64", "b": "str"}
    reader = reader_of(b"a,b\n", dtypes, dtype="from_first_rows", parse_dates=["b"])
    frame = reader.read(one(path, 4, 1), 1).data
    assert str(frame["a"].dtype) == "float64"
    assert frame["b"].dtype.kind == "M"


def test_without_header_names_are_given_or_numbers(tmp_path: Path) -> None:
    path = put(tmp_path, b"\n1,x,2\n3,y\n5\n")
    named = reader_of(header="none", names=["p", "q", "r", "s"])
    assert list(named.read(one(path, 0, 3), 3).data.columns) == ["p", "q", "r", "s"]
    # The first record of the file says how many there are, also where it is not in the mini-batch.
    numbered = reader_of(header="none")
    frame = numbered.read(one(path, 11, 1), 1).data
    assert list(frame.columns) == [0, 1, 2]
    assert list(reader_of(header="none", columns=["2", "0"]).read(one(path, 0, 3), 3).data.columns) == [2, 0]


def test_numbered_columns_have_dtypes_and_dates_too(tmp_path: Path) -> None:
    path = put(tmp_path, b"1,2020-01-01,x\n")
    reader = reader_of(header="none", dtype={"0": "float64"}, parse_dates=["1"], columns=["1", "0"])
    frame = reader.read(one(path, 0, 1), 1).data
    assert list(frame.columns) == [1, 0]
    assert (frame[1].dtype.kind, frame[0].dtype.kind) == ("M", "f")


def test_short_records_are_filled_up_also_where_they_come_first(tmp_path: Path) -> None:
    path = put(tmp_path, b"a,b,c\n1\n2,3,4\n")
    for options in ({}, {"columns": ["c", "a"]}):
        frame = reader_of(b"a,b,c\n", **options).read(one(path, 6, 2), 2).data
        assert frame["a"].tolist() == [1, 2]
        assert frame["c"].isna().tolist() == [True, False]


def test_each_file_has_its_own_header(tmp_path: Path) -> None:
    first = put(tmp_path, b'\xef\xbb\xbf\n"a\nx",b\n1,2\n', "1.csv")
    second = put(tmp_path, b"c\n7\n8", "2.csv")
    reader = reader_of(header="each")
    assert list(reader.read(one(first, 13, 1), 1).data.columns) == ["a\nx", "b"]
    assert reader.read(one(second, 4, 1), 1).data.to_dict("list") == {"c": [8]}
    assert list(reader.read(one(first, 13, 1), 1).data.columns) == ["a\nx", "b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_data(tmp_path: Path, encoding: str) -> None:
    path = put(tmp_path, codecs.BOM_UTF8 + b'"1",2\n')
    reader = reader_of(codecs.BOM_UTF8 + b'"a",b\n', header="first", encoding=encoding)
    assert reader.read(one(path, 0, 1), 1).data.to_dict("list") == {"a": [1], "b": [2]}
    # The same in the slow way.
    path = put(tmp_path, codecs.BOM_UTF8 + b'"1",2\n1,2,3\n', "slow.csv")
    batch = reader.read(one(path, 0, 2), 2)
    assert batch.data.to_dict("list") == {"a": [1], "b": [2]}
    assert [item.position for item in batch.bad] == [1]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "euc-jp", "ascii"])
def test_other_encodings_are_decoded(tmp_path: Path, encoding: str) -> None:
    word = {"euc-jp": "日本", "ascii": "ue"}.get(encoding, "süß")
    header = f"{word},b\n".encode(encoding)
    path = put(tmp_path, header + f"{word},1\n".encode(encoding) * 50_000)
    source = one(path, len(header), 50_000)
    frame = reader_of(header, encoding=encoding).read(source, 50_000).data
    assert list(frame.columns) == [word, "b"]
    assert set(frame[word]) == {word}


def test_trailing_separators_are_no_field(tmp_path: Path) -> None:
    path = put(tmp_path, b"a,b\n1,2,\n3,4,\n")
    frame = reader_of(b"a,b\n").read(one(path, 4, 2), 2).data
    assert frame.to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def zst(data: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").compress(data))


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("a.csv.gz", gzip.compress),
    ("a.csv.bz2", bz2.compress),
    ("a.csv.xz", lzma.compress),
    ("a.csv.zst", zst),
    ("a.csv", bytes),
]


@pytest.mark.parametrize(("name", "pack"), PACKERS, ids=[name for name, _ in PACKERS])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_whole_files_are_read_as_streams(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes], encoding: str
) -> None:
    rows = "".join(f"{n},é\n" for n in range(30_000))
    path = put(tmp_path, pack(f"a,b\n{rows}".encode(encoding)), name)
    batch = reader_of(encoding=encoding).read(whole(path, 30_000), 30_000)
    assert batch.data["a"].tolist() == list(range(30_000))
    assert set(batch.data["b"]) == {"é"}


def test_whole_files_of_which_only_the_first_has_a_header(tmp_path: Path) -> None:
    first = put(tmp_path, gzip.compress("a,b\n1,2\n".encode("utf-16")), "1.gz")
    second = put(tmp_path, gzip.compress("3,4\n".encode("utf-16")), "2.gz")
    setup = CsvSetup("a,b\n".encode("utf-16"), first_file=bytes(first))
    reader = open_reader(CsvOptions(header="first", encoding="utf-16"), msgspec.msgpack.encode(setup))
    assert reader.read(whole(first, 1), 1).data.to_dict("list") == {"a": [1], "b": [2]}
    assert reader.read(whole(second, 1), 1).data.to_dict("list") == {"a": [3], "b": [4]}


def test_whole_files_without_header(tmp_path: Path) -> None:
    path = put(tmp_path, gzip.compress(b"1,2\n3,4\n"), "1.gz")
    assert list(reader_of(header="none", columns=["1"]).read(whole(path, 2), 2).data[1]) == [2, 4]
    assert list(reader_of(header="none", names=["x", "y"]).read(whole(path, 2), 2).data["x"]) == [1, 3]


def test_a_text_ends_only_at_its_end() -> None:
    blocks = list("ab\u20ac".encode("utf-16"))
    text = Text(lambda size: bytes([blocks.pop(0)]) if blocks else b"", "utf-16", at_beginning=True)
    assert [text.read(1) for _ in range(4)] == ["a", "b", "\u20ac", ""]


# What cannot be read ----------------------------------------------------------------------------------------


def refused(reader: Reader, source: Slice) -> str:
    with pytest.raises(Unreadable) as caught:
        reader.read(source, source.rows)
    return str(caught.value)


def test_a_file_that_has_changed_is_told_of(tmp_path: Path) -> None:
    path = put(tmp_path, b"a\n1\n2\n3\n")
    reader = reader_of(b"a\n")
    assert "has 3 rows where 4 were planned" in refused(reader, one(path, 2, 4))
    assert "has 3 rows where 2 were planned" in refused(reader, one(path, 2, 2))
    assert "ends at byte 8" in refused(reader, Slice(bytes(path), 2, 10, 0, 4))
    missing = tmp_path / "b.csv"
    words = refused(reader, Slice(bytes(missing), 2, 10, 0, 4))
    assert "b.csv' does not exist" in words


def test_damaged_archives_are_told_of(tmp_path: Path) -> None:
    packed = gzip.compress(b"a\n" + b"".join(b"%d\n" % (n * 7919) for n in range(1000)))
    path = put(tmp_path, packed[:-200], "a.csv.gz")
    assert "damaged or truncated" in refused(reader_of(), whole(path, 1000))
    path = put(tmp_path, b"no gzip", "b.csv.gz")
    assert "b.csv.gz'" in refused(reader_of(), whole(path, 1000))
    path = put(tmp_path, zst(b"a\n" + b"1\n" * 1000)[:-4], "c.csv.zst")
    assert "c.csv.zst'" in refused(reader_of(), whole(path, 1000))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": ["zebra"]}, "zebra"),
        ({"parse_dates": ["zebra"]}, "zebra"),
        ({"dtype": {"a": "nonsense"}}, "nonsense"),
        ({"dtype": {"a": "datetime64[ns]"}}, "parse_dates"),
    ],
)
def test_options_that_do_not_fit_are_no_fault_of_the_records(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    path = put(tmp_path, b"a,b\n1,2\n3,4\n")
    text = refused(reader_of(header="each", **options), one(path, 4, 2))
    assert words in text
    assert "a.csv" in text


def test_the_file_read_last_stays_open_and_is_closed(tmp_path: Path) -> None:
    path = put(tmp_path, b"a\n1\n2\n")
    reader = reader_of(b"a\n")
    batch: Batch = reader.read(one(path, 2, 2), 2)
    path.unlink()
    again = reader.read(Slice(bytes(path), 4, 6, 1, 1), 1)
    assert (list(batch.data["a"]), list(again.data["a"])) == ([1, 2], [2])
    reader.close()
    reader.close()
    assert "does not exist" in refused(reader, Slice(bytes(path), 4, 6, 1, 1))
