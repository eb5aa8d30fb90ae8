"""What `run()` is given, and which items it was: for files, members of archives and tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from mpibatch.core.tables import CsvOptions, JsonlOptions, ParquetOptions
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.messages import InputSpec
from mpibatch.runtime.reading import Readers, described, item_keys
from mpibatch.work import Assignment, BadItem, ErrorReport, Members, Paths, Slice, Source


def work(source: Source, count: int) -> Assignment:
    return Assignment(1, 7, 0, count, 0, 0, 0, source)


def spec(kind: str, options: Any, setup: bytes = b"") -> InputSpec:
    plain = msgspec.to_builtins(options)
    del plain["type"]
    return InputSpec(kind=kind, options=plain, setup=setup)


def bad(position: int) -> BadItem:
    return BadItem(position, ErrorReport("BadRecord", "odd"))


def test_files_are_a_list_of_paths_with_the_number_of_their_mini_batch() -> None:
    one = work(Paths(b"/a b\0/\xff"), 2)
    batch = Readers([], "/nowhere").read(one)
    assert batch.data == ["/a b", os.fsdecode(b"/\xff")] and batch.data.task_id == 7
    assert item_keys(one, batch).paths == batch.data and item_keys(one, batch).rows is None
    assert described(one) == batch.data


def test_rows_of_a_table_are_read_by_its_own_reader(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n1,x\n2,y,surplus\n3,z\n")
    setup = msgspec.msgpack.encode(CsvSetup(header=b"a,b\n", names=["a", "b"], dtypes=None))
    readers = Readers([spec("csv", CsvOptions(), setup)], str(tmp_path))
    one = work(Slice(os.fsencode(file), 4, file.stat().st_size, 0, 3), 3)
    batch = readers.read(one)
    readers.close()
    assert batch.data.to_dict("list") == {"a": [1, 3], "b": ["x", "z"]}
    assert [item.position for item in batch.bad] == [1]
    keys = item_keys(one, batch)
    assert (keys.paths, list(keys.rows or []), keys.labelled) == (str(file), [0, 2], True)
    assert described(one) == [f"{file}, rows 0 to 2"]


def test_a_piece_of_a_mini_batch_names_its_own_rows() -> None:
    one = work(Slice(b"/t.csv", 100, 200, 40, 10, skip=4), 3)
    keys = item_keys(one, Batch([{}, {}], [bad(0)]))
    assert list(keys.rows or []) == [45, 46]
    assert not keys.labelled, "records have no index that could be trusted"
    assert item_keys(one, Batch(pd.DataFrame({"a": [1, 2, 3]}), [])).labelled
    assert described(one) == ["/t.csv, rows 44 to 46"]


def test_members_are_named_by_their_archive() -> None:
    one = work(Members(b"/x.tar", b"a.png\0b.png\0c.png", [1, 2, 3], [1, 1, 1]), 3)
    keys = item_keys(one, Batch(["p", "q"], [bad(1)]))
    assert keys.paths == ["/x.tar/a.png", "/x.tar/c.png"] and keys.rows is None
    assert described(one) == [f"/x.tar/{name}.png" for name in "abc"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_the_survey_could_not_read_is_not_looked_into_again(tmp_path: Path, kind: str) -> None:
    """It may kill its reader; and whole again, it has other rows than the one for which it counts."""
    file = tmp_path / f"t.{kind}"
    file.mkdir()  # Another error would come of it.
    one = work(Slice(os.fsencode(file), 0, 1, 0, 1, whole=True, error="its reader died: SIGABRT"), 1)
    readers = Readers([spec(kind, CsvOptions() if kind == "csv" else ParquetOptions())], str(tmp_path))
    with pytest.raises(Unreadable, match=rf"t\.{kind}': its reader died: SIGABRT\. .*--fresh"):
        readers.read(one)
    readers.close()


def test_options_travel_by_the_names_that_the_job_file_has(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"a": 1}\n')
    sent = msgspec.msgpack.decode(
        msgspec.msgpack.encode(spec("jsonl", JsonlOptions(as_="records"))), type=InputSpec
    )
    assert sent.options["as"] == "records"
    readers = Readers([sent], str(tmp_path))
    assert readers.read(work(Slice(os.fsencode(file), 0, 9, 0, 1), 1)).data == [{"a": 1}]
    readers.close()
