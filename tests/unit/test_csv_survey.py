"""The survey of CSV files: what pandas reads of the mini-batches is what it reads of the file."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.tables import ByRows, BySize, CsvOptions, MiniBatchSize
from mpibatch.errors import InputError, StorageError
from mpibatch.inputs.csv_cuts import NORMAL, Limits
from mpibatch.inputs.csv_encoding import scannable
from mpibatch.inputs.csv_questions import Look
from mpibatch.inputs.csv_reader import open_reader
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.csv_survey import Answer, Question, answer, survey
from mpibatch.inputs.survey import Cut, Surveyed, TableFile
from mpibatch.work import Slice

BIG, SINGLE = BySize(1 << 20), ByRows(1)
ORIGIN = "job.yaml: inputs.0.csv"


class Asked:
    """Answers questions as the workers do: each one and its answer travel as msgpack."""

    def __init__(self) -> None:
        self.questions: list[Question] = []

    def __call__(self, questions: Sequence[Any]) -> list[Any]:
        self.questions += questions
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer:
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(question), type=Question)
        reply = msgspec.msgpack.encode(answer(sent))
        assert len(reply) < 1 << 20
        received: Answer = msgspec.msgpack.decode(reply, type=Answer)
        return received


def listed(path: Path) -> TableFile:
    return TableFile(path=bytes(path), size=path.stat().st_size, name=bytes(path))


def surveyed(
    paths: Sequence[Path],
    size: MiniBatchSize = BIG,
    limits: Limits = NORMAL,
    unpack_to: Callable[[TableFile], bytes] | None = None,
    unpack_above: int = 64 << 20,
    ask: Asked | None = None,
    **options: Any,
) -> Surveyed:
    return survey(
        [listed(path) for path in paths],
        CsvOptions(**options),
        size,
        ask or Asked(),
        origin=ORIGIN,
        unpack_to=unpack_to,
        unpack_above=unpack_above,
        limits=limits,
    )


def setup_of(found: Surveyed) -> CsvSetup:
    return msgspec.msgpack.decode(found.setup, type=CsvSetup)


def frame_of(data: bytes, **settings: Any) -> pd.DataFrame:
    frame: pd.DataFrame = pd.read_csv(
        io.BytesIO(data),
        dtype=str,
        keep_default_na=False,
        index_col=False,
        engine="c",
        encoding="utf-8",
        **settings,
    )
    return frame


def check_cut(cut: Cut, size: int) -> None:
    assert cut.error is None and len(cut.rows) == max(0, len(cut.starts) - 1)
    assert (cut.rows > 0).all() and (cut.starts[1:] > cut.starts[:-1]).all()
    assert not len(cut.starts) or cut.starts[-1] == size


def check_against_pandas(data: bytes, cut: Cut, setup: CsvSetup, **settings: Any) -> None:
    """The mini-batches' frames together are the file's; and each has the rows that the survey says."""
    try:
        whole = frame_of(data, **settings)
    except pd.errors.EmptyDataError:
        assert not len(cut.rows)
        return
    frames = [
        frame_of(setup.header + data[start:stop], **settings)
        for start, stop in zip(cut.starts.tolist(), cut.starts.tolist()[1:])
    ]
    assert [len(frame) for frame in frames] == cut.rows.tolist()
    together = pd.concat(frames, ignore_index=True) if frames else whole[:0]
    pd.testing.assert_frame_equal(together, whole)


TEXT = st.text(st.sampled_from('ab,"\n\r \té;\\\x1c'), max_size=8) | st.integers().map(str)


QUOTING: list[Literal[0, 1, 2]] = [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]
ENDING: list[Literal["\n", "\r\n"]] = ["\n", "\r\n"]


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """What csv.writer or pandas writes of any table."""
    quoting, ending = draw(st.sampled_from(QUOTING)), draw(st.sampled_from(ENDING))
    text = TEXT
    if ending == "\n" and quoting == csv.QUOTE_MINIMAL:
        # Neither puts a field with a return into quotes then, though both take it for a newline when they read.
        text = TEXT.map(lambda field: field.replace("\r", ""))
    columns = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(text, min_size=columns, max_size=columns), max_size=20))
    names = [f"{draw(text)}{number}" for number in range(columns)]
    file = io.StringIO(newline="")
    if draw(st.booleans()):
        pd.DataFrame(rows, columns=names).to_csv(file, index=False, quoting=quoting, lineterminator=ending)
    else:
        writer = csv.writer(file, quoting=quoting, lineterminator=ending)
        writer.writerow(names)
        for row in rows:
            writer.writerow([] if draw(st.integers(0, 9)) == 0 else row)
    data = file.getvalue().encode()
    data = b"\xef\xbb\xbf" + data if draw(st.booleans()) else data
    return data.removesuffix(ending.encode()) if draw(st.booleans()) else data


SIZES = st.integers(1, 60).map(BySize) | st.integers(1, 7).map(ByRows)
LIMITS = st.builds(Limits, block=st.integers(1, 50) | st.just(1 << 20), piece=st.integers(1, 100))


@settings(max_examples=120, deadline=None)
@given(written(), SIZES, LIMITS)
def test_the_mini_batches_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: MiniBatchSize, limits: Limits
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    found = surveyed([path], size, limits)
    (cut,), setup = found.cuts, setup_of(found)
    check_cut(cut, len(data))
    check_against_pandas(data, cut, setup)
    assert setup.names == frame_of(data).columns.tolist()
    if isinstance(size, ByRows) and len(cut.rows):
        assert (cut.rows[:-1] == size.rows).all() and cut.rows[-1] <= size.rows


NASTY = st.lists(
    st.sampled_from([",", '"', '""', '",', ',"', "\n", "\r\n", "\r", " ", "a", "\\", "é"]), max_size=40
).map(lambda parts: "".join(parts).encode())


@settings(max_examples=120, deadline=None)
@given(NASTY, SIZES, LIMITS, st.sampled_from([None, "\\"]))
def test_texts_that_nobody_should_write(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    size: MiniBatchSize,
    limits: Limits,
    escapechar: str | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "nasty.csv"
    path.write_bytes(data)
    names = [f"c{number}" for number in range(60)]
    found = surveyed([path], size, limits, header="none", names=names, escapechar=escapechar)
    (cut,) = found.cuts
    check_cut(cut, len(data))
    try:
        frame_of(data, header=None, names=names, escapechar=escapechar)
    except pd.errors.ParserError:
        return  # It ends within quotes: how many records that is, test_csv_scan says.
    except pd.errors.EmptyDataError:
        pass
    check_against_pandas(data, cut, setup_of(found), header=None, names=names, escapechar=escapechar)


@settings(max_examples=80, deadline=None)
@given(written() | NASTY, st.integers(1, 60), LIMITS)
def test_a_mini_batch_is_what_begins_in_a_cell_of_the_grid(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int, limits: Limits
) -> None:
    path = tmp_path_factory.getbasetemp() / "grid.csv"
    path.write_bytes(data)
    options: dict[str, Any] = {"header": "none"}
    (each,) = surveyed([path], ByRows(1), limits, **options).cuts
    (cut,) = surveyed([path], BySize(size), limits, **options).cuts
    origin = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    cells: dict[int, list[int]] = {}
    for start in each.starts[:-1].tolist():
        cells.setdefault((start - origin) // size, []).append(start)
    assert cut.starts.tolist()[:-1] == [cell[0] for cell in cells.values()]
    assert cut.rows.tolist() == [len(cell) for cell in cells.values()]


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def cut_of(
    path: Path, data: bytes | str, size: MiniBatchSize = SINGLE, **options: Any
) -> tuple[list[int], list[int]]:
    write(path, data)
    (cut,) = surveyed([path], size, **options).cuts
    return cut.starts.tolist(), cut.rows.tolist()


@pytest.mark.parametrize(
    "data", ["", "\n", " \r\n", "a,b", "a,b\n", "\ufeff", "\ufeffa,b\r\n\r\n \n", "\n\na,b\n"]
)
def test_files_without_rows(tmp_path: Path, data: str) -> None:
    assert cut_of(tmp_path / "f", data) == ([], [])


def test_hand_made_files(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    assert cut_of(file, "a,b\n1,2\n3,4") == ([4, 8, 11], [1, 1])
    assert cut_of(file, "\ufeff\n\na,b\r\n\r\n1,2\r\n") == ([12, 17], [1])
    assert cut_of(file, 'a\n"x\ny"\nz\n') == ([2, 8, 10], [1, 1])
    assert cut_of(file, "1\n2\n", header="none") == ([0, 2, 4], [1, 1])
    assert cut_of(file, "1\n2\n3\n", BySize(100), header="none") == ([0, 6], [3])
    assert cut_of(file, "\ufeff1\n", header="none") == ([3, 5], [1])
    assert cut_of(file, b"\xef\xbb\xbf1\n", header="none", encoding="latin-1") == ([0, 5], [1])
    assert cut_of(file, b"\xe4\n\xff\n1\n", encoding="latin-1") == ([2, 4, 6], [1, 1])
    assert cut_of(file, 'a\n"x\ny"\n', multiline=False) == ([2, 5, 8], [1, 1])
    assert cut_of(file, 'a\n"x\ny"\n', quotechar=None) == ([2, 5, 8], [1, 1])
    assert cut_of(file, "a\n'x\ny'\n", quotechar="'") == ([2, 8], [1])
    assert cut_of(file, 'a\tb\n\t\n"\n"\t\n', sep="\t") == ([4, 6, 11], [1, 1])
    assert cut_of(file, "a\n1\r2\r\n3\n", BySize(3)) == ([2, 7, 9], [2, 1])


def test_a_file_that_ends_within_quotes_has_one_bad_record_at_its_end(tmp_path: Path) -> None:
    data = 'a,b\n1,2\n3,"4\n5,6\n7,8\n'
    for limits in (NORMAL, Limits(block=5, piece=3)):
        assert cut_of(tmp_path / "f", data, limits=limits) == ([4, 8, len(data)], [1, 1])


def test_only_the_file_that_is_not_trusted_gets_an_exact_scan(tmp_path: Path) -> None:
    good, odd = write(tmp_path / "good", 'a\n"x"\n' * 30), write(tmp_path / "odd", "a\n" + 'x"\n"y\n"\n' * 30)
    ask = Asked()
    found = surveyed([good, odd, good], ByRows(1000), Limits(block=100, piece=10), ask=ask)
    assert [cut.rows.tolist() for cut in found.cuts] == [[59], [60], [59]]
    exact = [question for question in ask.questions if getattr(question, "exact", False)]
    assert [[file.path for file in question.files] for question in exact] == [[bytes(odd)]]  # type: ignore[union-attr]


def test_many_small_files_are_few_questions(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}", f"a\n{number}\n") for number in range(300)]
    ask = Asked()
    found = surveyed(paths, ask=ask, limits=Limits(questions=3))
    assert [cut.rows.tolist() for cut in found.cuts] == [[1]] * 300
    assert len(ask.questions) == 3


def test_small_files_in_one_question_are_not_large_together(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}", f"a\n{number:06}\n") for number in range(9)]
    ask = Asked()
    assert len(surveyed(paths, ask=ask, limits=Limits(block=30, questions=1)).cuts) == 9
    assert [len(question.files) for question in ask.questions if isinstance(question, Look)] == [3, 3, 3]


def test_a_large_file_is_parted(tmp_path: Path) -> None:
    path = write(tmp_path / "large", "a,b\n" + '1,"x\ny"\n' * 1000)
    ask = Asked()
    found = surveyed([path], BySize(2000), Limits(block=1500, piece=100), ask=ask)
    check_cut(found.cuts[0], path.stat().st_size)
    assert found.cuts[0].rows.tolist() == [250] * 4
    assert len(ask.questions) == 1 + 6


# Headers


def test_header_each_and_first(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", "a,b\n1,2\n"), write(tmp_path / "2", "c\n1\n2\n")
    each = surveyed([one, two], header="each")
    assert [cut.rows.tolist() for cut in each.cuts] == [[1], [2]]
    assert setup_of(each) == CsvSetup(first_file=bytes(one))
    first = surveyed([one, two], header="first")
    assert [cut.rows.tolist() for cut in first.cuts] == [[1], [3]]
    assert setup_of(first) == CsvSetup(header=b"a,b\n", names=["a", "b"], first_file=bytes(one))


def test_a_header_without_a_newline_gets_one(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", "a,b"), write(tmp_path / "2", "1,2\n")
    assert setup_of(surveyed([one, two], header="first")).header == b"a,b\n"
    assert setup_of(surveyed([write(one, 'a,"b\nc"\r')])).header == b'a,"b\nc"\r'


def test_headers_that_mean_the_same_are_equal(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / str(number), data)
        for number, data in enumerate(["", "a,b\n1,2\n", '"a","b"\r\n3,4\r\n', "\ufeffa,b", "\n\n"])
    ]
    found = surveyed(paths)
    assert [cut.rows.tolist() for cut in found.cuts] == [[], [1], [1], [], []]
    assert setup_of(found).header == b"a,b\n"


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        (["a,b\n1,2", "a,c\n1,2"], {}, ["/1' is not that of", "/0'", "a, c", "a, b", "header: each"]),
        (["name,age\n"], {"columns": ["age", "nmae"]}, ["columns", "nmae", "did you mean name", "name, age"]),
        (["name,age\n"], {"dtype": {"agee": "int64"}}, ["dtype", "agee", "did you mean age"]),
        (["name,age\n"], {"parse_dates": ["when"]}, ["parse_dates", "when"]),
        (
            ["1,2\n"],
            {"header": "none", "names": ["x", "y"], "columns": ["z"]},
            ["names that the job gives", "x, y"],
        ),
        (["a\n", "b\n"], {"header": "each", "columns": ["c"]}, ["column c"]),
        (["", "1\n"], {"header": "first"}, ["/0'", "it is empty"]),
        (["a\n"], {"encoding": "utf-9"}, ["encoding", "utf-9"]),
        (["a\n"], {"sep": "é"}, ["sep", "ASCII"]),
    ],
)
def test_wrong_keys(tmp_path: Path, texts: list[str], options: dict[str, Any], words: list[str]) -> None:
    paths = [write(tmp_path / str(number), text) for number, text in enumerate(texts)]
    with pytest.raises(InputError) as raised:
        surveyed(paths, **options)
    assert all(word in str(raised.value) for word in [ORIGIN, *words]), str(raised.value)


def test_where_each_has_its_own_each_needs_the_columns(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", "a,b\n1,2\n"), write(tmp_path / "2", "b,c\n1,2\n")
    empty = write(tmp_path / "3", "other\n")
    assert len(surveyed([one, two, empty], header="each", columns=["b"], dtype={"a": "str"}).cuts) == 3
    wrong: list[dict[str, Any]] = [{"columns": ["b", "a"]}, {"parse_dates": ["a"]}]
    for options in wrong:
        with pytest.raises(InputError) as raised:
            surveyed([one, two, empty], header="each", **options)
        words = [next(iter(options)), "no column a in", "/2'", "there: b, c"]
        assert all(word in str(raised.value) for word in words), str(raised.value)


# Files that cannot be read


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    good = write(tmp_path / "good", "a\n1\n")
    latin = write(tmp_path / "latin", b"\xe4\n1\n")
    torn = write(tmp_path / "torn.gz", gzip.compress(b"a\n" + b"1\n" * 1000)[:-9])
    gone = write(tmp_path / "gone", "a\n1\n")
    short = write(tmp_path / "short", "a\n1\n2\n")
    files = [listed(path) for path in (good, latin, torn, gone, short)]
    gone.unlink()
    short.write_text("a\n1\n")
    found = survey(files, CsvOptions(), BySize(100), Asked(), origin=ORIGIN, unpack_to=None)
    errors = [cut.error or "" for cut in found.cuts]
    assert errors[0] == ""
    for error, words in zip(errors[1:], ["encoding utf-8", "truncated", "No such file", "ends at byte 4"]):
        assert words in error
    assert [(cut.whole, cut.rows.tolist()) for cut in found.cuts[1:]] == [(True, [1])] * 4
    (warning,) = found.warnings
    assert "4 of 5 files" in warning and "latin" in warning
    with pytest.raises(InputError, match="latin"):
        surveyed([latin])


def test_a_large_file_that_is_gone(tmp_path: Path) -> None:
    path, good = write(tmp_path / "f", "a\n" + "1\n" * 100), write(tmp_path / "g", "a\n1\n")
    files = [listed(path), listed(good)]

    def ask(questions: Sequence[Any]) -> list[Any]:
        answers = [answer(question) for question in questions]
        path.unlink(missing_ok=True)
        return answers

    found = survey(
        files, CsvOptions(), ByRows(5), ask, origin=ORIGIN, unpack_to=None, limits=Limits(block=50)
    )
    assert "No such file" in (found.cuts[0].error or "")


def test_a_header_without_an_end(tmp_path: Path) -> None:
    path, good = write(tmp_path / "f", '"a\n' + "1\n" * 100), write(tmp_path / "g", "b\n1\n")
    found = surveyed([good, path])
    assert "header cannot be read" in (found.cuts[1].error or "")


# Compressed files and encodings


def compressed(path: Path, data: bytes) -> bytes:
    import zstandard

    by_suffix: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.compress,
    }
    return by_suffix[path.suffix](data)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_is_one_mini_batch(tmp_path: Path, suffix: str) -> None:
    for data, rows in [(b'a,b\n1,"\n"\n3,4', [2]), (b'a\nx"y\n"\n"\n', [2]), (b"a\n", []), (b"", [])]:
        path = tmp_path / f"f.csv{suffix}"
        write(path, compressed(path, data))
        (cut,) = surveyed([path], ByRows(1), Limits(piece=3)).cuts
        assert cut.whole and cut.rows.tolist() == rows
        assert cut.starts.tolist() == ([0, path.stat().st_size] if rows else [])


@pytest.mark.parametrize("how", ["unpack", "large"])
def test_a_compressed_file_is_unpacked_and_cut(tmp_path: Path, how: str) -> None:
    data = b"a,b\n" + b"1,2\n" * 100
    path = tmp_path / "f.csv.gz"
    write(path, compressed(path, data))
    plain = write(tmp_path / "plain", data)
    target = tmp_path / "run" / "unpacked" / "0.csv"
    found = surveyed(
        [plain, path],
        ByRows(30),
        Limits(block=100),
        unpack_to=lambda file: bytes(target),
        unpack_above=10 if how == "large" else 1 << 20,
        unpack=how == "unpack",
    )
    assert target.read_bytes() == data
    assert found.paths == [bytes(plain), bytes(target)]
    assert [cut.rows.tolist() for cut in found.cuts] == [[30, 30, 30, 10]] * 2
    assert not found.cuts[1].whole and found.cuts[1].starts[-1] == len(data)


def test_a_damaged_archive_is_an_error_of_its_file_and_a_full_disk_one_of_the_run(tmp_path: Path) -> None:
    path, plain = tmp_path / "f.csv.gz", write(tmp_path / "plain", "a\n1\n")
    write(path, compressed(path, b"a\n1\n")[:-5])
    target = tmp_path / "run" / "0"
    found = surveyed([plain, path], unpack=True, unpack_to=lambda file: bytes(target))
    assert "truncated" in (found.cuts[1].error or "") and list(target.parent.iterdir()) == []
    write(path, compressed(path, b"a\n1\n"))
    with pytest.raises(StorageError, match="plain"):
        surveyed([path], unpack=True, unpack_to=lambda file: bytes(plain / "0"))


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-32", "shift_jis", "gb18030", "utf-7", "cp500"]
)
def test_what_cannot_be_scanned_is_one_mini_batch(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "f", 'a,b\r\n1,"\n"\r\n3,4\r\n'.encode(encoding))
    found = surveyed([path], ByRows(1), Limits(piece=3, block=5), encoding=encoding)
    (cut,) = found.cuts
    assert cut.whole and cut.rows.tolist() == [2] and cut.starts.tolist() == [0, path.stat().st_size]
    assert setup_of(found).header.decode(encoding) == "a,b\r\n"
    large = surveyed(
        [path], encoding=encoding, unpack_above=1, unpack_to=lambda file: bytes(tmp_path / "copy")
    )
    assert large.cuts[0].whole and not (tmp_path / "copy").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "shift_jis", "gb18030"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_cannot_be_scanned_is_cut_if_it_is_unpacked(tmp_path: Path, encoding: str, packed: bool) -> None:
    text = 'a,b\r\n1,"\n"\r\n3,ｱ\u4e00\r\n5,6'
    path = tmp_path / ("f.gz" if packed else "f")
    data = ("\ufeff" * (encoding == "utf-16-le") + text).encode(encoding)
    write(path, compressed(path, data) if packed else data)
    target = tmp_path / "run" / "copy"
    found = surveyed([path], ByRows(2), encoding=encoding, unpack=True, unpack_to=lambda file: bytes(target))
    (cut,), setup = found.cuts, setup_of(found)
    assert found.paths is not None and Path(os.fsdecode(found.paths[0])).read_bytes() == text.encode()
    assert not cut.whole and cut.rows.tolist() == [2, 1] and setup.encoding == "utf-8"
    reader = open_reader(CsvOptions(encoding=encoding), found.setup)
    rows = []
    for start, stop, count in zip(cut.starts.tolist(), cut.starts.tolist()[1:], cut.rows.tolist()):
        rows += reader.read(Slice(found.paths[0], start, stop, 0, count), count).data.values.tolist()
    reader.close()
    assert rows == [[1, "\n"], [3, "ｱ\u4e00"], [5, 6]]


def test_what_does_not_decode_stays_one_bad_item_in_a_copy(tmp_path: Path) -> None:
    path = write(
        tmp_path / "f", "a,b\n1,2\n".encode("utf-16-le") + b"\x00\xd8\x0a\x00" + "5,6\n".encode("utf-16-le")
    )
    found = surveyed(
        [path], encoding="utf-16-le", unpack=True, unpack_to=lambda file: bytes(tmp_path / "copy")
    )
    (cut,) = found.cuts
    assert found.paths is not None and cut.rows.tolist() == [3]
    reader = open_reader(CsvOptions(encoding="utf-16-le"), found.setup)
    batch = reader.read(Slice(found.paths[0], int(cut.starts[0]), int(cut.starts[1]), 0, 3), 3)
    reader.close()
    assert batch.data.values.tolist() == [[1, 2], [5, 6]]
    (bad,) = batch.bad
    assert bad.position == 1 and "no utf-16-le" in bad.error.message


def test_a_copy_of_another_encoding_is_not_taken_for_this_one(tmp_path: Path) -> None:
    path = write(tmp_path / "f", "aé,b\n1,2\n".encode("utf-16-le"))
    copies = [
        surveyed([path], encoding=name, unpack=True, unpack_to=lambda file: bytes(tmp_path / "copy")).paths
        for name in ("utf-16-le", "utf-16-be", "UTF_16LE")
    ]
    assert copies[0] == copies[2] != copies[1]


@pytest.mark.parametrize("unpack", [False, True])
def test_utf_16_whose_order_of_bytes_nothing_tells(tmp_path: Path, unpack: bool) -> None:
    path = write(tmp_path / "f", "a,b\n1,2\n".encode("utf-16-le"))
    with pytest.raises(InputError, match=r"not in the encoding that the job says: .*BOM"):
        surveyed([path], encoding="utf-16", unpack=unpack, unpack_to=lambda file: bytes(tmp_path / "copy"))
    assert list(tmp_path.iterdir()) == [path]


SCANNABLE = (
    "utf-8 UTF8 utf-8-sig ascii latin-1 iso8859-15 cp1252 cp1251 koi8-r mac-roman euc-jp euc-kr gb2312"
)
OTHERS = "utf-16 utf-32 shift_jis cp932 gbk gb18030 big5 johab cp949 utf-7 iso2022-jp hz cp037 cp500"


def test_which_encodings_can_be_scanned() -> None:
    assert [name for name in SCANNABLE.split() if not scannable(name)] == []
    assert [name for name in OTHERS.split() if scannable(name)] == []


# Dtypes


def test_dtypes_from_the_first_rows(tmp_path: Path) -> None:
    data = "i,f,s,b,d,n\n" + "1,1.5,x,True,2020-01-01,\n" * 1000 + "x,x,x,x,x,x\n"
    empty, path = write(tmp_path / "0", "i,f,s,b,d,n\n"), write(tmp_path / "1", data)
    found = surveyed([empty, path], dtype="from_first_rows", parse_dates=["d"])
    text = str(pd.Series(["x"]).dtype)
    assert setup_of(found).dtypes == {"i": "int64", "f": "float64", "s": text, "b": "bool"}
    archive = write(tmp_path / "2.gz", gzip.compress(data.encode()))
    assert setup_of(surveyed([archive], dtype="from_first_rows", columns=["f", "i"])).dtypes == {
        "i": "int64",
        "f": "float64",
    }


def test_dtypes_where_there_is_nothing_to_infer_them_from(tmp_path: Path) -> None:
    path = write(tmp_path / "f", "a\n")
    assert setup_of(surveyed([path], dtype="from_first_rows")).dtypes is None
    broken = write(tmp_path / "g", 'a\n1\n"2\n')
    assert setup_of(surveyed([broken], dtype="from_first_rows")).dtypes is None
