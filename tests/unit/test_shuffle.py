"""Sorted copies of segments: what is in them, that they are made once, and what cannot be done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest

from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions
from mpibatch.errors import StorageError
from mpibatch.inputs import shuffle_files, shuffle_plan
from mpibatch.inputs.csv_cells import unpacked
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.hdf5_columns import Hdf5Setup
from mpibatch.inputs.hdf5_contents import Dataset, Field
from mpibatch.inputs.key_batches import pack, unpack
from mpibatch.inputs.key_reading import KeySpec
from mpibatch.inputs.key_runs import PartRuns
from mpibatch.inputs.shuffle import Answer, Question, Sort, SortedSegment, answer
from mpibatch.inputs.shuffle_plan import SortedTo, sort_files
from mpibatch.inputs.sorted_rows import original_rows, rows_file
from mpibatch.inputs.survey import Cut, Surveyed, TableFile, Unreadable
from mpibatch.work import Slice


def ask(question: Sort) -> SortedSegment:
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(question), type=Question)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(answer(sent)), type=Answer)


def csv_spec(**options: Any) -> KeySpec:
    setup = CsvSetup(header=b"id,k\n", names=["id", "k"])
    return KeySpec(CsvOptions(**options), msgspec.msgpack.encode(setup), ["k"])


def csv_sort(folder: Path, text: bytes, parts: list[tuple[int, int, int]], **options: Any) -> Sort:
    """`parts`: start, row and rows of each; they end where the next one begins."""
    path = folder / "t.csv"
    path.write_bytes(text)
    stops = [start for start, _, _ in parts[1:]] + [len(text)]
    slices = [Slice(bytes(path), start, stop, row, rows) for (start, row, rows), stop in zip(parts, stops)]
    spec = csv_spec(**options)
    return Sort(spec, spec.setup, slices, pack(["before"]), bytes(folder / "copies" / "1"))


TEXT = b'id,k\n0,x\n1,"y\n"\n2,x\n3,"y\n"\n4,z'


def test_records_are_put_in_order_below_the_header(tmp_path: Path) -> None:
    question = csv_sort(tmp_path, TEXT, [(5, 0, 2), (TEXT.index(b"2,x"), 2, 3)])
    found = ask(question)
    copy = Path(os.fsdecode(question.target))
    assert copy.read_bytes() == b'id,k\n0,x\n2,x\n1,"y\n"\n3,"y\n"\n4,z\n'
    assert [unpack(key) for key in found.runs.keys] == [["x"], ["y\n"], ["z"]]
    assert unpacked(found.runs.rows).tolist() == [0, 2, 4]
    assert unpacked(found.runs.starts).tolist() == [5, 13, 27]
    assert (found.start, found.stop) == (5, copy.stat().st_size)
    assert original_rows(question.target, 0, 5) == [0, 2, 1, 3, 4]
    assert original_rows(question.target, 1, 2) == [2, 1]
    assert sorted(os.listdir(copy.parent)) == ["1", "1.rows"]


def test_what_is_there_is_complete_and_the_answer_is_the_same(tmp_path: Path) -> None:
    question = csv_sort(tmp_path, TEXT, [(5, 0, 5)])
    first = ask(question)
    copy = Path(os.fsdecode(question.target))
    before = copy.stat().st_mtime_ns, copy.stat().st_ino
    assert ask(question) == first
    assert (copy.stat().st_mtime_ns, copy.stat().st_ino) == before
    # Killed between the two files: the rows are there, the copy is not.
    copy.unlink()
    assert ask(question) == first and copy.exists()


def test_rows_in_front_of_the_first_good_one_have_the_key_before(tmp_path: Path) -> None:
    text = b"id,k\n0,x\n1,2,3\n2,before\n3,y\n4,5,6\n5,x\n"
    question = csv_sort(tmp_path, text, [(9, 1, 1), (15, 2, 4)])
    found = ask(question)
    assert [unpack(key)[0] for key in found.runs.keys] == ["before", "y", "x"]
    assert original_rows(question.target, 0, 5) == [1, 2, 3, 4, 5]
    assert unpacked(found.runs.rows).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("head", "encoding", "expected"),
    [
        (b"\xef\xbb\xbfid,k\r\n", "utf-8", b"id,k\r\n"),
        (b"\n \nid,k\n", "utf-8", b"id,k\n"),
        (b'"id\n",k\n', "utf-8", b'"id\n",k\n'),
        (b"\xef\xbb\xbf,k\n", "latin-1", b"\xef\xbb\xbf,k\n"),
    ],
)
def test_the_first_record_stands_at_the_top(
    head: bytes, encoding: str, expected: bytes, tmp_path: Path
) -> None:
    question = csv_sort(tmp_path, head + b"1,b\n2,a\n3,b\n", [(len(head), 0, 3)], encoding=encoding)
    ask(question)
    assert Path(os.fsdecode(question.target)).read_bytes() == expected + b"1,b\n3,b\n2,a\n"


def test_json_lines(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbf{"k":1}\n\n{"k":null}\nbad\n{"k":1}'
    path = tmp_path / "t.jsonl"
    path.write_bytes(text)
    spec = KeySpec(JsonlOptions(), b"", ["k"])
    question = Sort(spec, b"", [Slice(bytes(path), 3, len(text), 0, 4)], pack([1]), bytes(tmp_path / "copy"))
    found = ask(question)
    assert (tmp_path / "copy").read_bytes() == b'{"k":1}\n\n{"k":1}\n{"k":null}\nbad\n'
    assert unpacked(found.runs.starts).tolist() == [0, 17] and found.start == 0


def test_hdf5_keeps_datasets_of_all_types(tmp_path: Path) -> None:
    mixed = np.array([(1, b"a"), (2, b"b"), (3, b"c")], [("n", "<i2"), ("t", "S1")])
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["g/k"] = [2, 1, 2]
        file["g/inner/x"] = np.arange(12, dtype=np.float32).reshape(3, 4)
        file["g/mixed"] = mixed
        file.create_dataset("g/text", data=["a", "ä", ""], dtype=h5py.string_dtype())
    whole = Field("", "i", "<i8", [])
    names = ["k", "inner/x", "mixed", "text"]
    setup = msgspec.msgpack.encode(Hdf5Setup([Dataset(name, [3], [whole], 8, 0) for name in names]))
    keys = msgspec.msgpack.encode(Hdf5Setup([Dataset("k", [3], [whole], 8, 0)]))
    spec = KeySpec(Hdf5Options(group="/g", as_="arrays"), keys, ["k"])
    part = Slice(bytes(tmp_path / "t.h5"), 0, 3, 0, 3)
    found = ask(Sort(spec, setup, [part], pack([None]), bytes(tmp_path / "copy")))
    assert (found.error, unpacked(found.runs.starts).tolist(), found.stop) == (None, [0, 2], 3)
    with h5py.File(tmp_path / "copy") as file, h5py.File(tmp_path / "t.h5") as before:
        for name in names:
            one, other = file[f"g/{name}"], before[f"g/{name}"]
            assert one.dtype == other.dtype
            assert one[:].tolist() == other[:][[0, 2, 1]].tolist()


def test_what_cannot_be_read_or_written_is_told_of(tmp_path: Path) -> None:
    question = csv_sort(tmp_path, TEXT, [(5, 0, 5)])
    (tmp_path / "copies").write_text("in the way")
    found = ask(question)
    assert found.no_room is not None and str(tmp_path / "copies") in found.no_room
    (tmp_path / "copies").unlink()
    (tmp_path / "t.csv").unlink()
    found = ask(question)
    assert found.error is not None and "does not exist" in found.error
    assert not (tmp_path / "copies").exists()


def test_what_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    def full(path: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="No space left on device"):
        shuffle_files.appear(bytes(tmp_path / "copy"), full, np.arange(2))
    assert os.listdir(tmp_path) == ["copy.rows"], "the rows are complete, and are no harm"


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        original_rows(bytes(tmp_path / "gone"), 0, 1)
    Path(os.fsdecode(rows_file(bytes(tmp_path / "short")))).write_bytes(bytes(8))
    assert original_rows(bytes(tmp_path / "short"), 0, 1) == [0]
    with pytest.raises(Unreadable, match="too short"):
        original_rows(bytes(tmp_path / "short"), 0, 2)


# On rank 0


def sort_one(folder: Path, time: int, reply: SortedSegment) -> tuple[list[Sort], Any]:
    asked: list[Sort] = []

    def ask_for(questions: Any) -> list[Any]:
        asked.extend(questions)
        return [reply] * len(questions)

    files = [TableFile(b"/a.csv", 30, b"/a.csv"), TableFile(b"/b.csv", 30, b"/b.csv")]
    cuts = [Cut(np.array([0, 10, 20, 30]), np.array([1, 1, 1])) for _ in files]
    parts = [(Slice(b"/a.csv", start, start + 10, start // 10, 1), PartRuns()) for start in (0, 10, 20)]
    surveyed = Surveyed(cuts, csv_spec().setup, [], None)
    to = SortedTo(bytes(folder), [time, 0])
    return asked, sort_files(files, csv_spec(), surveyed, [(0, parts)], ask_for, "job.yaml: inputs.0.csv", to)


def test_segments_are_of_one_file_and_one_state_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle_plan, "SEGMENT_BYTES", 20)
    asked, (copies, _) = sort_one(tmp_path, 1, SortedSegment())
    assert [[part.start for part in sort.parts] for sort in asked] == [[0, 10], [20]]
    assert [segment.rows for segment, _ in copies[0].segments] == [2, 1]
    again, _ = sort_one(tmp_path, 1, SortedSegment())
    assert [sort.target for sort in again] == [sort.target for sort in asked]
    later, _ = sort_one(tmp_path, 2, SortedSegment())
    assert len({sort.target for sort in asked + later}) == 4


def test_a_full_disk_stops_the_run_and_a_bad_file_does_not(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"inputs\.0\.csv: the input could not be sorted: no room"):
        sort_one(tmp_path, 1, SortedSegment(no_room="no room"))
    _, (copies, surveyed) = sort_one(tmp_path, 1, SortedSegment(error="it ends early"))
    assert copies == [] and [cut.error for cut in surveyed.cuts] == ["it ends early", None]
    assert len(surveyed.warnings) == 1 and "/a.csv" in surveyed.warnings[0]
