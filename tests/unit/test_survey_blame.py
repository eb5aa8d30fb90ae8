"""Questions in parts, files that are to blame, and what a question asks of who answers it: for all formats."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pandas as pd
import pytest

from mpibatch.core.tables import (
    BySize,
    CsvOptions,
    Hdf5Options,
    JsonlOptions,
    ParquetOptions,
    TableOptions,
)
from mpibatch.errors import InputError, StoppedError
from mpibatch.inputs import archives, csv_survey, hdf5_survey, key_survey, lines_survey, parquet_survey
from mpibatch.inputs.archives import ListArchive
from mpibatch.inputs.csv_cuts import Limits
from mpibatch.inputs.csv_questions import Block, Look, Rows, Unpack
from mpibatch.inputs.hdf5_contents import Datasets
from mpibatch.inputs.key_runs import KeyRuns
from mpibatch.inputs.parquet_footers import Footers
from mpibatch.inputs.shuffle import Sort
from mpibatch.inputs.shuffle_plan import SortedTo
from mpibatch.inputs.survey import Cut, TableFile
from mpibatch.runtime.surveying import blame
from mpibatch.runtime.surveying.blame import answer_surely, joined, one_by_one, parts
from mpibatch.runtime.surveying.burden import is_long, may_crash
from mpibatch.runtime.surveying.entry import run
from mpibatch.runtime.surveying.questions import answer, read_answer, write

WHY = "its reader died: SIGSEGV"
FILES = 3
SMALL = Limits(block=20, piece=8, files=2, questions=2)
"""Files of some lines are large ones, and several small ones are asked about together."""


def frame(number: int) -> pd.DataFrame:
    return pd.DataFrame({"key": ["x", "y", "x", "y"], "id": [f"{number}-{row}" for row in range(4)]})


def write_csv(path: Path, number: int) -> None:
    frame(number).to_csv(path, index=False)


def write_gz(path: Path, number: int) -> None:
    path.write_bytes(gzip.compress(frame(number).to_csv(index=False).encode()))


def write_jsonl(path: Path, number: int) -> None:
    frame(number).to_json(path, orient="records", lines=True)


def write_parquet(path: Path, number: int) -> None:
    frame(number).to_parquet(path)


def write_hdf5(path: Path, number: int) -> None:
    with h5py.File(path, "w") as file:
        for name, values in frame(number).items():
            file[str(name)] = values.astype(str).to_list()


class Kind(msgspec.Struct):
    """A format of tables."""

    suffix: str
    write: Callable[[Path, int], None]
    options: TableOptions
    survey: Callable[..., Any]
    more: dict[str, Any] = {}


KINDS = {
    "csv": Kind("csv", write_csv, CsvOptions(), csv_survey.survey, {"unpack_to": None}),
    "large-csv": Kind(
        "csv", write_csv, CsvOptions(), csv_survey.survey, {"unpack_to": None, "limits": SMALL}
    ),
    "gz": Kind("csv.gz", write_gz, CsvOptions(unpack=True), csv_survey.survey, {"unpack_to": "here"}),
    "jsonl": Kind("jsonl", write_jsonl, JsonlOptions(), lines_survey.survey, {"unpack_to": None}),
    "parquet": Kind("parquet", write_parquet, ParquetOptions(), parquet_survey.survey),
    "hdf5": Kind("h5", write_hdf5, Hdf5Options(), hdf5_survey.survey),
}


class Asked:
    """An `Ask` that keeps the questions; what is asked about the file `deadly` alone has no answer."""

    def __init__(self, deadly: bytes | None = None) -> None:
        self.questions: list[Any] = []
        self._deadly = deadly

    def __call__(self, questions: Sequence[Any]) -> list[Any]:
        self.questions += questions
        return [self._answer(question) for question in questions]

    def _answer(self, question: Any) -> Any:
        if self._deadly is None or write(self._deadly).strip('"') not in write(question):
            return answer(question)
        found = one_by_one(question, self._answer, WHY)
        return read_answer(write(found))


def surveyed(kind: Kind, folder: Path, ask: Asked, files: int = FILES) -> tuple[list[TableFile], list[Cut]]:
    found = []
    for number in range(files):
        path = folder / f"file{number}.{kind.suffix}"
        kind.write(path, number)
        found.append(TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path)))
    more = dict(kind.more)
    if more.get("unpack_to") == "here":
        more["unpack_to"] = lambda file: file.path + b".unpacked"
    done = kind.survey(found, kind.options, BySize(30), ask, origin="here", **more)
    return found, done.cuts


@pytest.mark.parametrize("name", KINDS)
def test_a_file_to_blame_is_one_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    undisturbed = Asked()
    files, before = surveyed(kind, tmp_path, undisturbed)
    _, cuts = surveyed(kind, tmp_path, Asked(files[1].path))
    assert [cut.error for cut in cuts] == [None, WHY, None]
    assert [len(cut.rows) for cut in cuts] == [len(before[0].rows), 1, len(before[2].rows)]
    for number in (0, 2):
        assert np.array_equal(cuts[number].starts, before[number].starts)
    with pytest.raises(InputError, match=f"The only file cannot be read: .*{WHY}"):
        surveyed(kind, tmp_path, Asked(files[0].path), files=1)


@pytest.mark.parametrize("name", KINDS)
def test_the_answers_to_the_parts_are_the_answer_to_the_question(tmp_path: Path, name: str) -> None:
    asked = Asked()
    surveyed(KINDS[name], tmp_path, asked)
    assert asked.questions
    for question in asked.questions:
        singles = parts(question)
        assert joined(question, [answer(one) for one in singles]) == answer(question)
        assert all(parts(one) == [one] for one in singles)


def keyed(folder: Path, ask: Asked, *, shuffle: bool) -> list[str | None]:
    """Why files of a table by keys cannot be read."""
    kind = KINDS["parquet"]
    files, _ = surveyed(kind, folder, Asked())
    done = parquet_survey.survey(files, ParquetOptions(), BySize(1 << 20), Asked(), origin="here")
    to = SortedTo(os.fsencode(folder / "sorted"), [1] * len(files))
    keys = ["key"] if shuffle else ["id"]
    found = key_survey.survey_keys(
        files, ParquetOptions(), done, keys, ask, origin="here", shuffle=shuffle, sorted_to=to
    )
    return [cut.error for cut in found.surveyed.cuts]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_file_to_blame_for_its_keys(tmp_path: Path, shuffle: bool) -> None:
    asked = Asked()
    assert keyed(tmp_path, asked, shuffle=shuffle) == [None] * FILES
    for question in asked.questions:
        assert joined(question, [answer(one) for one in parts(question)]) == answer(question)
    assert keyed(tmp_path, Asked(os.fsencode(tmp_path / "file1.parquet")), shuffle=shuffle) == [
        None,
        WHY,
        None,
    ]
    sorts = [one for one in asked.questions if isinstance(one, Sort)]
    assert bool(sorts) == shuffle


def test_an_archive_to_blame(tmp_path: Path) -> None:
    files = []
    for number in range(2):
        path = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "x")
        files.append(TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path)))
    found = archives.survey(files, ["*"], Asked(files[0].path), origin="here")
    assert [one.error for one in found.archives] == [WHY, None]


# What is raised


def test_what_a_format_does_not_expect_is_the_files_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked()
    files, _ = surveyed(KINDS["parquet"], tmp_path, asked)
    question = Footers([file.path for file in files], None)

    def fails(one: Any) -> Any:
        if files[1].path in one.paths:
            raise TypeError("no\nsuch")
        return answer(one)

    monkeypatch.setattr(blame, "answer", fails)
    found = answer_surely(question)
    assert [one.error for one in found.footers] == [None, "TypeError: no such", None]
    assert [found.footers[0], found.footers[2]] == answer(
        Footers([files[0].path, files[2].path], None)
    ).footers
    assert "TypeError" in caplog.text, "whose fault it is can be found out"
    (row,) = run([f"/17 {write(question)}"])
    number, _, line = row.partition(" ")
    assert number == "17" and read_answer(line) == found and "\n" not in row


def test_what_asks_to_stop_is_no_error_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(question: Any) -> Any:
        raise StoppedError("got SIGTERM")

    monkeypatch.setattr(blame, "answer", stops)
    with pytest.raises(StoppedError):
        answer_surely(Footers([b"x"], None))


# What it takes


def test_which_formats_are_read_by_what_may_crash(tmp_path: Path) -> None:
    for name, kind in KINDS.items():
        asked = Asked()
        (tmp_path / name).mkdir()
        surveyed(kind, tmp_path / name, asked)
        assert {may_crash(one) for one in asked.questions} == {name in ("parquet", "hdf5")}, name
    asked = Asked()
    keyed(tmp_path, asked, shuffle=True)
    assert all(may_crash(one) for one in asked.questions)
    (runs,) = [one for one in asked.questions if isinstance(one, KeyRuns)]
    lines = msgspec.structs.replace(runs, spec=msgspec.structs.replace(runs.spec, options=JsonlOptions()))
    assert not may_crash(lines) and not may_crash(ListArchive(b"x", []))


MEGABYTE = 1 << 20


def test_what_is_known_to_take_long(tmp_path: Path) -> None:
    asked = Asked()
    surveyed(KINDS["large-csv"], tmp_path, asked)
    look, block = asked.questions[0], next(one for one in asked.questions if isinstance(one, Block))

    def looks_at(size: int, *, whole: bool = False, **changes: Any) -> Look:
        file = msgspec.structs.replace(look.files[0], size=size, whole=whole)
        look_at: Look = msgspec.structs.replace(look, files=[file], **{"rows": True, **changes})
        return look_at

    assert not is_long(looks_at(32 * MEGABYTE)) and not is_long(looks_at(900 * MEGABYTE, rows=False))
    assert is_long(looks_at(32 * MEGABYTE, whole=True)) and is_long(looks_at(32 * MEGABYTE, exact=True))
    assert is_long(looks_at(100 * MEGABYTE))
    wide = msgspec.structs.replace(block, start=0, stop=100 * MEGABYTE)
    assert not is_long(block) and is_long(wide) and is_long(Rows(wide, False, 0))
    big = tmp_path / "big.gz"
    big.touch()
    os.truncate(big, 50 * MEGABYTE)
    assert is_long(Unpack(os.fsencode(big), b"x")) and not is_long(Unpack(b"/nowhere", b"x"))
    small = os.fsencode(tmp_path / "file0.csv")
    assert not is_long(Unpack(small, b"x")) and not is_long(Datasets([small], "/", None))


def test_sorting_takes_longer_than_looking_for_keys(tmp_path: Path) -> None:
    asked = Asked()
    keyed(tmp_path, asked, shuffle=True)
    runs = next(one for one in asked.questions if isinstance(one, KeyRuns))
    sort = next(one for one in asked.questions if isinstance(one, Sort))

    def changed(question: Any, rows: int, options: TableOptions) -> Any:
        spec = msgspec.structs.replace(question.spec, options=options)
        part = msgspec.structs.replace(question.parts[0], start=0, stop=rows * 100, rows=rows)
        return msgspec.structs.replace(question, spec=spec, parts=[part])

    for options in (ParquetOptions(), Hdf5Options(), CsvOptions(), JsonlOptions()):
        assert not is_long(changed(runs, 300_000, options)) and is_long(changed(runs, 3_000_000, options))
        assert is_long(changed(sort, 300_000, options)) and not is_long(changed(sort, 30_000, options))
