"""Any bytes as a CSV file: an error in words, or cuts that cover the file, of which the reader returns each record
that was planned, as a row or as a bad item."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
from fuzzing import damaged, fuzz
from hypothesis import assume, given
from hypothesis import strategies as st

from mpibatch.core.tables import ByRows, BySize, CsvOptions, MiniBatchSize
from mpibatch.errors import InputError
from mpibatch.inputs.csv_cuts import Limits
from mpibatch.inputs.csv_reader import open_reader
from mpibatch.inputs.csv_survey import answer, survey
from mpibatch.inputs.survey import Cut, Reader, Surveyed, TableFile, Unreadable
from mpibatch.work import Slice

ORIGIN = "job.yaml: inputs.0.csv"
PARTS = [
    *(
        b",",
        b";",
        b"\t",
        b" ",
        b'"',
        b'""',
        b'",',
        b',"',
        b"'",
        b"\\",
        b"\\\\",
        b"|",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
    ),
    *(
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xff",
        b"\xc3",
        b"\xc3\xa9",
        b"\x80",
        b"\x1a",
        b"\x1c",
        b"\x85",
        b"a",
    ),
    *(b"1", b"-2.5", b"1e400", b"NA", b"nan", b"2024-01-01", b"x" * 70, b"True", b"0x1F", b"9" * 30),
]
HEADERS: list[Literal["all", "first", "none", "each"]] = ["all", "first", "none", "each"]
nasty = st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join)
fields = st.sampled_from([b"a", b"1", b'"b,c"', b'"d\ne"', b"", b"2.5"])
tidy = st.lists(st.lists(fields, min_size=3, max_size=3), min_size=1, max_size=12).map(
    lambda rows: b"".join(b",".join(row) + b"\n" for row in rows)
)
contents = st.binary(max_size=120) | nasty | tidy | tidy.flatmap(damaged) | nasty.map(b"\xef\xbb\xbf".__add__)
characters = st.sampled_from([",", ";", "\t", " ", "|", "'", '"', "\\", "a", "1", "\x01", "\x7f", "."])
sizes = st.integers(1, 60).map(BySize) | st.just(BySize(1 << 20)) | st.integers(1, 7).map(ByRows)
parts = st.tuples(st.integers(0, 9), st.integers(0, 9))
limits = st.builds(Limits, block=st.integers(1, 50) | st.just(1 << 20), piece=st.integers(1, 100))


@st.composite
def csv_options(draw: st.DrawFn) -> CsvOptions:
    sep, quote, escape = (
        draw(characters), draw(st.none() | st.just('"') | characters), draw(st.none() | st.none() | characters)
    )  # fmt: skip
    assume(
        len({sep, quote, escape} - {None}) == 3 - [quote, escape].count(None)
    )  # As the job file's check has it.
    header = draw(st.sampled_from(HEADERS))
    names = ["a", "b", "c"] if header == "none" and draw(st.booleans()) else None
    columns = draw(st.sampled_from([None, None, ["a"], ["c", "a"]])) if names else None
    dtype: Any = draw(
        st.sampled_from([None, None, "str", "from_first_rows", {"a": "Int64"}, {"a": "float64"}])
    )
    if isinstance(dtype, dict) and not names:
        dtype = None
    return CsvOptions(
        header=header,
        names=names,
        sep=sep,
        quotechar=quote,
        escapechar=escape,
        encoding=draw(st.sampled_from(["utf-8"] * 4 + ["latin-1", "cp1252", "utf-16", "shift_jis", "ascii"])),
        columns=columns,
        dtype=dtype,
        parse_dates=["a"] if names and columns is None and draw(st.integers(0, 5)) == 0 else [],
        na_values=draw(st.sampled_from([[], ["a", "1"]])),
        thousands=draw(st.sampled_from([None, None, "'"])) if "'" not in (sep, quote, escape) else None,
        multiline=draw(st.sampled_from([True, True, False])),
    )


def ask(questions: Sequence[Any]) -> list[Any]:
    return [answer(question) for question in questions]


def surveyed(paths: list[Path], options: CsvOptions, size: MiniBatchSize, limits: Limits) -> Surveyed | None:
    """None: refused, in words that say where."""
    files = [TableFile(path=bytes(path), size=path.stat().st_size, name=bytes(path)) for path in paths]
    try:
        return survey(files, options, size, ask, origin=ORIGIN, unpack_to=None, limits=limits)
    except InputError as error:
        assert "inputs.0.csv" in str(error), error
        return None


def check_cut(cut: Cut, size: int) -> None:
    """The mini-batches follow each other to the file's end; before the first there is no record but the header."""
    if cut.error is not None:
        assert cut.error.strip() and cut.rows.tolist() == [1]  # It counts as one item.
        return
    starts, rows = cut.starts.tolist(), cut.rows.tolist()
    assert len(rows) == max(0, len(starts) - 1)
    assert all(count > 0 for count in rows)
    assert all(start < stop for start, stop in pairwise(starts))
    if starts:
        assert starts[-1] == size and starts[0] >= 0
        assert not cut.whole or starts == [0, size]


def check_read(reader: Reader, path: Path, cut: Cut, part: tuple[int, int]) -> None:
    row = 0
    for (start, stop), rows in zip(pairwise(cut.starts.tolist()), cut.rows.tolist()):
        whole = Slice(bytes(path), start, stop, row, rows, whole=cut.whole)
        back = read(reader, whole, rows)
        skip = part[0] % rows
        count = min(1 + part[1] % rows, rows - skip)
        some = read(reader, msgspec.structs.replace(whole, skip=skip), count)
        assert (back is None) == (some is None)
        if back is not None and some is not None:
            # What is good of a piece is what is good of these rows in the whole.
            assert some == [position - skip for position in back if skip <= position < skip + count]
        row += rows


def read(reader: Reader, source: Slice, count: int) -> list[int] | None:
    """Positions of what could not be read; None where all of it is refused, in words."""
    try:
        batch = reader.read(source, count)
    except Unreadable as error:
        assert str(error).strip()
        return None
    bad = [one.position for one in batch.bad]
    assert len(batch.data) + len(bad) == count, (len(batch.data), bad, count)
    assert bad == sorted(set(bad)) and all(0 <= position < count for position in bad)
    assert all(one.error.message for one in batch.bad)
    return bad


@fuzz(250)
@given(st.lists(contents, min_size=1, max_size=2), csv_options(), sizes, limits, parts)
def test_any_bytes_are_cut_and_read_as_planned(
    datas: list[bytes], options: CsvOptions, size: MiniBatchSize, limits: Limits, part: tuple[int, int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.csv") for number in range(len(datas))]
        for path, data in zip(paths, datas):
            path.write_bytes(data)
        found = surveyed(paths, options, size, limits)
        if found is None:
            return
        for path, cut in zip(paths, found.cuts):
            check_cut(cut, path.stat().st_size)
        reader = open_reader(options, found.setup)
        try:
            for path, cut in zip(paths, found.cuts):
                if cut.error is None:
                    check_read(reader, path, cut, part)
        finally:
            reader.close()


@fuzz(150)
@given(tidy.flatmap(damaged), csv_options(), st.integers(1, 40), limits, st.data())
def test_cells_of_any_size_have_the_records_that_single_rows_have(
    data: bytes, options: CsvOptions, cell: int, limits: Limits, drawn: st.DataObject
) -> None:
    """Nothing between two cells is lost or comes twice."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(data)
        # The same piece, as what is remarked of a header depends on the records that are read with it.
        single = surveyed([path], options, ByRows(1), Limits(piece=limits.piece))
        cells = surveyed([path], options, BySize(cell), limits)
        assert (single is None) == (cells is None)
        if single is None or cells is None:
            return
        (one,), (other,) = single.cuts, cells.cuts
        assert one.error == other.error and one.whole == other.whole
        assert one.rows.sum() == other.rows.sum()
        if not one.whole:
            assert set(other.starts.tolist()) <= set(one.starts.tolist())


@fuzz(100)
@given(contents, csv_options(), sizes, st.sampled_from([b"", b"\x1f\x8b", b"PK\x03\x04"]), st.data())
def test_damaged_packed_files(
    data: bytes, options: CsvOptions, size: MiniBatchSize, magic: bytes, drawn: st.DataObject
) -> None:
    packed = gzip.compress(data, mtime=0)
    packed = magic + packed if magic else drawn.draw(st.just(packed) | damaged(packed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv.gz")
        path.write_bytes(packed)
        found = surveyed([path], options, size, Limits())
        if found is None:
            return
        (cut,) = found.cuts
        check_cut(cut, len(packed))
        if cut.error is None:
            reader = open_reader(options, found.setup)
            try:
                check_read(reader, path, cut, (0, 0))
            finally:
                reader.close()
