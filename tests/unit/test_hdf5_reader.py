from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mpibatch.core.tables import ByRows, BySize, Hdf5Options, MiniBatchSize
from mpibatch.inputs.hdf5_reader import open_reader
from mpibatch.inputs.hdf5_survey import Answer, Question, answer, survey
from mpibatch.inputs.survey import Cut, Surveyed, TableFile, Unreadable
from mpibatch.work import Slice

ARRAYS = Hdf5Options(as_="arrays")
MEGABYTE = BySize(10**6)


def ask(questions: Sequence[Any]) -> list[Any]:
    """Answers as they come back from a worker: both ways in bytes."""
    asked = [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Question) for one in questions]
    return [msgspec.msgpack.decode(msgspec.msgpack.encode(answer(one)), type=Answer) for one in asked]


def surveyed(*paths: Path, size: MiniBatchSize = MEGABYTE, options: Hdf5Options = ARRAYS) -> Surveyed:
    files = [TableFile(os.fsencode(path), path.stat().st_size, os.fsencode(path)) for path in paths]
    return survey(files, options, size, ask, origin="job.yaml: inputs.0.hdf5")


def slices(path: Path, cut: Cut) -> list[Slice]:
    return [
        Slice(os.fsencode(path), int(start), int(start + rows), int(start), int(rows))
        for start, rows in zip(cut.starts, cut.rows)
    ]


def read_all(*paths: Path, size: MiniBatchSize = MEGABYTE, options: Hdf5Options = ARRAYS) -> list[Any]:
    found = surveyed(*paths, size=size, options=options)
    reader = open_reader(options, found.setup)
    read = []
    for path, cut in zip(paths, found.cuts):
        for source in slices(path, cut):
            batch = reader.read(source, source.rows)
            assert batch.bad == []
            read.append(batch.data)
    reader.close()
    return read


def joined(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


TYPES = ["<f8", ">f8", "<f4", "<i8", ">i2", "<u1", "?", "<c16", "<f2"]


@st.composite
def array_sets(draw: st.DrawFn) -> dict[str, Any]:
    rows = draw(st.integers(1, 30))
    arrays: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True)):
        shape = (rows, *draw(st.lists(st.integers(1, 3), max_size=2)))
        arrays[name] = draw(hnp.arrays(draw(st.sampled_from(TYPES)), shape))
    if draw(st.booleans()):
        texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
        arrays["text"] = np.array(draw(st.lists(texts, min_size=rows, max_size=rows)), dtype=object)
    return arrays


def write(path: Path, arrays: dict[str, Any], chunk: int | None = None) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            dtype = h5py.string_dtype() if values.dtype == object else values.dtype
            chunks = None if chunk is None else (min(chunk, len(values)), *values.shape[1:])
            file.create_dataset(name, data=values, dtype=dtype, chunks=chunks)


SIZES = st.one_of(st.builds(ByRows, st.integers(1, 40)), st.builds(BySize, st.integers(1, 2000)))


@given(array_sets(), st.none() | st.integers(1, 40), SIZES)
@settings(max_examples=100, deadline=None)
def test_the_mini_batches_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Any], chunk: int | None, size: MiniBatchSize
) -> None:
    path = tmp_path_factory.mktemp("any") / "t.h5"
    write(path, arrays, chunk)
    batches = read_all(path, size=size)
    found = joined(batches)
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        assert found[name].dtype == values.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], values)
    if isinstance(size, ByRows):
        assert all(len(next(iter(batch.values()))) == size.rows for batch in batches[:-1])


def test_arrays_of_one_and_two_dimensions_become_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    arrays = {
        "a": np.arange(5, dtype=">i4"),
        "b": np.arange(10, dtype="f4").reshape(5, 2),
        "c": np.array([True, False, True, True, False]),
        "t": np.array(["x", "é", "", "z", "w"], dtype=object),
    }
    write(path, arrays)
    frames = read_all(path, size=ByRows(2), options=Hdf5Options())
    expected = pd.DataFrame(
        {"a": arrays["a"].astype("i4"), "b_0": arrays["b"][:, 0], "b_1": arrays["b"][:, 1], "c": arrays["c"]}
        | {"t": arrays["t"].tolist()}
    )
    assert [len(frame) for frame in frames] == [2, 2, 1]
    for frame in frames:
        assert isinstance(frame.index, pd.RangeIndex) and frame.index.start == 0
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), expected)


def test_text_of_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["fixed"] = np.array([b"a", b"b\xff", b"\xc3\xa9"], dtype="S4")
        file["wide"] = np.array([[b"a", b"b"]] * 3, dtype="S1")
        file.create_dataset("empty", (3,), h5py.string_dtype())
    (arrays,) = read_all(path)
    assert arrays["fixed"].tolist() == ["a", "b\udcff", "é"]
    assert arrays["wide"].tolist() == [["a", "b"]] * 3
    assert arrays["empty"].tolist() == [""] * 3
    (frame,) = read_all(path, options=Hdf5Options())
    assert frame.columns.tolist() == ["empty", "fixed", "wide_0", "wide_1"]
    assert frame["fixed"].tolist() == ["a", "b\udcff", "é"]
    assert frame["wide_1"].tolist() == ["b"] * 3


def test_the_fields_of_a_compound_type_become_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    dtype = np.dtype([("x", ">f8"), ("name", h5py.string_dtype()), ("v", "<i4", (2,))])
    values = np.array([(1.5, "a", [1, 2]), (2.5, "b", [3, 4])], dtype=dtype)
    with h5py.File(path, "w") as file:
        file["events"] = values
        file["n"] = [7, 8]
    (frame,) = read_all(path, options=Hdf5Options())
    expected = pd.DataFrame({"x": [1.5, 2.5], "name": ["a", "b"]})
    pd.testing.assert_frame_equal(frame[["x", "name"]], expected)
    assert frame.columns.tolist() == ["x", "name", "v_0", "v_1", "n"]
    assert frame[["v_0", "v_1"]].to_numpy().tolist() == [[1, 2], [3, 4]]
    (arrays,) = read_all(path)
    assert arrays["events"]["x"].tolist() == [1.5, 2.5]


def test_groups_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["run/a"] = [1, 2]
        file["run/deep/b"] = [3, 4]
        file["run/scalar"] = 5
        file["run/nothing"] = h5py.Empty("f8")
        file["run/gone"] = h5py.SoftLink("/nowhere")
        file["other"] = [1, 2, 3]
    for group in ("run", "/run", "/run/"):
        (arrays,) = read_all(path, options=Hdf5Options(group=group, as_="arrays"))
        assert list(arrays) == ["a"]
    options = Hdf5Options(group="run", datasets=["deep/b", "/a"], as_="arrays")
    (arrays,) = read_all(path, options=options)
    assert {name: values.tolist() for name, values in arrays.items()} == {"deep/b": [3, 4], "a": [1, 2]}


def test_files_of_different_widths_give_one_type(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(6)]
    for path, dtype in zip(paths, ["<i2", ">i8", "<i2", "<i4", "|i1", "<i2"]):
        write(path, {"a": np.array([1, 2], dtype=dtype)})
    batches = read_all(*paths)
    assert [batch["a"].dtype.str for batch in batches] == ["<i8"] * 6


def test_more_files_than_stay_open_back_and_forth(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(6)]
    for number, path in enumerate(paths):
        write(path, {"a": np.arange(4) + 10 * number})
    found = surveyed(*paths)
    reader = open_reader(ARRAYS, found.setup)
    before = len(os.listdir("/proc/self/fd"))
    for number in [0, 1, 2, 3, 4, 5, 0, 5, 1, 1, 4, 0]:
        batch = reader.read(Slice(os.fsencode(paths[number]), 1, 4, 1, 3, skip=1), 2)
        assert batch.data["a"].tolist() == [10 * number + 2, 10 * number + 3]
    assert len(os.listdir("/proc/self/fd")) == before + 4
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def changed(path: Path, how: str) -> None:
    if how == "gone":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "no dataset":
        write(path, {"b": np.arange(9)})
    elif how == "fewer rows":
        write(path, {"a": np.arange(3)})
    else:
        write(path, {"a": np.zeros((9, 2))})


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("gone", "No such file|nable to"),
        ("truncated", "truncated"),
        ("no dataset", "dataset a is not there"),
        ("fewer rows", "it has 3 rows, while rows 0 to 9 were planned"),
        ("other shape", "dataset a is not there, or of another shape"),
    ],
)
def test_a_file_that_has_changed_is_unreadable_until_it_is_back(tmp_path: Path, how: str, words: str) -> None:
    path = tmp_path / "t.h5"
    write(path, {"a": np.arange(9)})
    content = path.read_bytes()
    found = surveyed(path)
    reader = open_reader(ARRAYS, found.setup)
    (source,) = slices(path, found.cuts[0])
    changed(path, how)
    with pytest.raises(Unreadable, match=f"t.h5' cannot be read as it was planned: .*{words}"):
        reader.read(source, 9)
    back = tmp_path / "back"
    back.write_bytes(content)
    back.rename(path)  # Another file of the same name: what is open is not it.
    assert reader.read(source, 9).data["a"].tolist() == list(range(9))
    reader.close()
