"""Plans by partition keys, as `make_plan` writes them and processors read them: for files and for all tables."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.config import FilesInput, Job, TableInput
from mpibatch.core.tables import BySize, CsvOptions, Hdf5Options, JsonlOptions, ParquetOptions, TableOptions
from mpibatch.errors import InputError
from mpibatch.inputs import key_survey, shuffle_plan
from mpibatch.messages import InputSpec
from mpibatch.runtime import key_planner
from mpibatch.runtime.planner import make_plan, open_plan
from mpibatch.runtime.reading import Readers, item_keys
from mpibatch.runtime.surveying.questions import answer, read_answer, read_question, write
from mpibatch.runtime.table_plan import TablePlan
from mpibatch.work import Assignment, Paths, Piece

Row = dict[str, Any]


def job_of(
    folder: Path, inputs: Sequence[FilesInput | TableInput], keys: list[str], *, sort: bool = False
) -> Job:
    tables = isinstance(inputs[0], TableInput)
    return Job(
        job_file=str(folder / "job.yaml"),
        job_dir=str(folder),
        name="test",
        entry_script="run.py",
        inputs=list(inputs),
        output=str(folder / "output"),
        partition_keys=keys,
        shuffle=sort,
        table_size=BySize(1 << 20) if tables else None,
    )


def ask(questions: Sequence[Any]) -> list[Any]:
    """As the workers answer: each question and each answer travels as text."""
    return [read_answer(write(answer(read_question(write(question))))) for question in questions]


def planned(job: Job, folder: Path) -> TablePlan:
    (folder / "plan").mkdir(exist_ok=True)
    make_plan(job, folder / "plan", ask=ask, unpacked=folder / "unpacked").close()
    plan = open_plan(folder / "plan")
    assert isinstance(plan, TablePlan)
    return plan


class Got:
    """What `run()` would get of a plan: the rows of each mini-batch, with its keys, and which items they are."""

    def __init__(self, plan: TablePlan, pieces: int = 1) -> None:
        specs = [InputSpec(kind=one.kind, options=one.options, setup=one.setup) for one in plan.tables]
        self._readers = Readers(specs, "/nowhere")
        self._plan = plan
        self.keys: list[dict[str, Any] | None] = []
        self.rows: list[list[Row]] = []
        self.items: list[list[tuple[str, int | None]]] = []
        self.bad: list[tuple[str, int | None]] = []
        for number in range(plan.mini_batches):
            self.keys.append(plan.keys(number))
            self.rows.append([])
            self.items.append([])
            count = plan.item_count(number)
            step = -(-count // pieces)
            for first in range(0, count, step):
                self._read(Piece(number, first, min(step, count - first)))
        self._readers.close()

    def _read(self, piece: Piece) -> None:
        plan = self._plan
        source = plan.source(piece)
        number = plan.input_of(piece.mini_batch)
        work = Assignment(
            1, piece.mini_batch, piece.first, piece.count, 0, plan.position(piece), number, source
        )
        batch = self._readers.read(work)
        names = plan.item_names(piece)
        bad = [one.position for one in batch.bad]
        self.bad += [names[place] for place in bad]
        good = [name for place, name in enumerate(names) if place not in bad]
        data = batch.data
        if isinstance(data, dict):
            data = pd.DataFrame({name: list(values) for name, values in data.items()})
        records = data if isinstance(data, list) else data.astype(object).to_dict("records")
        assert len(records) == len(good)
        self.rows[-1] += records
        self.items[-1] += good
        keys = item_keys(work, batch)
        assert keys.rows is not None
        paths = [keys.paths] * len(good) if isinstance(keys.paths, str) else keys.paths
        assert list(zip(paths, keys.rows, strict=True)) == good, "what add_input_key tells"


@contextmanager
def small(part: int, segment: int) -> Iterator[None]:
    """Parts and segments of so many bytes; where rows are counted, two parts are put together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_planner, "PART_BYTES", part)
        patch.setattr(key_survey, "_TOGETHER", 2)
        patch.setattr(key_survey, "_QUESTION_BYTES", 3 * part)
        patch.setattr(shuffle_plan, "SEGMENT_BYTES", segment)
        patch.setattr(shuffle_plan, "_PART_BYTES", 2 * part)
        yield


# Tables


def write_csv(path: Path, rows: list[Row]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "a", "b"], quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[Row]) -> None:
    schema = pa.schema([("id", pa.int64()), ("a", pa.string()), ("b", pa.int64())])
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=7)


def write_hdf5(path: Path, rows: list[Row]) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("g")
        group["id"] = np.array([row["id"] for row in rows], np.int64)
        group["b"] = np.array([np.nan if row["b"] is None else row["b"] for row in rows], np.float64)
        texts = [row["a"] for row in rows]
        group.create_dataset("a", data=texts, dtype=h5py.string_dtype(), shape=(len(rows),))


KINDS: dict[str, tuple[TableOptions, Callable[[Path, list[Row]], None], tuple[Callable[[Any], Any], ...]]] = {
    # With the form of the keys' values: empty text is missing in a CSV file.
    "csv": (CsvOptions(), write_csv, (lambda a: a or None, lambda b: None if b is None else str(b))),
    "jsonl": (JsonlOptions(), write_jsonl, (lambda a: a, lambda b: b)),
    "parquet": (ParquetOptions(columns=["id", "b"]), write_parquet, (lambda a: a, lambda b: b)),
    "hdf5": (
        Hdf5Options(group="/g", datasets=["id"], as_="arrays"),
        write_hdf5,
        (lambda a: a or "", lambda b: None if b is None else float(b)),
    ),
}


def table(kind: str, *paths: Path, options: TableOptions | None = None) -> TableInput:
    chosen = KINDS[kind][0] if options is None else options
    return TableInput(kind=kind, files=[str(path) for path in paths], text=f"*.{kind}", options=chosen)  # type: ignore[arg-type]


def stored(kind: str, row: Row) -> Row:
    """A row as its file can hold it."""
    return {**row, "a": row["a"] or ""} if kind == "hdf5" else row


def expected(kind: str, files: list[list[Row]], keys: list[str]) -> list[tuple[dict[str, Any], list[int]]]:
    """The mini-batches: keys and ids."""
    form = dict(zip("ab", KINDS[kind][2]))
    found: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for row in (row for rows in files for row in rows):
        values = {key: form[key](row[key]) for key in keys}
        found.setdefault(repr(values), (values, []))[1].append(row["id"])
    return list(found.values())


A = st.sampled_from(["x", "y\ny", 'z "z', "ä,", "", None])
B = st.sampled_from([0, 1, -7, None])
FILES = st.lists(st.lists(st.tuples(A, B, st.integers(1, 6)), max_size=12), min_size=1, max_size=3)
"""Runs of equal keys by file."""


def with_ids(kind: str, runs: list[list[tuple[str | None, int | None, int]]]) -> list[list[Row]]:
    files: list[list[Row]] = []
    number = 0
    for of_file in runs:
        rows: list[Row] = []
        for a, b, count in of_file:
            for _ in range(count):
                given_b = 0 if b is None and kind == "csv" else b  # Quoted, it would be text of length 0.
                rows.append(stored(kind, {"id": number, "a": a, "b": given_b}))
                number += 1
        files.append(rows)
    return files


def check(kind: str, files: list[list[Row]], keys: list[str], part: int, segment: int, pieces: int) -> bool:
    """Whether it had to be sorted."""
    with TemporaryDirectory() as name, small(part, segment):
        folder = Path(name)
        paths = [folder / f"{number}.{kind}" for number in range(len(files))]
        for path, rows in zip(paths, files):
            KINDS[kind][1](path, rows)
        one = table(kind, *paths)
        wanted = expected(kind, files, keys)
        stands = _stands_together(wanted)
        if stands:
            with planned(job_of(folder, [one], keys), folder) as plan:
                verify(plan, paths, files, wanted, pieces)
                assert not (folder / "unpacked").exists()
        else:
            with pytest.raises(InputError, match="do not stand together"):
                planned(job_of(folder, [one], keys), folder)
        with planned(job_of(folder, [one], keys, sort=True), folder) as plan:
            verify(plan, paths, files, wanted, pieces)
            assert bool(plan.remarks) == stands
            assert (folder / "unpacked").exists() != stands
        return not stands


def _stands_together(wanted: list[tuple[dict[str, Any], list[int]]]) -> bool:
    ids = [number for _, numbers in wanted for number in numbers]
    return ids == sorted(ids)


def verify(
    plan: TablePlan,
    paths: list[Path],
    files: list[list[Row]],
    wanted: list[tuple[dict[str, Any], list[int]]],
    pieces: int,
) -> None:
    got = Got(plan, pieces)
    assert [(keys, [int(row["id"]) for row in rows]) for keys, rows in zip(got.keys, got.rows)] == wanted
    places = {row["id"]: (str(path), at) for path, rows in zip(paths, files) for at, row in enumerate(rows)}
    assert got.items == [[places[number] for number in numbers] for _, numbers in wanted]
    positions = [plan.position(Piece(number, 0, 1)) for number in range(plan.mini_batches)]
    assert positions == np.cumsum([0, *(len(numbers) for _, numbers in wanted)]).tolist()[:-1]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(runs=FILES, keys=st.sampled_from([["a"], ["b"], ["b", "a"]]), part=st.sampled_from([20, 200, 1 << 20]),
       segment=st.sampled_from([60, 500, 1 << 20]), pieces=st.integers(1, 3))  # fmt: skip
def test_every_row_is_in_the_mini_batch_of_its_keys(
    kind: str, runs: list[Any], keys: list[str], part: int, segment: int, pieces: int
) -> None:
    files = with_ids(kind, runs)
    if not any(files):
        return
    check(kind, files, keys, part, segment, pieces)


def rows_of(keys: str) -> list[Row]:
    return [{"id": number, "a": key, "b": 0} for number, key in enumerate(keys)]


def test_the_smallest_parts_and_large_ones_give_the_same_also_where_it_is_sorted() -> None:
    """Not by chance: several parts, segments, files, and keys that go on from one into the next."""
    for kind in KINDS:
        assert not check(kind, [rows_of("xxxxxxyyyyz"), rows_of("zzzz")[:0]], ["a"], 20, 60, 1)
        files = [rows_of("xxyyxxyyxxyyzzz"), [], rows_of("zzxxyyw")]
        for number, row in enumerate(row for rows in files for row in rows):
            row["id"] = number
        for part, segment in ((20, 40), (40, 200), (1 << 20, 1 << 20)):
            assert check(kind, files, ["a"], part, segment, 2)


# What is wrong


def error_of(folder: Path, one: TableInput, keys: list[str], *, sort: bool = False) -> str:
    with pytest.raises(InputError) as raised:
        planned(job_of(folder, [one], keys, sort=sort), folder)
    return str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_is_no_column_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{kind}"
    KINDS[kind][1](path, [{"id": 1, "a": "x", "b": 2}])
    words = error_of(tmp_path, table(kind, path), ["a", "idd"])
    for word in ("idd", "did you mean", repr(str(path)), "partition_keys", "a, "):
        assert word in words.replace("id\n", "id, "), words


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_do_not_stand_together_are_told_of(kind: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{kind}" for name in "ab"]
    KINDS[kind][1](paths[0], rows_of("xxyy"))
    KINDS[kind][1](paths[1], rows_of("yzzzyx"))
    words = error_of(tmp_path, table(kind, *paths), ["a"])
    size = sum(path.stat().st_size for path in paths)
    for word in (
        "2 keys",
        "a='y'",
        "row 4 ",
        repr(str(paths[1])),
        "shuffle: true",
        f"{size:,} bytes",
        "by a",
    ):
        assert word in words


def test_a_key_that_only_some_files_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id,a\n1,2\n")
    (tmp_path / "2.csv").write_text("id\n1\n")
    (tmp_path / "3.csv").write_text("id,a\n")
    one = table("csv", *(tmp_path / f"{n}.csv" for n in (1, 2, 3)), options=CsvOptions(header="each"))
    words = error_of(tmp_path, one, ["a"])
    assert "1.csv' has a column a, but" in words and "2.csv' has none (1 of 2 files" in words
    assert "no column b in" in error_of(tmp_path, one, ["b"])
    (tmp_path / "1.jsonl").write_text('{"id": 1, "a": 1}\n{"id": 2}\n')
    (tmp_path / "2.jsonl").write_text('{"id": 3}\n')
    both = table("jsonl", tmp_path / "1.jsonl", tmp_path / "2.jsonl")
    assert "1.jsonl' has a column a, but" in error_of(tmp_path, both, ["a"])
    with planned(job_of(tmp_path, [table("jsonl", tmp_path / "1.jsonl")], ["a"]), tmp_path) as plan:
        assert Got(plan).keys == [{"a": 1}, {"a": None}]


def test_malformed_rows_belong_to_the_run_before_them(tmp_path: Path) -> None:
    lines = ["id,a", "0,x,surplus", "1,x", "2,y,surplus", "3,x", "4,z", "5,x,surplus"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    (tmp_path / "u.csv").write_text("id,a\n6,x,y\n7,z\n8,x,z\n")
    one = table("csv", tmp_path / "t.csv", tmp_path / "u.csv")
    name, other = str(tmp_path / "t.csv"), str(tmp_path / "u.csv")
    for part in (8, 1 << 20):
        with small(part, 1 << 20), planned(job_of(tmp_path, [one], ["a"]), tmp_path) as plan:
            got = Got(plan, 2)
            assert got.keys == [{"a": "x"}, {"a": "z"}]
            assert [[row["id"] for row in rows] for rows in got.rows] == [[1, 3], [4, 7]]
            assert got.bad == [(name, 0), (name, 2), (name, 5), (other, 0), (other, 2)]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_malformed_rows_go_with_the_row_before_them_when_it_is_sorted(kind: str, tmp_path: Path) -> None:
    bad = {"csv": '9,"x" y,"', "jsonl": "{"}[kind]
    good = {"csv": "{},{}", "jsonl": '{{"id": {}, "a": "{}"}}'}[kind]
    keys = ["", "x", "", "y", "", "x", "y", "", "x", ""]
    lines = [good.format(number, key) if key else bad for number, key in enumerate(keys)]
    if kind == "csv":
        lines = [line if line != bad else f"{number},z,z" for number, line in enumerate(lines)]
    path = tmp_path / f"t.{kind}"
    path.write_text("\n".join(["id,a", *lines] if kind == "csv" else lines))
    for part, segment in ((8, 16), (30, 60), (1 << 20, 1 << 20)):
        with (
            small(part, segment),
            planned(job_of(tmp_path, [table(kind, path)], ["a"], sort=True), tmp_path) as plan,
        ):
            got = Got(plan)
            assert [[row["id"] for row in rows] for rows in got.rows] == [[1, 5, 8], [3, 6]]
            assert [row for _, row in got.bad] == [0, 2, 9, 4, 7]
            names = [plan.item_names(Piece(number, 0, plan.item_count(number))) for number in (0, 1)]
            assert [[row for _, row in one] for one in names] == [[0, 1, 2, 5, 8, 9], [3, 4, 6, 7]]


def test_a_malformed_row_of_a_sorted_copy_is_told_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,a\n1,x\n2,y\n3,x,z\n4,x\n")
    with planned(job_of(tmp_path, [table("csv", path)], ["a"], sort=True), tmp_path) as plan:
        source = plan.source(Piece(1, 0, 2))
        spec = plan.tables[0]
        readers = Readers([InputSpec(kind="csv", options=spec.options, setup=spec.setup)], "/nowhere")
        batch = readers.read(Assignment(1, 1, 0, 2, 0, 0, 0, source))
        assert batch.bad[0].error.message == f"'{path}', row 2: 3 fields where 2 are expected: '3,x,z'"
        readers.close()


def test_a_file_that_cannot_be_read_is_one_item_without_keys(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", rows_of("xx"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing PAR1")
    write_parquet(tmp_path / "c.parquet", rows_of("xy"))
    one = table("parquet", *(tmp_path / f"{name}.parquet" for name in "abc"), options=ParquetOptions())
    with planned(job_of(tmp_path, [one], ["a"]), tmp_path) as plan:
        assert [plan.keys(number) for number in range(plan.mini_batches)] == [
            {"a": "x"},
            {"a": None},
            {"a": "y"},
        ]
        assert [plan.error(number) is None for number in range(3)] == [True, False, True]
        assert plan.item_names(Piece(1, 0, 1)) == [(str(tmp_path / "b.parquet"), None)]
        assert len(plan.remarks) == 1 and "b.parquet" in plan.remarks[0]


def test_a_file_whose_keys_cannot_be_read_is_one_item_too(tmp_path: Path) -> None:
    for name in "abc":
        write_parquet(tmp_path / f"{name}.parquet", rows_of("xx"))
    with open(tmp_path / "b.parquet", "r+b") as file:
        file.seek(4)
        file.write(b"\xff" * 200)  # Its footer is as it was.
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    one = table("parquet", *(tmp_path / f"{name}.parquet" for name in "abc"), options=ParquetOptions())
    with planned(job_of(tmp_path, [one], ["a"]), tmp_path) as plan:
        assert [plan.keys(number) for number in range(3)] == [{"a": "x"}, {"a": None}, {"a": None}]
        assert [plan.error(number) is None for number in range(3)] == [True, False, False]
        (remark,) = plan.remarks
        assert "2 of 3 files cannot be read" in remark and "b.parquet" in remark and "c.parquet" in remark


# Forms of files


def test_hive_columns_are_keys_and_stay_columns(tmp_path: Path) -> None:
    for folder, keys in (("y=1", "xz"), ("y=2", "xz"), ("y=__HIVE_DEFAULT_PARTITION__", "x")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        write_parquet(tmp_path / "data" / folder / "t.parquet", rows_of(keys))
    one = table("parquet", tmp_path / "data", options=ParquetOptions(columns=["id", "y"]))
    with planned(job_of(tmp_path, [one], ["y"]), tmp_path) as plan:
        assert Got(plan).keys == [{"y": 1}, {"y": 2}, {"y": None}]
    with planned(job_of(tmp_path, [one], ["a"], sort=True), tmp_path) as plan:
        got = Got(plan)
        assert got.keys == [{"a": "x"}, {"a": "z"}]
        years = [[None if pd.isna(row["y"]) else row["y"] for row in rows] for rows in got.rows]
        assert years == [[1, 2, None], [1, 2]]


def test_files_that_cannot_be_cut_as_they_are(tmp_path: Path) -> None:
    import gzip

    text = "id,a\n" + "".join(f"{n},{key}\n" for n, key in enumerate("xxyyyz"))
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16"))
    one = table("csv", tmp_path / "t.csv", options=CsvOptions(encoding="utf-16"))
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    other = table("csv", tmp_path / "t.csv.gz")
    for chosen in (one, other):
        with planned(job_of(tmp_path, [chosen], ["a"]), tmp_path) as plan:
            got = Got(plan, 2)
            assert [[row["id"] for row in rows] for rows in got.rows] == [[0, 1], [2, 3, 4], [5]]
            assert {name for items in got.items for name, _ in items} == {chosen.files[0]}
            # Else the whole file would be read again for each key.
            sources = [plan.source(Piece(number, 0, 1)) for number in range(plan.mini_batches)]
            assert [getattr(part, "whole", None) for part in sources] == [False] * 3
    (tmp_path / "t.csv").write_bytes((text + "9,x\n").encode("utf-16"))
    with planned(job_of(tmp_path, [one], ["a"], sort=True), tmp_path) as plan:
        got = Got(plan, 2)
        assert [[row["id"] for row in rows] for rows in got.rows] == [[0, 1, 9], [2, 3, 4], [5]]


@pytest.mark.parametrize("header", ["none", "each", "first"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_sorted_csv_files_are_read_with_the_same_options(header: Any, mark: str, tmp_path: Path) -> None:
    head = "id,a\r\n" if header != "none" else ""
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    paths[0].write_bytes((mark + head + "0,x\r\n\r\n1,y\r\n2,x").encode())
    paths[1].write_bytes((mark + (head if header == "each" else "") + "3,y\r\n4,\r\n5,x\r\n").encode())
    names = ["id", "a"] if header == "none" else None
    one = table("csv", *paths, options=CsvOptions(header=header, names=names))
    for segment in (8, 1 << 20):
        with small(8, segment), planned(job_of(tmp_path, [one], ["a"], sort=True), tmp_path) as plan:
            got = Got(plan)
            assert got.keys == [{"a": "x"}, {"a": "y"}, {"a": None}]
            assert [[row["id"] for row in rows] for rows in got.rows] == [[0, 2, 5], [1, 3], [4]]


def test_columns_without_names_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("0,x\n1,y\n2,x,\n")
    one = table("csv", tmp_path / "t.csv", options=CsvOptions(header="none"))
    with planned(job_of(tmp_path, [one], ["1"], sort=True), tmp_path) as plan:
        got = Got(plan)
        assert [[row[0] for row in rows] for rows in got.rows] == [[0, 2], [1]]  # type: ignore[index]
        assert got.keys == [{"1": "x"}, {"1": "y"}]


def test_two_inputs_have_mini_batches_of_their_own(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", rows_of("xxy"))
    write_jsonl(tmp_path / "t.jsonl", rows_of("yz"))
    inputs = [table("csv", tmp_path / "t.csv"), table("jsonl", tmp_path / "t.jsonl")]
    with planned(job_of(tmp_path, inputs, ["a"]), tmp_path) as plan:
        assert [plan.keys(n) for n in range(4)] == [{"a": "x"}, {"a": "y"}, {"a": "y"}, {"a": "z"}]
        assert [plan.position(Piece(n, 0, 1)) for n in range(4)] == [0, 2, 0, 1]
        assert [plan.input_of(n) for n in range(4)] == [0, 0, 1, 1]


# Files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def grouped(plan: TablePlan, folder: Path) -> list[tuple[dict[str, Any] | None, list[str]]]:
    found = []
    for number in range(plan.mini_batches):
        source = plan.source(Piece(number, 0, plan.item_count(number)))
        assert isinstance(source, Paths)
        paths = [os.fsdecode(path) for path in source.blob.split(b"\0")]
        assert [(path, None) for path in paths] == plan.item_names(Piece(number, 0, len(paths)))
        found.append((plan.keys(number), [os.path.relpath(path, folder) for path in paths]))
    return found


def files(folder: Path, *formats: str) -> FilesInput:
    return FilesInput(files=[f"{folder}/{one}" for one in formats], text=formats[0])


def test_files_of_equal_keys_are_a_mini_batch(tmp_path: Path) -> None:
    touch(tmp_path, "bob/w/1.wav", "ann/s/1.wav", "ann/w/2.wav", "ann/w/1.wav", "bob/s/9.wav", "bob/s/9.txt")
    one = files(tmp_path, "{user}/{season}/{n}.wav")
    with planned(job_of(tmp_path, [one], ["season"]), tmp_path) as plan:
        assert grouped(plan, tmp_path) == [
            ({"season": "s"}, ["ann/s/1.wav", "bob/s/9.wav"]),
            ({"season": "w"}, ["ann/w/1.wav", "ann/w/2.wav", "bob/w/1.wav"]),
        ]
        assert (plan.items, plan.largest_mini_batch, plan.planned_inputs[0].kind) == (5, 3, "files")
        assert plan.source(Piece(1, 1, 1)) == Paths(os.fsencode(tmp_path / "ann/w/2.wav"))
        assert [plan.position(Piece(0, 1, 1)), plan.position(Piece(1, 1, 1))] == [1, 3]
        assert sorted(path for some in plan.all_paths() for path in some) == sorted(
            bytes(path) for path in tmp_path.rglob("*.wav")
        )
        before = plan.fingerprint
    with planned(job_of(tmp_path, [one], ["season"]), tmp_path) as plan:
        assert plan.fingerprint == before
    with planned(job_of(tmp_path, [one, one], ["user", "season"]), tmp_path) as plan:
        assert plan.fingerprint != before and plan.mini_batches == 8
        assert plan.keys(3) == {"user": "bob", "season": "w"}
        assert [plan.input_of(3), plan.input_of(4), plan.position(Piece(4, 0, 1))] == [0, 1, 0]
    touch(tmp_path, "bob/s/10.wav")
    with planned(job_of(tmp_path, [one], ["season"]), tmp_path) as plan:
        assert plan.fingerprint != before


def test_several_formats_and_names_that_are_no_utf_8(tmp_path: Path) -> None:
    touch(tmp_path, "a/x_1", "b/1-\udcff")
    with planned(job_of(tmp_path, [files(tmp_path, "a/{k}_{n}", "b/{n}-{k}")], ["k"]), tmp_path) as plan:
        assert grouped(plan, tmp_path) == [({"k": "x"}, ["a/x_1"]), ({"k": "\\xff"}, ["b/1-\udcff"])]


def test_a_file_that_does_not_fit_its_format_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/a.wav", "b/c.wav")
    with pytest.raises(InputError, match=r"b/c\.wav' does not fit") as raised:
        planned(job_of(tmp_path, [files(tmp_path, "{user}/{user}.wav")], ["user"]), tmp_path)
    assert "inputs.0.files" in str(raised.value)
    with pytest.raises(InputError, match="matches nothing"):
        planned(job_of(tmp_path, [files(tmp_path, "{user}/{n}.mp3")], ["user"]), tmp_path)


@pytest.mark.parametrize("options", [CsvOptions, JsonlOptions])
def test_only_keys_of_rows_need_compressed_files_unpacked(options: type[CsvOptions | JsonlOptions]) -> None:
    found = options(path_column="file", path_columns="{shop}.gz")
    assert not key_planner.survey_options(found, ["shop", "file"]).unpack  # type: ignore[union-attr]
    assert key_planner.survey_options(found, ["shop", "user"]).unpack  # type: ignore[union-attr]
