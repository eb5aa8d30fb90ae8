"""Output files of each format: what they hold, that grouping changes nothing, and full disks."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mpibatch.core import forms
from mpibatch.core.forms import Unmergeable
from mpibatch.outputs import hdf5_sink, row_groups
from mpibatch.outputs.csv_rows import DEFAULTS, CsvEncoder
from mpibatch.outputs.encoding import ItemKeys
from mpibatch.outputs.hdf5_rows import Hdf5Encoder
from mpibatch.outputs.parquet_rows import ParquetEncoder
from mpibatch.outputs.sinks import Sink, TextSink, make_sink

Fragment = tuple[bytes, int]
FORMATS = ["text", "jsonl", "csv", "parquet", "hdf5"]


def fragment(format_: str, result: object) -> Fragment:
    """Of what `run()` returned; of text: as it is."""
    if format_ in ("text", "jsonl"):
        assert isinstance(result, bytes)
        return result, 0
    encoders: dict[str, Any] = {
        "csv": lambda: CsvEncoder(DEFAULTS, False),
        "parquet": lambda: ParquetEncoder(False),
        "hdf5": lambda: Hdf5Encoder(False),
    }
    encoder = encoders[format_]()
    rows = encoder.encode(encoder.collect(result), 1 << 40, lambda: ItemKeys(paths=[], rows=None))
    return rows.fragment, rows.header


def merged(fragments: Sequence[Fragment]) -> bytes | None:
    found = None
    for data, header in fragments:
        if header:
            form = forms.decode_form(data[:header])
            found = form if found is None else forms.merge(found, form)
    return None if found is None else forms.encode_form(found)


def written(format_: str, path: Path, groups: Sequence[Sequence[Fragment]]) -> bytes:
    """The file that these groups of fragments make."""
    sink = make_sink(format_, path, {})
    sink.start(merged([each for group in groups for each in group]))
    for group in groups:
        sink.append([(memoryview(data), header) for data, header in group])
    sink.finish()
    sink.close()
    data = path.read_bytes()
    path.unlink()
    return data


def grouped(draw: Callable[..., Any], fragments: list[Fragment]) -> list[list[Fragment]]:
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(fragments)), max_size=5))), len(fragments)]
    return [fragments[start:stop] for start, stop in itertools.pairwise(cuts)]


def as_frame(data: bytes) -> pd.DataFrame:
    frame: pd.DataFrame = parquet.read_table(pa.BufferReader(data)).to_pandas()
    return frame


def datasets(data: bytes, path: Path) -> dict[str, Any]:
    """All datasets: dtype, shape and values."""
    path.write_bytes(data)
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: (str(item.dtype), item.shape, item.chunks, item[:].tolist())})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


# The rows of mini-batches, whatever they come in

NUMBERS = [
    st.lists(st.integers(-5, 2**50), max_size=4),
    st.lists(st.floats(-100, 100), max_size=4),
]


def frames(kinds: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[list[pd.DataFrame]]:
    """Of a column n, of the kinds, and a column t of text. Without rows nothing is known of n."""

    def frame(numbers: list[Any]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "n": pd.Series(numbers, dtype=None if numbers else object),
                "t": [f"{number}é"[-3:] for number in numbers],
            }
        )

    return st.lists(st.one_of(kinds).map(frame), min_size=1, max_size=6)


@given(frames([*NUMBERS, st.lists(st.none(), max_size=2)]), st.integers(1, 60), st.integers(1, 5), st.data())
@settings(max_examples=60, deadline=None)
def test_parquet_is_the_same_bytes_however_rows_are_grouped(
    tmp_path_factory: pytest.TempPathFactory,
    results: list[pd.DataFrame],
    most: int,
    rows: int,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "GROUP_BYTES", most)
        patch.setattr(row_groups, "GROUP_ROWS", rows)
        fragments = [fragment("parquet", frame) for frame in results]
        whole = written("parquet", path, [fragments])
        assert written("parquet", path, grouped(data.draw, fragments)) == whole
        assert written("parquet", path, [[each] for each in fragments]) == whole
    assert parquet.read_metadata(pa.BufferReader(whole)).num_rows == sum(map(len, results))
    found = as_frame(whole)
    assert found["t"].tolist() == [text for frame in results for text in frame["t"]]
    expected = [None if pd.isna(number) else number for frame in results for number in frame["n"]]
    assert [None if pd.isna(number) else number for number in found["n"]] == pytest.approx(expected)


@given(frames(NUMBERS), st.data())
@settings(max_examples=60, deadline=None)
def test_csv_is_that_of_all_rows_together(
    tmp_path_factory: pytest.TempPathFactory, results: list[pd.DataFrame], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.csv"
    fragments = [fragment("csv", frame) for frame in results]
    whole = written("csv", path, [fragments])
    assert written("csv", path, grouped(data.draw, fragments)) == whole
    parts = [frame for frame in results if len(frame)]
    expected = pd.concat(parts, ignore_index=True) if parts else results[0]
    assert whole.decode() == expected.to_csv(index=False)


ARRAYS = st.lists(
    st.tuples(st.sampled_from(["int8", "uint16", "int64", "float32", "float64"]), st.integers(0, 5)),
    min_size=1,
    max_size=6,
)


@given(ARRAYS, st.integers(1, 100), st.data())
@settings(max_examples=60, deadline=None)
def test_hdf5_is_the_same_values_however_rows_are_grouped(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[tuple[str, int]], most: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "x.h5"
    results = [
        {
            "g/a": (np.arange(rows * 6).reshape(rows, 2, 3) + number).astype(dtype),
            "t": np.array([f"é{number} {row}" for row in range(rows)], object),
            "b": np.arange(rows) % 2 == 0,
        }
        for number, (dtype, rows) in enumerate(kinds)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5_sink, "CHUNK_BYTES", most)
        fragments = [fragment("hdf5", result) for result in results]
        whole = written("hdf5", path, [fragments])
        found = datasets(whole, path)
        path.unlink()
        cut = written("hdf5", path, grouped(data.draw, fragments))
        assert datasets(cut, path) == found
        path.unlink()
    some = [result for result in results if len(result["b"])]
    if not some:
        assert found == {}
        return
    numbers = np.concatenate([result["g/a"] for result in some])
    dtype, shape, chunks, values = found["g/a"]
    kinds_ = {result["g/a"].dtype.name for result in some}
    assert np.result_type(*kinds_) == dtype or len(kinds_) > 1
    assert shape == numbers.shape and values == numbers.tolist()
    assert chunks == (max(1, most // (6 * np.dtype(dtype).itemsize)), 2, 3)
    assert found["t"][3] == [text.encode() for result in some for text in result["t"]]
    assert found["b"][0] == "bool" and found["b"][3] == [flag for r in some for flag in r["b"].tolist()]


def test_equal_runs_give_equal_hdf5_bytes(tmp_path: Path) -> None:
    """No times in it, no memory that was not written to."""
    fragments = [fragment("hdf5", {"a": np.arange(5) + n, "t": [f"{n}"] * 5}) for n in range(3)]
    one = written("hdf5", tmp_path / "x.h5", [fragments])
    assert written("hdf5", tmp_path / "y.h5", [fragments]) == one


# Corners

SOME: dict[str, tuple[Any, Any]] = {
    "text": (b"one\n", b"two\n"),
    "jsonl": (b"1\n", b"2\n"),
    "csv": (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2.5]})),
    "parquet": (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2.5]})),
    "hdf5": ({"a": np.array([1])}, {"a": np.array([2.5])}),
}


def content(format_: str, data: bytes, path: Path) -> Any:
    if format_ == "parquet":
        return as_frame(data).to_dict("list")
    return datasets(data, path) if format_ == "hdf5" else data


@pytest.mark.parametrize("format_", FORMATS)
def test_a_restart_begins_with_another_form(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    fragments = [fragment(format_, result) for result in SOME[format_]]
    expected = written(format_, tmp_path / "expected", [fragments])
    sink = make_sink(format_, path, {})
    sink.start(merged(fragments[:1]))
    sink.append([(memoryview(data), header) for data, header in fragments[:1]] * 20)
    sink.start(merged(fragments))
    gc.collect()
    sink.append([(memoryview(data), header) for data, header in fragments])
    sink.finish()
    assert path.read_bytes() == expected


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_of_another_session_is_left_alone(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"not ours")
    sink = make_sink(format_, path, {})
    with pytest.raises(FileExistsError) as caught:
        sink.start(None)
    sink.close()
    del sink
    gc.collect()
    assert path.read_bytes() == b"not ours" and caught.value.filename == str(path)


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_let_go_of_unfinished_is_not_completed(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    data, header = fragment(format_, SOME[format_][0])
    sink = make_sink(format_, path, {})
    sink.close()
    sink.start(merged([(data, header)]))
    sink.append([(memoryview(data), header)])
    before = path.read_bytes()
    sink.close()
    sink.close()
    del sink
    gc.collect()
    assert path.read_bytes() == before
    if format_ == "parquet":
        with pytest.raises(pa.ArrowInvalid):
            parquet.read_table(path)


@pytest.mark.parametrize("format_", FORMATS)
def test_without_a_row(format_: str, tmp_path: Path) -> None:
    data = written(format_, tmp_path / "x", [[]])
    assert written(format_, tmp_path / "x", [[(b"", 0)], []]) == data
    if format_ in ("text", "jsonl", "csv"):
        assert data == b""
    else:
        assert content(format_, data, tmp_path / "y") == {}


def test_without_a_row_but_with_columns(tmp_path: Path) -> None:
    none = pd.DataFrame({"a": [1], "b": ["x"]}).iloc[:0]
    assert written("csv", tmp_path / "x", [[fragment("csv", none)]]) == b"a,b\n"
    table = parquet.read_table(
        pa.BufferReader(written("parquet", tmp_path / "x", [[fragment("parquet", none)]]))
    )
    assert table.num_rows == 0 and table.schema.names == ["a", "b"] and table.schema.types[0] == pa.int64()


def test_a_form_that_is_not_that_of_the_rows_is_refused(tmp_path: Path) -> None:
    for format_ in ("csv", "parquet", "hdf5"):
        data, header = fragment(format_, SOME[format_][0])
        sink = make_sink(format_, tmp_path / format_, {})
        sink.start(None)
        with pytest.raises((AssertionError, ValueError)):
            sink.append([(memoryview(data), header)])
        sink.close()


def test_row_groups_are_as_large_as_they_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "GROUP_ROWS", 7)
    fragments = [fragment("parquet", pd.DataFrame({"a": range(rows)})) for rows in (3, 3, 9, 1)]
    data = parquet.read_metadata(pa.BufferReader(written("parquet", tmp_path / "x", [fragments])))
    assert [data.row_group(number).num_rows for number in range(data.num_row_groups)] == [7, 7, 2]
    assert data.row_group(0).column(0).compression == "ZSTD"


def test_dates_that_do_not_fit_are_told_of(tmp_path: Path) -> None:
    far = pd.DataFrame({"d": np.array(["9999-12-31"], "datetime64[us]")})
    fine = pd.DataFrame({"d": np.array(["2020-01-01"], "datetime64[ns]")})
    fragments = [fragment("parquet", frame) for frame in (far, fine)]
    sink = make_sink("parquet", tmp_path / "x", {})
    sink.start(merged(fragments))
    with pytest.raises(Unmergeable, match="out of bounds"):
        sink.append([(memoryview(data), header) for data, header in fragments])
    sink.close()


def test_the_settings_of_csv(tmp_path: Path) -> None:
    sink = make_sink("csv", tmp_path / "x", {"sep": ";", "header": ["n"]})
    sink.start(merged([fragment("csv", SOME["csv"][0])]))
    sink.finish()
    assert (tmp_path / "x").read_bytes() == b"n\n"


def test_a_header_of_text_stands_once(tmp_path: Path) -> None:
    sink: Sink = TextSink(tmp_path / "x")
    sink.start(None)
    sink.append([(memoryview(b""), 0), (memoryview(b"h\n1\n"), 2)])
    sink.append([(memoryview(b"h\n2\n"), 2)])
    sink.finish()
    assert (tmp_path / "x").read_bytes() == b"h\n1\n2\n"


def test_an_empty_shape_and_large_rows(tmp_path: Path) -> None:
    none = fragment("hdf5", np.zeros((3, 0, 2)))
    ((_, shape, _, values),) = datasets(written("hdf5", tmp_path / "x", [[none]]), tmp_path / "y").values()
    assert shape == (3, 0, 2) and values == [[]] * 3
    large = fragment("hdf5", np.ones((3, 400_000), "float32"))
    path = tmp_path / "z"
    path.write_bytes(written("hdf5", tmp_path / "x", [[large]]))
    with h5py.File(path) as file:
        assert file["data"].chunks == (1, 400_000) and file["data"][:].sum() == 1_200_000


def test_datasets_keep_no_times_and_texts_are_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "y"
    path.write_bytes(written("hdf5", tmp_path / "x", [[fragment("hdf5", ["é"])]]))
    with h5py.File(path) as file:
        assert file["data"].asstr()[0] == "é"
        assert h5py.check_string_dtype(file["data"].dtype) == ("utf-8", None)
        assert h5py.h5g.get_objinfo(file.id, b"data").mtime == 0


# Full disks

FULL = """
    import resource, sys
    from pathlib import Path
    from mpibatch.outputs import row_groups
    from mpibatch.outputs.sinks import make_sink

    format_, folder, header = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    data = (folder / "fragment").read_bytes()
    row_groups.GROUP_ROWS = 1000
    for number, (limit, most) in enumerate([(2, 1), (50_000, 1), (1_500_000, 1000)]):
        path = folder / f"{number}.out"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
        sink = make_sink(format_, path, {})
        try:
            sink.start(data[:header] or None)
            for _ in range(most):
                sink.append([(memoryview(data), header)])
            sink.finish()
        except OSError as error:
            print(type(error).__name__, error.errno, error.filename == str(path), path.stat().st_size <= limit)
        sink.close()
        del sink
"""


@pytest.mark.parametrize("format_", FORMATS)
def test_a_full_disk_is_an_error_with_a_name(format_: str, tmp_path: Path) -> None:
    """At the first byte where the format begins with some, at the end, and in between."""
    numbers = np.random.default_rng(1).random((1000, 20))
    results = {"text": b"x" * 100_000, "jsonl": b"x" * 100_000, "hdf5": {"n": numbers, "t": ["abc"] * 1000}}
    data, header = fragment(format_, results.get(format_, pd.DataFrame(numbers)))
    (tmp_path / "fragment").write_bytes(data)
    command = [sys.executable, "-c", textwrap.dedent(FULL), format_, str(tmp_path), str(header)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "OSError 27 True True\n" * 3
