from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.tables import ByRows, BySize, MiniBatchSize, ParquetOptions
from mpibatch.errors import InputError
from mpibatch.inputs.parquet_cuts import cut_by_size
from mpibatch.inputs.parquet_hive import is_whole_number, partition, partition_columns
from mpibatch.inputs.parquet_survey import Answer, Question, answer, survey
from mpibatch.inputs.survey import Surveyed, TableFile


def ask(questions: Sequence[Any]) -> list[Any]:
    """Answers as they come back from a worker: both ways in bytes."""
    asked = [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Question) for one in questions]
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(answer(one)), type=Answer) for one in asked]


MEGABYTE = BySize(10**6)


def surveyed(*paths: Path, size: MiniBatchSize = MEGABYTE, **options: Any) -> Surveyed:
    files = [TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path)) for path in paths]
    return survey(files, ParquetOptions(**options), size, ask, origin="job.yaml: inputs.0.parquet")


def write(path: Path, row_group_size: int | None = None, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def starts(found: Surveyed) -> list[list[int]]:
    for cut in found.cuts:
        assert len(cut.rows) == max(0, len(cut.starts) - 1)
        assert np.diff(cut.starts).tolist() == cut.rows.tolist()
    return [cut.starts.tolist() for cut in found.cuts]


@pytest.mark.parametrize(
    ("groups", "target", "expected"),
    [
        ([], 4, [0]),
        ([0], 4, [0]),
        ([3], 4, [0, 3]),
        ([4], 4, [0, 4]),
        ([5], 4, [0, 5]),
        ([7], 4, [0, 4, 7]),
        ([12], 4, [0, 4, 8, 12]),
        ([14], 4, [0, 4, 8, 11, 14]),
        ([1] * 9, 4, [0, 4, 8, 9]),
        ([3, 3, 3], 4, [0, 3, 6, 9]),
        ([2, 3, 2, 3], 4, [0, 5, 10]),
        ([1, 8, 1], 4, [0, 1, 5, 9, 10]),
        ([0, 2, 0, 2, 0], 4, [0, 4]),
        ([2, 2, 0, 8], 4, [0, 4, 8, 12]),
        ([1, 6], 4, [0, 1, 4, 7]),
        ([3], 1, [0, 1, 2, 3]),
    ],
)
def test_row_groups_are_divided_evenly_or_joined(groups: list[int], target: int, expected: list[int]) -> None:
    """Of rows of 10 bytes."""
    found = cut_by_size(np.array(groups, dtype=np.int64), 10 * sum(groups), 10 * target)
    assert found.tolist() == expected


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(1, 100), st.integers(1, 500))
@settings(max_examples=400, deadline=None)
def test_mini_batches_are_about_as_large_as_they_should_be(groups: list[int], row: int, target: int) -> None:
    rows = sum(groups)
    found = cut_by_size(np.array(groups, dtype=np.int64), row * rows, target)
    assert found[0] == 0 and found[-1] == rows
    counts = np.diff(found).tolist()
    assert all(count > 0 for count in counts)
    wanted = max(1, round(target / row))
    assert all(count <= 1.5 * wanted + 1 for count in counts)
    ends = set(np.cumsum(groups).tolist())
    small = [number for number, count in enumerate(counts) if count < wanted / 2 - 1]
    # Only what stands before a large row group, or at the end, is much smaller.
    assert all(int(found[number + 1]) in ends for number in small)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(ByRows(4), [0, 4, 8, 10]), (ByRows(10), [0, 10]), (ByRows(11), [0, 10]), (BySize(10**9), [0, 10])],
)
def test_cuts_by_rows_cross_row_groups(tmp_path: Path, size: MiniBatchSize, expected: list[int]) -> None:
    path = write(tmp_path / "t.parquet", 3, a=list(range(10)))
    assert starts(surveyed(path, size=size)) == [expected]


def test_a_row_is_as_large_as_the_columns_that_are_read(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).random((2, 30_000))
    text = pa.array(["x" * 10 + str(number) for number in range(30_000)])
    nested = pa.array([{"u": one, "v": [two]} for one, two in rows.T])
    path = tmp_path / "t.parquet"
    table = pa.table({"a": rows[0], "b": text, "c": nested, "d": text})
    pq.write_table(table, path, use_dictionary=False)
    counts = {
        names: len(surveyed(path, size=BySize(80_000), columns=list(names)).cuts[0].rows)
        for names in ("a", "b", "c", "d", "ac", "abcd")
    }
    assert counts["a"] == 3
    assert 5 <= counts["b"] == counts["d"] <= 8
    assert 6 <= counts["c"] <= 8
    assert abs(counts["ac"] - counts["a"] - counts["c"]) <= 1
    assert abs(counts["abcd"] - counts["ac"] - 2 * counts["b"]) <= 2
    assert len(surveyed(path, size=BySize(80_000)).cuts[0].rows) == counts["abcd"]


def test_values_that_are_stored_in_little_count_with_their_width(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", a=np.zeros(100_000, dtype=np.int64))
    assert path.stat().st_size < 10_000
    assert starts(surveyed(path, size=BySize(400_000))) == [[0, 50_000, 100_000]]


def test_a_file_without_rows_has_no_mini_batch(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "0.parquet", a=pa.array([], pa.int64())),
        write(tmp_path / "1.parquet", a=[1, 2]),
    ]
    for size in (BySize(100), ByRows(5)):
        found = surveyed(*paths, size=size)
        assert starts(found) == [[], [0, 2]]
        assert found.warnings == []
    assert starts(surveyed(paths[0])) == [[]]


def test_files_that_cannot_be_read_are_items_that_fail(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", a=list(range(1000)))
    cut_short = write(tmp_path / "short.parquet", a=list(range(1000)))
    os.truncate(cut_short, 2000)
    none = [tmp_path / f"none{number}.parquet" for number in range(4)]
    for path in none:
        path.write_bytes(b"")
    found = surveyed(cut_short, good, *none)
    assert [cut.error is None for cut in found.cuts] == [False, True, False, False, False, False]
    for cut in (found.cuts[0], found.cuts[2]):
        assert (cut.starts.tolist(), cut.rows.tolist(), cut.whole) == ([0, 1], [1], True)
    (warning,) = found.warnings
    assert "5 of 6 files cannot be read" in warning and "and 2 more" in warning and "\n" not in warning
    assert "short.parquet" in warning and "none1.parquet" in warning
    with pytest.raises(InputError, match=r"The only file cannot be read: .*short\.parquet"):
        surveyed(cut_short)
    with pytest.raises(InputError, match=r"None of the 4 files can be read: .*; and 1 more"):
        surveyed(*none)


def test_many_files_are_few_questions(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", a=[1, 2, 3])
    file = TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path))
    questions: list[Question] = []
    answers: list[Answer] = []

    def counted(asked: Sequence[Any]) -> list[Any]:
        questions.extend(asked)
        answers.extend(ask(asked))
        return list(answers)

    found = survey([file] * 1000, ParquetOptions(), ByRows(2), counted, origin="o")
    assert starts(found) == [[0, 2, 3]] * 1000
    assert len(questions) == 63
    assert all(len(one.schemas) == 1 for one in answers)


def test_the_same_question_has_the_same_answer(tmp_path: Path) -> None:
    paths = [write(tmp_path / "0.parquet", a=[1]), write(tmp_path / "1.parquet", b=["x"])]
    question = Question([os.fsencode(path) for path in paths], ["a"])
    assert msgspec.msgpack.encode(answer(question)) == msgspec.msgpack.encode(answer(question))


WRONG: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    (
        [{"value": [1], "other": [2]}],
        {"columns": ["other", "valeu"]},
        r"no column valeu in '.*0\.parquet'; did you mean value\?\n  columns there: value, other",
    ),
    ([{"a": [1]}, {"b": [1]}], {}, r"same columns; not in both: a, b\n.*0\.parquet': a\n.*1\.parquet': b\n"),
    ([{"a": [1]}, {"a": [1], "b": [1]}], {}, r"not in both: b\n"),
    (
        [{"a": [1], "b": [1]}, {"a": [1]}],
        {"columns": ["b"]},
        r"no column b in '.*1\.parquet'\n  columns there: a",
    ),
    (
        [{"a": [1]}, {"a": ["x"]}],
        {},
        r"column a is int64 in '.*0\.parquet', but string in '.*1\.parquet', which does not go together",
    ),
    (
        [{"a": pa.array([None])}, {"a": [1.5]}, {"a": ["x"]}],
        {},
        r"double in '.*1\.parquet', but string in '.*2\.",
    ),
    ([{"a": pa.array(["x"]).dictionary_encode()}, {"a": [1]}], {}, r"column a is dictionary.*but int64"),
]


@pytest.mark.parametrize(("tables", "options", "words"), WRONG)
def test_what_is_wrong(
    tmp_path: Path, tables: list[dict[str, Any]], options: dict[str, Any], words: str
) -> None:
    paths = [write(tmp_path / f"{number}.parquet", **table) for number, table in enumerate(tables)]
    with pytest.raises(InputError, match=words) as raised:
        surveyed(*paths, **options)
    assert str(raised.value).startswith("job.yaml: inputs.0.parquet: ")


def test_columns_that_are_not_read_may_differ(tmp_path: Path) -> None:
    paths = [write(tmp_path / "0.parquet", a=[1], b=[2]), write(tmp_path / "1.parquet", c=["x"], a=[1])]
    assert starts(surveyed(*paths, columns=["a"])) == [[0, 1], [0, 1]]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(InputError, match="column a comes twice"):
        surveyed(path)


# Partition columns


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/data/year=2024/month=01/t.parquet", [("year", "2024"), ("month", "01")]),
        (b"/data/a=b=c/x/t.parquet", [("a", "b=c")]),
        (b"/data/%61=%20%C3%A9/k=/t=1.parquet", [("a", " é"), ("k", "")]),
        (b"/=x/k=__HIVE_DEFAULT_PARTITION__/t.parquet", [("k", None)]),
        (b"/data/k=%FFa\xe9/t.parquet", [("k", r"\xffa\xe9")]),
        (b"/data/t.parquet", []),
    ],
)
def test_partition(path: bytes, found: list[tuple[str, str | None]]) -> None:
    assert partition(path) == found


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("0", True), ("-5", True), ("12", True), (str(2**63 - 1), True), (str(-(2**63)), True)]
    + [(text, False) for text in ("", "01", "-0", "+1", " 1", "1.0", "1_0", "٣", "-", str(2**63), "1\n")],
)
def test_whole_numbers(text: str, is_one: bool) -> None:
    assert is_whole_number(text) == is_one


def in_folders(*folders: str) -> list[TableFile]:
    return [TableFile(b"", 0, f"/data/{folder}/t.parquet".encode()) for folder in folders]


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        (["a=1/b=x", "a=-2/b=3"], {"a": True, "b": False}),
        (["a=1", "a=__HIVE_DEFAULT_PARTITION__", "a=3"], {"a": True}),
        (["a=x", "a=1"], {"a": False}),
        (["a=1", "a=x"], {"a": False}),
        (["a=__HIVE_DEFAULT_PARTITION__"], {"a": False}),
        (["x", "y"], {}),
    ],
)
def test_partition_columns(folders: list[str], found: dict[str, bool]) -> None:
    assert partition_columns(in_folders(*folders), "o") == found


@pytest.mark.parametrize("folders", [["a=1", "b=1"], ["a=1/b=2", "b=2/a=1"], ["a=1", "x"], ["x", "a=1"]])
def test_keys_of_folders_that_differ(folders: list[str]) -> None:
    with pytest.raises(InputError, match=r"o: the files' folders .*write `hive: false`") as raised:
        partition_columns(in_folders(*folders), "o")
    assert all(f"/data/{folder}/" in str(raised.value) for folder in folders)


def test_a_key_of_folders_that_comes_twice() -> None:
    with pytest.raises(InputError, match=r"a key comes twice in the folders of .*a=1/a=2"):
        partition_columns(in_folders("a=1/a=2"), "o")
