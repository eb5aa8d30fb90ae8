from __future__ import annotations

import os
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.tables import ByRows, BySize, MiniBatchSize, ParquetOptions
from mpibatch.inputs import parquet_groups
from mpibatch.inputs.parquet_groups import RowGroups
from mpibatch.inputs.parquet_reader import open_reader
from mpibatch.inputs.parquet_survey import Answer, Question, answer, survey
from mpibatch.inputs.survey import Surveyed, TableFile, Unreadable
from mpibatch.work import Slice

ALL = ParquetOptions()
MEGABYTE = BySize(10**6)


def ask(questions: Sequence[Any]) -> list[Any]:
    """Answers as they come back from a worker: both ways in bytes."""
    asked = [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Question) for one in questions]
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(answer(one)), type=Answer) for one in asked]


def files_of(*paths: Path) -> list[TableFile]:
    return [TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path)) for path in paths]


def surveyed(*paths: Path, size: MiniBatchSize = MEGABYTE, options: ParquetOptions = ALL) -> Surveyed:
    return survey(files_of(*paths), options, size, ask, origin="job.yaml: inputs.0.parquet")


def slices(path: Path, cut: Any) -> list[Slice]:
    return [
        Slice(os.fsencode(path), int(start), int(start + rows), int(start), int(rows))
        for start, rows in zip(cut.starts, cut.rows)
    ]


def read_all(
    *paths: Path, size: MiniBatchSize = MEGABYTE, options: ParquetOptions = ALL
) -> list[pd.DataFrame]:
    found = surveyed(*paths, size=size, options=options)
    reader = open_reader(options, found.setup)
    frames = []
    for path, cut in zip(paths, found.cuts):
        for source in slices(path, cut):
            batch = reader.read(source, source.rows)
            assert batch.bad == []
            frames.append(batch.data)
    reader.close()
    return frames


def check_equal(frames: Sequence[pd.DataFrame], expected: pd.DataFrame) -> None:
    for frame in frames:
        assert isinstance(frame.index, pd.RangeIndex)
        assert (frame.index.start, frame.index.step) == (0, 1)
    whole = pd.concat(frames, ignore_index=True) if frames else expected[:0]
    # Categories of a part may be fewer, and ints without a missing value among them stay ints.
    pd.testing.assert_frame_equal(
        whole.astype(object),
        expected.reset_index(drop=True).astype(object),
    )


INTEGERS = st.integers(-(2**53), 2**53)
TEXT = st.text(max_size=5)
TYPES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), INTEGERS),
    (pa.int8(), st.integers(-128, 127)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), TEXT),
    (pa.binary(), st.binary(max_size=4)),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", "c"])),
    (pa.timestamp("us"), st.datetimes()),
    (pa.date32(), st.dates()),
    (pa.list_(pa.int64()), st.lists(INTEGERS, max_size=3)),
    (pa.struct([("u", pa.int64()), ("v", pa.string())]), st.fixed_dictionaries({"u": INTEGERS, "v": TEXT})),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 40))
    names = draw(
        st.lists(
            st.text(string.ascii_letters + " _é.", min_size=1, max_size=4),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    columns = []
    for _ in names:
        kind, values = draw(st.sampled_from(TYPES))
        missing = draw(st.booleans())
        some = st.none() | values if missing else values
        columns.append(pa.array(draw(st.lists(some, min_size=rows, max_size=rows)), kind))
    return pa.table(dict(zip(names, columns)))


@given(
    tables(),
    st.integers(1, 50),
    st.one_of(st.builds(ByRows, st.integers(1, 50)), st.builds(BySize, st.integers(1, 2000))),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_the_mini_batches_are_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    table: pa.Table,
    group: int,
    size: MiniBatchSize,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("any") / "t.parquet"
    pq.write_table(table, path, row_group_size=group)
    columns = data.draw(st.none() | st.permutations(table.column_names).map(lambda names: names[:2]))
    frames = read_all(path, size=size, options=ParquetOptions(columns=columns))
    expected = pq.read_table(path, partitioning=None).select(columns or table.column_names).to_pandas()
    check_equal(frames, expected)
    if isinstance(size, ByRows):
        assert all(len(frame) == size.rows for frame in frames[:-1])


@given(tables(), st.integers(1, 20), st.integers(1, 8), st.integers(1, 400), st.data())
@settings(max_examples=100, deadline=None)
def test_ranges_in_any_order_of_row_groups_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    table: pa.Table,
    group: int,
    unit: int,
    most_kept: int,
    data: st.DataObject,
) -> None:
    """Row groups that are kept, and those that are read as a stream, forwards and back."""
    path = tmp_path_factory.mktemp("any") / "t.parquet"
    pq.write_table(table, path, row_group_size=group)
    expected = pq.read_table(path, partitioning=None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parquet_groups, "_MOST_KEPT", most_kept)
        patched.setattr(parquet_groups, "_BATCH", most_kept // 4)
        patched.setattr(parquet_groups, "_SURELY_SMALL", (0, 0))
        file = RowGroups(os.fsencode(path), table.column_names)
        assert file.rows == table.num_rows
        for _ in range(data.draw(st.integers(1, 8)) if table.num_rows else 0):
            start = data.draw(st.integers(0, table.num_rows - 1))
            stop = data.draw(st.integers(start + 1, table.num_rows))
            found = file.read(start, stop, unit)
            assert found.to_pylist() == expected.slice(start, stop - start).to_pylist()
        file.close()


def test_a_large_row_group_is_decoded_once_and_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = 1_000_000
    table = pa.table(
        {"a": np.arange(rows), "b": np.random.default_rng(1).random(rows), "t": ["some text"] * rows}
    )
    pq.write_table(table, path, row_group_size=rows)
    decoded = 0
    original = RowGroups._batches

    def counting(self: RowGroups, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        nonlocal decoded
        for batch in original(self, group, rows):
            decoded += batch.num_rows
            yield batch

    del table
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RowGroups, "_batches", counting)
        patched.setattr(parquet_groups, "_MOST_KEPT", 2**20)
        patched.setattr(parquet_groups, "_BATCH", 2**18)
        file = RowGroups(os.fsencode(path), ["a", "b", "t"])
        before, most, end = pa.total_allocated_bytes(), 0, 0
        for start in range(0, rows, 4_000):
            found = file.read(start, min(rows, start + 4_000), 4_000)
            assert found.column("a")[0].as_py() == start
            again = file.read(start + 5, min(rows, start + 100), 4_000)
            assert again.column("a")[0].as_py() == start + 5
            end += found.num_rows
            most = max(most, pa.total_allocated_bytes() - before)
        file.close()
    assert end == rows
    assert rows <= decoded <= rows + 1024
    assert most < 10 * 2**20  # Of 29 decoded; three pages among it.


def test_a_row_group_that_turns_out_large_is_not_kept(tmp_path: Path) -> None:
    """Its first rows are short, and so is what is stored of the others."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": ["a"] * 2000 + ["b" * 2000] * 2000}), path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parquet_groups, "_SURELY_SMALL", (0, 0))
        patched.setattr(parquet_groups, "_MOST_KEPT", 2**20)
        patched.setattr(parquet_groups, "_BATCH", 2**18)
        before = pa.total_allocated_bytes()
        file = RowGroups(os.fsencode(path), ["a"])
        for start in (1990, 2500):
            last = file.read(start, start + 20, 20).column("a")[-1].as_py()
            assert last == "b" * 2000
            assert pa.total_allocated_bytes() - before < 2**20
        file.close()


def test_columns_are_those_of_the_job_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    inner = pa.array([{"x": 1, "y": 2}, {"x": 3, "y": 4}])
    pq.write_table(pa.table({"a": [1, 2], "b.x": [5, 6], "b": inner, "c": [7, 8]}), path)
    (frame,) = read_all(path, options=ParquetOptions(columns=["c", "b", "a"]))
    assert frame.columns.tolist() == ["c", "b", "a"]
    assert frame.to_dict("list") == {"c": [7, 8], "b": inner.to_pylist(), "a": [1, 2]}
    (frame,) = read_all(path, options=ParquetOptions(columns=["c", "b.x"]))
    assert frame.to_dict("list") == {"c": [7, 8], "b.x": [5, 6]}


def test_dtypes_and_indexes_of_pandas(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame(
        {
            "nullable": pd.array([1, None, 3, 4], dtype="Int64"),
            "flag": pd.array([True, None, False, True], dtype="boolean"),
            "text": ["a", None, "c", "d"],
            "when": pd.date_range("2024-01-01", periods=4, tz="Europe/Berlin"),
            "period": pd.period_range("2024-01", periods=4, freq="M"),
            "kind": pd.Categorical(["x", "y", "x", "x"], ordered=True),
        },
        index=pd.Index([7, 3, 9, 1], name="key"),
    )
    frame.to_parquet(path)
    expected = pd.read_parquet(path).reset_index()
    frames = read_all(path, size=ByRows(3))
    assert frames[0].columns.tolist() == [*expected.columns[1:], "key"]
    for name in expected.columns:
        assert [part[name].dtype for part in frames] == [expected[name].dtype] * 2
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True)[expected.columns], expected)
    frame.set_axis([5, 6, 7, 8]).to_parquet(path)
    (read,) = read_all(path)
    assert read["__index_level_0__"].tolist() == [5, 6, 7, 8]
    frame.reset_index().to_parquet(path)
    (read,) = read_all(path)
    pd.testing.assert_frame_equal(read, frame.reset_index())


def test_types_of_all_files_become_one(tmp_path: Path) -> None:
    columns: list[dict[str, Any]] = [
        {
            "i": pa.array([1], pa.int32()),
            "f": pa.array([1], pa.int64()),
            "n": pa.array([None], pa.null()),
            "c": ["x"],
        },
        {
            "c": pa.array(["y"]).dictionary_encode(),
            "n": ["text"],
            "i": pa.array([2**40]),
            "f": pa.array([1.5]),
        },
    ]
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    for path, table in zip(paths, columns):
        pq.write_table(pa.table(table), path)
    frames = read_all(*paths)
    assert [frame.columns.tolist() for frame in frames] == [["i", "f", "n", "c"]] * 2
    assert frames[0].dtypes.tolist() == frames[1].dtypes.tolist()
    assert [str(dtype) for dtype in frames[0].dtypes[:2]] == ["int64", "float64"]
    assert frames[1].iloc[0].tolist() == [2**40, 1.5, "text", "y"]
    assert frames[0].iloc[0].isna().tolist() == [False, False, True, False]


def test_a_value_that_does_not_fit_makes_the_mini_batch_unreadable(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.parquet" for number in range(2)]
    pq.write_table(pa.table({"a": pa.array([2**55], pa.timestamp("ms"))}), paths[0])
    pq.write_table(pa.table({"a": pa.array([1], pa.timestamp("ns"))}), paths[1])
    found = surveyed(*paths)
    reader = open_reader(ALL, found.setup)
    with pytest.raises(Unreadable, match=r"0\.parquet' cannot be read.*out of bounds"):
        reader.read(slices(paths[0], found.cuts[0])[0], 1)
    assert len(reader.read(slices(paths[1], found.cuts[1])[0], 1).data) == 1


def written(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_names_of_folders_become_columns(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "year=2023" / "x" / "site=A%2FB" / "t.parquet", a=[1, 2]),
        written(tmp_path / "year=-7" / "x" / "site=5" / "t.parquet", a=[3]),
        written(tmp_path / "year=0" / "x" / "site=__HIVE_DEFAULT_PARTITION__" / "t.parquet", a=[4]),
    ]
    frames = read_all(*paths)
    assert [frame.columns.tolist() for frame in frames] == [["a", "year", "site"]] * 3
    assert {str(frame["year"].dtype) for frame in frames} == {"int64"}
    assert len({frame["site"].dtype for frame in frames}) == 1
    assert frames[0].to_dict("list") == {"a": [1, 2], "year": [2023, 2023], "site": ["A/B", "A/B"]}
    assert frames[1].iloc[0].tolist() == [3, -7, "5"]
    assert frames[2]["site"].isna().all()
    (frame, *_) = read_all(*paths, options=ParquetOptions(columns=["year", "a"]))
    assert frame.to_dict("list") == {"year": [2023, 2023], "a": [1, 2]}
    (frame, *_) = read_all(*paths, options=ParquetOptions(columns=["year"]))
    assert frame.to_dict("list") == {"year": [2023, 2023]}
    (frame, *_) = read_all(*paths, options=ParquetOptions(hive=False))
    assert frame.columns.tolist() == ["a"]


def test_a_column_of_the_files_goes_before_one_of_the_folders(tmp_path: Path) -> None:
    path = written(tmp_path / "k=1" / "t.parquet", k=[5], a=[6])
    (frame,) = read_all(path)
    assert frame.to_dict("list") == {"k": [5], "a": [6]}
    (warning,) = surveyed(path).warnings
    assert "column k is in the files and in the names of their folders" in warning


def test_a_piece_of_a_mini_batch(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": range(100)}), path, row_group_size=30)
    reader = open_reader(ALL, surveyed(path).setup)
    source = Slice(os.fsencode(path), 20, 90, 20, 70, skip=5)
    assert reader.read(source, 40).data["a"].tolist() == list(range(25, 65))
    reader.close()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("gone", "No such file or directory"),
        ("truncated", "footer|magic"),
        ("no column", "column a is not there"),
        ("fewer rows", "it has 3 rows, while rows 0 to 9 were planned"),
        ("damaged", "."),
    ],
)
def test_a_file_that_has_changed_is_unreadable_until_it_is_back(tmp_path: Path, how: str, words: str) -> None:
    path = written(tmp_path / "t.parquet", a=[str(number) * 50 for number in range(9)])
    content = path.read_bytes()
    found = surveyed(path)
    reader = open_reader(ALL, found.setup)
    (source,) = slices(path, found.cuts[0])
    match how:
        case "gone":
            path.unlink()
        case "truncated":
            os.truncate(path, len(content) // 2)
        case "no column":
            written(path, b=list(range(9)))
        case "fewer rows":
            written(path, a=["x"] * 3)
        case _:
            path.write_bytes(content[:4] + bytes(200) + content[204:])
    with pytest.raises(
        Unreadable, match=f"t.parquet' cannot be read as it was planned: .*{words}.*Has it changed"
    ):
        reader.read(source, 9)
    back = tmp_path / "back"
    back.write_bytes(content)
    back.rename(path)  # Another file of the same name: what is open is not it.
    assert reader.read(source, 9).data["a"].tolist() == [str(number) * 50 for number in range(9)]
    reader.close()


def test_one_file_is_open_at_a_time(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{number}.parquet", a=[number]) for number in range(3)]
    reader = open_reader(ALL, surveyed(*paths).setup)
    before = len(os.listdir("/proc/self/fd"))
    for number in (0, 1, 2, 0):
        source = Slice(os.fsencode(paths[number]), 0, 1, 0, 1)
        assert reader.read(source, 1).data["a"].tolist() == [number]
        assert len(os.listdir("/proc/self/fd")) == before + 1
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before
