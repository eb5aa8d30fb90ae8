"""Files that change while a processor reads them, by each of the readers that keep files open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpibatch.core.tables import BySize, CsvOptions, Hdf5Options, JsonlOptions, ParquetOptions
from mpibatch.inputs import (
    csv_reader,
    hdf5_reader,
    hdf5_survey,
    jsonl_reader,
    parquet_reader,
    parquet_survey,
    seen,
)
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.seen import SeenFiles
from mpibatch.inputs.survey import Reader, TableFile, Unreadable
from mpibatch.work import Slice

ROWS = 10


def csv(path: Path, first: int) -> None:
    path.write_bytes(b"".join(b"%05d\n" % (first + number) for number in range(ROWS)))


def jsonl(path: Path, first: int) -> None:
    path.write_bytes(b"".join(b'{"a": %d}\n' % (first + number) for number in range(ROWS)))


def parquet(path: Path, first: int) -> None:
    pq.write_table(pa.table({"a": list(range(first, first + ROWS))}), path, row_group_size=4)


def hdf5(path: Path, first: int) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(first, first + ROWS)


def lines(path: Path, start: int, stop: int) -> Slice:
    width = path.stat().st_size // ROWS
    return Slice(os.fsencode(path), start * width, stop * width, start, stop - start)


def rows(path: Path, start: int, stop: int) -> Slice:
    return Slice(os.fsencode(path), start, stop, start, stop - start)


def files(path: Path) -> list[TableFile]:
    return [TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path))]


def parquet_of(path: Path) -> Reader:
    def ask(questions: Any) -> Any:
        return [parquet_survey.answer(question) for question in questions]

    options = ParquetOptions()
    found = parquet_survey.survey(files(path), options, BySize(1 << 20), ask, origin="x")
    return parquet_reader.open_reader(options, found.setup)


def hdf5_of(path: Path) -> Reader:
    def ask(questions: Any) -> Any:
        return [hdf5_survey.answer(question) for question in questions]

    options = Hdf5Options()
    found = hdf5_survey.survey(files(path), options, BySize(1 << 20), ask, origin="x")
    return hdf5_reader.open_reader(options, found.setup)


class Kind(NamedTuple):
    write: Callable[[Path, int], None]
    slice: Callable[[Path, int, int], Slice]
    open: Callable[[Path], Reader]


KINDS = {
    "csv": Kind(
        csv,
        lines,
        lambda _: csv_reader.open_reader(CsvOptions(), msgspec.msgpack.encode(CsvSetup(header=b"a\n"))),
    ),
    "jsonl": Kind(jsonl, lines, lambda _: jsonl_reader.open_reader(JsonlOptions(), b"")),
    "parquet": Kind(parquet, rows, parquet_of),
    "hdf5": Kind(hdf5, rows, hdf5_of),
}


class Scene:
    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.path = folder / "table"
        self.put(self.path, 10_000)
        os.utime(self.path, ns=(1, 1))
        self.reader = kind.open(self.path)

    def put(self, path: Path, first: int) -> None:
        """In place, as one writes that has the file open already."""
        fresh = path.with_name("fresh")
        self.kind.write(fresh, first)
        path.write_bytes(fresh.read_bytes())

    def read(self, start: int, stop: int, path: Path | None = None) -> list[int]:
        data: Any = self.reader.read(self.kind.slice(path or self.path, start, stop), stop - start).data
        return [one["a"] if isinstance(one, dict) else one for one in _column(data)]


def _column(data: Any) -> list[Any]:
    found: list[Any] = data if isinstance(data, list) else data["a"].tolist()
    return found


@pytest.fixture(params=list(KINDS))
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    scene = Scene(KINDS[request.param], tmp_path)
    yield scene
    scene.reader.close()


def test_a_file_that_stays_as_it_is_can_be_read_for_ever(scene: Scene) -> None:
    for _ in range(3):
        assert scene.read(0, 3) == [10_000, 10_001, 10_002]
        assert scene.read(8, 10) == [10_008, 10_009]


def test_a_file_that_is_rewritten_in_place(scene: Scene) -> None:
    """Of the same size, with the same rows: its bytes alone would not tell."""
    assert scene.read(0, 3) == [10_000, 10_001, 10_002]
    scene.put(scene.path, 20_000)
    for _ in range(2):  # A second try is no better.
        with pytest.raises(Unreadable, match=r"table' changed while the run was reading it, .*--fresh"):
            scene.read(3, 5)


def test_a_file_that_is_replaced_while_another_one_is_read(scene: Scene, tmp_path: Path) -> None:
    assert scene.read(0, 3) == [10_000, 10_001, 10_002]
    for number in range(5):  # More than are kept open.
        other = tmp_path / f"other{number}"
        scene.put(other, 30_000)
        assert scene.read(0, 1, other) == [30_000]
    scene.put(tmp_path / "back", 20_000)
    (tmp_path / "back").rename(scene.path)
    with pytest.raises(Unreadable, match="changed while the run was reading it"):
        scene.read(3, 5)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_that_is_appended_to(kind: str, tmp_path: Path) -> None:
    scene = Scene(KINDS[kind], tmp_path)
    source = scene.kind.slice(scene.path, 3, 5)
    assert scene.read(0, 3) == [10_000, 10_001, 10_002]
    with open(scene.path, "ab") as file:
        file.write(b"more\n")
    os.utime(scene.path, ns=(1, 1))
    with pytest.raises(Unreadable, match="changed while the run was reading it"):
        scene.reader.read(source, 2)
    scene.reader.close()


def test_not_more_than_so_many_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_MOST", 2)
    files = SeenFiles()
    path = tmp_path / "file"
    path.touch()
    with open(path) as file:
        for name in (b"a", b"b", b"c"):
            files.check(name, file.fileno())
        os.utime(path, ns=(1, 1))
        with pytest.raises(Unreadable):
            files.check(b"c", file.fileno())
        files.check(b"a", file.fileno())  # It was forgotten, so this is the first time again.
