"""Tables and archives in job arrays: one plan, one survey, copies for all shares, and the output of a plain run."""

from __future__ import annotations

import gzip
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pytest
import support
import yaml
from array_elements import all_elements, element, merge, plain

from mpibatch.runtime.array_folder import share_folder
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.surveying.rounds import IN_PLACE

LINES = """
import json

def run(df, context):
    whole = df.astype(object).where(df.notna(), None).to_dict("records")
    return [json.dumps([context.global_row_index_lower_bound + n, context.minibatch_index, row], default=str)
            for n, row in enumerate(whole)]
"""

KEYS = """
import json

def run(df, context):
    return [json.dumps([context.partition_key_value, context.minibatch_index, n]) for n in df["id"].tolist()]
"""

FRAMES = """
def run(df):
    if df["id"].iloc[0] % 2:
        return df[["id", "half"]]
    return df[["id", "half"]].assign(id=df["id"] + 0.5)
"""

MEMBERS = """
def run(mini_batch):
    return [f"{item[0]} {len(item[1])}" for item in mini_batch]
"""


def frame(rows: int) -> pd.DataFrame:
    text = [None if n % 5 == 0 else f'quoted "{n}"\nwith, newlines' for n in range(rows)]
    return pd.DataFrame(
        {
            "id": range(rows),
            "half": [n / 2 for n in range(rows)],
            "text": text,
            "user": list("abcde" * (rows // 5)),
        }
    )


def table_job(folder: Path, script: str, inputs: list[dict[str, Any]], **keys: Any) -> Path:
    job = support.make_job(folder, textwrap.dedent(script), items=0, inputs=inputs, **keys)
    if "partition_keys" in keys:
        given = yaml.safe_load(job.read_text())
        del given["mini_batch_size"]
        job.write_text(yaml.safe_dump(given))
    return job


def csv(folder: Path) -> list[dict[str, Any]]:
    frame(100).to_csv(folder / "t.csv", index=False)
    return [{"csv": "t.csv"}]


def unpacked(folder: Path) -> list[dict[str, Any]]:
    (folder / "t.csv.gz").write_bytes(gzip.compress(frame(100).to_csv(index=False).encode()))
    return [{"csv": "t.csv.gz", "unpack": True}]


def parquet(folder: Path) -> list[dict[str, Any]]:
    frame(100).to_parquet(folder / "t.parquet", row_group_size=10)
    return [{"parquet": "t.parquet"}]


def lines(folder: Path) -> list[dict[str, Any]]:
    frame(100).to_json(folder / "t.jsonl", orient="records", lines=True)
    return [{"jsonl": "t.jsonl"}]


@pytest.mark.parametrize("kind", [csv, unpacked, parquet, lines])
def test_shares_of_a_table(tmp_path: Path, kind: Callable[[Path], list[dict[str, Any]]]) -> None:
    job, output = table_job(tmp_path, LINES, kind(tmp_path), mini_batch_size="7 rows"), tmp_path / "output"
    copies = output / ".mpibatch" / "unpacked"
    for number in range(3):
        element(job, f"{number}/3")
        assert copies.exists() == (kind is unpacked and number < 2), "they live until all is merged"

    assert (output / "rows.txt").read_bytes() == (plain(job) / "rows.txt").read_bytes()
    assert len(support.rows(output)) == 100
    assert "is reused" in element(job, "1/3")
    assert not copies.exists()


def test_shares_of_a_shuffled_table_by_keys(tmp_path: Path) -> None:
    job = table_job(tmp_path, KEYS, csv(tmp_path), partition_keys=["user"], shuffle=True)
    all_elements(job, 2)
    output = tmp_path / "output"
    assert (output / "rows.txt").read_bytes() == (plain(job) / "rows.txt").read_bytes()
    assert not (output / ".mpibatch" / "unpacked").exists()
    assert not list((output / "shares").glob("*/.mpibatch/unpacked"))


@pytest.mark.parametrize("form", ["csv", "parquet", "hdf5"])
def test_forms_over_shares(tmp_path: Path, form: str) -> None:
    name = f"rows.{form}"
    job = table_job(
        tmp_path,
        FRAMES,
        csv(tmp_path),
        mini_batch_size="9 rows",
        append_row_format=form,
        append_row_file_name=name,
    )
    all_elements(job, 3)
    assert content(tmp_path / "output" / name) == content(plain(job) / name)


def content(file: Path) -> object:
    """The bytes; of HDF5, whose library lays the same values out in various ways, the values."""
    if file.suffix != ".hdf5":
        return file.read_bytes()
    with h5py.File(file) as data:
        return {name: (data[name].dtype, data[name][:].tolist()) for name in sorted(data)}


def test_shares_of_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for number in range(9):
            archive.writestr(f"m{number}", "x" * number)
    job = table_job(
        tmp_path, MEMBERS, [{"files": "t.zip", "members": "m*", "as": "bytes"}], mini_batch_size=2
    )
    all_elements(job, 3)
    assert (tmp_path / "output" / "rows.txt").read_bytes() == (plain(job) / "rows.txt").read_bytes()
    assert len(support.rows(tmp_path / "output")) == 9


@pytest.mark.mpi
def test_workers_of_one_element_survey_while_another_one_waits(tmp_path: Path) -> None:
    for number in range(4):
        frame(100).to_parquet(tmp_path / f"{number}.parquet", row_group_size=10)
    inputs = [{"parquet": "*.parquet"}]
    script = support.NOTE + "note('up')\n" + LINES
    job = table_job(tmp_path, script, inputs, partition_keys=["user"], shuffle=True)
    variables = support.environment(**{IN_PLACE: "0"})
    with (
        support.Started(tmp_path, "run", job, "--share", "0/2", ranks=2, env=variables) as one,
        support.Started(tmp_path, "run", job, "--share", "1/2", ranks=2, env=variables) as other,
    ):
        assert [one.wait_to_end(), other.wait_to_end()] == [0, 0], one.said + other.said
        surveyed = ["surveying the inputs on the workers" in started.said for started in (one, other)]
        assert sorted(surveyed) == [False, True], one.said + other.said
    assert not (tmp_path / "output" / ".mpibatch" / "survey").exists()
    assert (tmp_path / "output" / "rows.txt").read_bytes() == (plain(job) / "rows.txt").read_bytes()


def test_a_damaged_share_gets_its_copies_again(tmp_path: Path) -> None:
    job, output = (
        table_job(tmp_path, LINES, unpacked(tmp_path), mini_batch_size="7 rows"),
        tmp_path / "output",
    )
    all_elements(job, 2)
    whole = RunFolder(output)
    before = (output / "rows.txt").read_bytes()
    (output / "rows.txt").unlink()
    segment = share_folder(whole, 1).rows(1)
    data = bytearray(segment.read_bytes())
    data[3] ^= 0xFF
    segment.write_bytes(data)
    assert "Start element 1 of the array again" in merge(output, code=74)

    element(job, "1/2")

    assert (output / "rows.txt").read_bytes() == before
    assert not whole.unpacked.exists()
