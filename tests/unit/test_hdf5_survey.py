from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pytest

from mpibatch.core.tables import ByRows, BySize, Hdf5Options, MiniBatchSize
from mpibatch.errors import InputError
from mpibatch.inputs.hdf5_survey import Answer, Question, answer, survey
from mpibatch.inputs.survey import Surveyed, TableFile


def ask(questions: Sequence[Any]) -> list[Any]:
    """Answers as they come back from a worker: both ways in bytes."""
    asked = [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Question) for one in questions]
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(answer(one)), type=Answer) for one in asked]


MEGABYTE = BySize(10**6)


def surveyed(*paths: Path, size: MiniBatchSize = MEGABYTE, **options: Any) -> Surveyed:
    files = [TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path)) for path in paths]
    return survey(files, Hdf5Options(**options), size, ask, origin="job.yaml: inputs.0.hdf5")


def write(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def starts(found: Surveyed) -> list[list[int]]:
    for cut in found.cuts:
        assert len(cut.rows) == max(0, len(cut.starts) - 1)
        assert np.diff(cut.starts).tolist() == cut.rows.tolist()
    return [cut.starts.tolist() for cut in found.cuts]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (ByRows(4), [0, 4, 8, 10]),
        (ByRows(100), [0, 10]),
        (BySize(1), list(range(11))),
        (BySize(24), list(range(11))),
        (BySize(48), [0, 2, 4, 6, 8, 10]),
        (BySize(100), [0, 5, 10]),
        (BySize(10**9), [0, 10]),
    ],
)
def test_cuts(tmp_path: Path, size: MiniBatchSize, expected: list[int]) -> None:
    path = write(tmp_path / "t.h5", a=np.zeros(10), b=np.zeros((10, 2)))
    assert starts(surveyed(path, size=size)) == [expected]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # 10 rows: one chunk is nearest.
        (80, [0, 7, 14, 21, 28, 35, 42, 49, 56, 63, 70, 77, 84, 91, 98, 100]),
        (88, [0, 14, 28, 42, 56, 70, 84, 98, 100]),  # 11 rows
        (40, list(range(0, 101, 5))),  # 5 rows: less than a chunk
        (320, [0, 42, 84, 100]),  # 40 rows
    ],
)
def test_mini_batches_begin_with_chunks(tmp_path: Path, size: int, expected: list[int]) -> None:
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros(100), chunks=(7,))
    assert starts(surveyed(path, size=BySize(size))) == [expected]


def test_the_chunks_of_the_largest_data_count(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros((60, 9)), chunks=(6, 9))
        file.create_dataset("b", data=np.zeros(60), chunks=(5,))
    assert starts(surveyed(path, size=BySize(80 * 10))) == [[0, 12, 24, 36, 48, 60]]


def test_strings_of_variable_length_count_as_16_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.h5", t=["a"] * 10, f=np.array([b"abcd"] * 10), i=np.zeros((10, 2), "i2"))
    assert starts(surveyed(path, size=BySize(48))) == [[0, 2, 4, 6, 8, 10]]


def test_a_file_without_rows_has_no_mini_batch(tmp_path: Path) -> None:
    paths = [write(tmp_path / "0.h5", a=np.zeros(0)), write(tmp_path / "1.h5", a=np.zeros(2))]
    for size in (BySize(100), ByRows(5)):
        found = surveyed(*paths, size=size)
        assert starts(found) == [[], [0, 2]]
        assert found.warnings == []


def test_files_that_cannot_be_read_are_items_that_fail(tmp_path: Path) -> None:
    good = write(tmp_path / "good.h5", a=np.zeros(1000))
    cut_short = write(tmp_path / "short.h5", a=np.zeros(1000))
    os.truncate(cut_short, 4000)
    none = tmp_path / "none.h5"
    none.write_bytes(b"")
    found = surveyed(cut_short, good, none)
    assert [cut.error is None for cut in found.cuts] == [False, True, False]
    assert "truncated" in str(found.cuts[0].error)
    for number in (0, 2):
        cut = found.cuts[number]
        assert (cut.starts.tolist(), cut.rows.tolist(), cut.whole) == ([0, 1], [1], True)
    (warning,) = found.warnings
    assert "2 of 3 files cannot be read" in warning and "short.h5" in warning and "none.h5" in warning
    with pytest.raises(InputError, match=r"None of the 2 files can be read.*short\.h5"):
        surveyed(cut_short, none)


def test_many_files_are_few_questions(tmp_path: Path) -> None:
    path = write(tmp_path / "t.h5", a=np.zeros(3))
    file = TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path))
    counts = []

    def counted(questions: Sequence[Any]) -> list[Any]:
        counts.append(len(questions))
        return ask(questions)

    found = survey([file] * 1000, Hdf5Options(), ByRows(2), counted, origin="o")
    assert starts(found) == [[0, 2, 3]] * 1000
    assert counts == [63]


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"values": [1]},
        {"datasets": ["valeus"]},
        r"no dataset valeus in .*did you mean values\?\n.*there: values",
    ),
    ({"g__a": [1]}, {"datasets": ["a"]}, r"no dataset a in .*\n.*there: g/a"),
    ({"run__a": [1]}, {"group": "runs"}, r"no group runs in .*did you mean run\?\n.*there: /, run"),
    ({"run__a": [1]}, {"group": "run/a"}, "no group run/a"),
    ({"run__a": [1]}, {"datasets": ["run"]}, "no dataset run"),
    ({"run__a": [1]}, {}, "no dataset that has rows is directly in /"),
    ({"a": [1, 2], "b": [1]}, {}, r"same first dimension.*: a \(2,\), b \(1,\); name in `datasets`"),
    ({"a": [1, 2], "b": 3}, {"datasets": ["a", "b"]}, r"same first dimension.*: a \(2,\), b \(\)"),
    (
        {"a": np.zeros((2, 2, 2))},
        {},
        r"dataset a, \(rows, 2, 2\) of <f8, does not become columns.*as: arrays",
    ),
    ({"a": np.zeros((2, 2)), "a_1": [1, 2]}, {}, "two columns would be named a_1"),
    ({"a": np.zeros((2, 2), dtype=[("x", "f8")])}, {}, "does not become columns"),
    ({"a": np.zeros(2, dtype=[("x", [("y", "f8")])])}, {}, "does not become columns"),
]


@pytest.mark.parametrize(("datasets", "options", "words"), WRONG)
def test_what_is_wrong_with_the_job(
    tmp_path: Path, datasets: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    path = write(tmp_path / "t.h5", **datasets)
    with pytest.raises(InputError, match=words) as raised:
        surveyed(path, **options)
    assert str(raised.value).startswith("job.yaml: inputs.0.hdf5: ")
    assert "t.h5" in str(raised.value) or "as: arrays" in str(raised.value)


DIFFERENT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"a": [1]}, {"b": [1]}, r"not in both: a, b\n.*0.h5': a\n.*1.h5': b\n"),
    ({"a": [1]}, {"a": [1.5]}, r"dataset a is \(rows\) of <i8 in .*0.h5', but \(rows\) of <f8 in .*1.h5'"),
    ({"a": np.zeros((1, 2))}, {"a": np.zeros((1, 3))}, r"\(rows, 2\) of <f8 .* \(rows, 3\) of <f8"),
    ({"a": ["x"]}, {"a": [1]}, r"\(rows\) of text .* \(rows\) of <i8"),
    (
        {"a": np.zeros(1, dtype=[("x", "f8")])},
        {"a": np.zeros(1, dtype=[("y", "f8")])},
        r"\(rows\) of x <f8 .* \(rows\) of y <f8",
    ),
]


@pytest.mark.parametrize(("one", "other", "words"), DIFFERENT)
def test_files_that_differ(tmp_path: Path, one: dict[str, Any], other: dict[str, Any], words: str) -> None:
    paths = [write(tmp_path / f"{number}.h5", **datasets) for number, datasets in enumerate((one, other))]
    with pytest.raises(InputError, match=words):
        surveyed(*paths)


def test_a_dataset_that_one_file_lacks(tmp_path: Path) -> None:
    paths = [write(tmp_path / "0.h5", a=[1], b=[2]), write(tmp_path / "1.h5", a=[1])]
    with pytest.raises(InputError, match=r"no dataset b in .*1\.h5'\n.*there: a"):
        surveyed(*paths, datasets=["a", "b"])
    assert starts(surveyed(*paths, datasets=["a"])) == [[0, 1], [0, 1]]
