"""The output in other formats than text, by the real command line; also after a kill."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import support

SCRIPT = (
    support.NOTE
    + """
import pandas as pd

def run(mini_batch):
    numbers = [int(os.path.basename(item)[4:]) for item in mini_batch]
    note(str(numbers[0]))
    if numbers[0] == 24 and os.path.exists(os.path.join(FOLDER, "stand")):
        gate()
    return frame(numbers)
"""
)

FRAME = """
def frame(numbers):
    # Whole numbers first and halves later, missing values here and there: types that have to be promoted.
    value = numbers if numbers[-1] < 20 else [n / 2 for n in numbers]
    text = [None if n % 7 == 0 else f'a "{n}", b' for n in numbers]
    return pd.DataFrame({"number": numbers, "value": value, "text": text})
"""

FORMATS = ["csv", "jsonl", "parquet", "hdf5"]
NAMES = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet", "hdf5": "h5"}


def format_job(folder: Path, kind: str, frame: str = FRAME, **keys: Any) -> Path:
    defaults = {
        "items": 40, "mini_batch_size": 4, "append_row_format": kind,
        "append_row_file_name": f"rows.{NAMES[kind]}",
    }  # fmt: skip
    return support.make_job(folder, SCRIPT + textwrap.dedent(frame), **{**defaults, **keys})


def completes(job: Path) -> Path:
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    (rows,) = (job.parent / "output").glob("rows.*")
    return rows


def read(file: Path) -> pd.DataFrame:
    match file.suffix:
        case ".csv":
            return pd.read_csv(file)
        case ".jsonl":
            return pd.DataFrame([json.loads(line) for line in file.read_text().splitlines()])
        case ".parquet":
            return pd.read_parquet(file)
        case _:
            import h5py

            with h5py.File(file) as data:
                columns = {name: data[name].asstr()[:] if data[name].dtype == object else data[name][:]
                           for name in data}  # fmt: skip
            return pd.DataFrame(columns)


def expected() -> pd.DataFrame:
    numbers = list(range(40))
    value = [float(n) if n < 20 else n / 2 for n in numbers]
    text = [None if n % 7 == 0 else f'a "{n}", b' for n in numbers]
    return pd.DataFrame({"number": numbers, "value": value, "text": text})


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_rows_come_in_input_order_with_types_that_hold_them_all(tmp_path: Path, kind: str) -> None:
    rows = read(completes(format_job(tmp_path, kind)))
    wanted = expected()
    assert list(rows.columns) == list(wanted.columns)
    assert rows["number"].tolist() == wanted["number"].tolist()
    assert rows["value"].tolist() == wanted["value"].tolist()
    assert rows["text"].fillna("").tolist() == wanted["text"].fillna("").tolist()
    if kind != "jsonl":
        assert rows["value"].dtype == float
    if kind == "csv":
        whole = wanted.to_csv(index=False)
        assert (tmp_path / "output" / "rows.csv").read_text() == whole


ARRAYS = """
import numpy as np

def frame(numbers):
    return np.array([[n, n / 2, -n] for n in numbers], dtype="float32")
"""


def test_embeddings_with_the_input_of_each(tmp_path: Path) -> None:
    import h5py

    rows = completes(format_job(tmp_path, "hdf5", ARRAYS))
    with h5py.File(rows) as file:
        assert set(file) == {"data", "input"}
        wanted = np.array([[n, n / 2, -n] for n in range(40)], dtype="float32")
        assert file["data"].dtype == np.float32 and (file["data"][:] == wanted).all()
        names = [Path(name).name for name in file["input"].asstr()[:]]
    assert names == [f"item{n:03d}" for n in range(40)]


def digest(file: Path) -> str:
    """Of the bytes; of HDF5, of the values."""
    if file.suffix != ".h5":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    import h5py

    with h5py.File(file) as data:
        return str(
            {name: (data[name].shape, data[name].dtype, data[name][:].tolist()) for name in sorted(data)}
        )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_killed_run_gives_what_an_undisturbed_one_gives(tmp_path: Path, kind: str) -> None:
    """The first session sees whole numbers only, the second one what promotes them."""
    script = ARRAYS if kind == "hdf5" else FRAME
    undisturbed = completes(format_job(tmp_path / "calm", kind, script))
    job = format_job(tmp_path / "killed", kind, script)
    folder = job.parent
    (folder / "stand").touch()
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "24" in support.notes(folder), "it stands at item 24")
        journal = folder / "output" / ".mpibatch" / "session-0001.journal"
        run.wait_until(lambda: journal.stat().st_size >= 64 * 6, "some is durable")
        support.kill(run.process.pid)
    support.open_gate(folder)
    rows = completes(job)
    assert support.result(folder / "output")["sessions"] == 2
    assert support.notes(folder).count("0") == 1
    assert digest(rows).replace("/killed/", "/calm/") == digest(undisturbed)
    assert not list((folder / "output" / ".mpibatch").glob("*.partial"))


def test_columns_that_do_not_go_together_fail_with_both_shown(tmp_path: Path) -> None:
    frame = """
        def frame(numbers):
            name = "score" if numbers[0] else "scroe"
            return pd.DataFrame({name: numbers})
        """
    job = format_job(tmp_path, "parquet", frame, items=12, process_count_per_node=1)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    result = support.result(tmp_path / "output")
    assert result["items"]["failed"] in (4, 8) and result["mini_batches"]["failed"] in (1, 2)
    error = result["first_cause"]["error"]
    assert error.startswith("NotEncodable: ") and "score" in error and "scroe" in error


def test_nothing_but_empty_returns(tmp_path: Path) -> None:
    """Items that have no rows: the file is there, and empty as its format is empty."""
    for kind in ("csv", "jsonl", "parquet"):
        job = format_job(tmp_path / kind, kind, "def frame(numbers): return expected(numbers)\n"
                         "def expected(numbers): return [{'a': 1}] if numbers[0] == 0 else []")  # fmt: skip
        rows = completes(job)
        assert len(read(rows)) == 1


TABLE_KEYS = """
def run(df):
    return df[df["id"] % 2 == 0][["id"]]
"""


@pytest.mark.parametrize("kind", ["text", "csv", "jsonl", "parquet"])
def test_rows_of_a_table_name_their_input(tmp_path: Path, kind: str) -> None:
    for name, first in (("a", 0), ("b", 100)):
        pd.DataFrame({"id": range(first, first + 10)}).to_csv(tmp_path / f"{name}.csv", index=False)
    job = support.make_job(
        tmp_path, TABLE_KEYS, items=0, inputs=[{"csv": "*.csv"}], mini_batch_size="3 rows",
        append_row_format=kind, add_input_key=True, append_row_file_name=f"rows.{NAMES.get(kind, 'txt')}",
    )  # fmt: skip
    rows = completes(job)
    if kind == "text":
        found = [line.split(" ") for line in rows.read_text().splitlines()]
        table = pd.DataFrame(found, columns=["input", "input_row", "id"]).astype(
            {"input_row": int, "id": int}
        )
    else:
        table = read(rows)
    assert list(table.columns) == ["input", "input_row", "id"]
    assert [Path(name).name for name in table["input"]] == ["a.csv"] * 5 + ["b.csv"] * 5
    assert table["input_row"].tolist() == [0, 2, 4, 6, 8] * 2
    assert table["id"].tolist() == [0, 2, 4, 6, 8, 100, 102, 104, 106, 108]


def test_rows_that_cannot_be_mapped_to_items_fail_and_it_is_said_why(tmp_path: Path) -> None:
    frame = """
        def frame(numbers):
            return numbers[1:]
        """
    job = format_job(tmp_path, "jsonl", frame, add_input_key=True, items=8)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    assert "add_input_key" in support.result(tmp_path / "output")["first_cause"]["error"]
