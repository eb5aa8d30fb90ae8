"""The jobs of the kill matrix: how each is made, and what an undisturbed run of it leaves.

Inputs, script and job file of a kind are made once; each run has a folder of its own, by `--output`. Of each start
the script leaves word in the folder that the variable `FAULTS` names: files of names and bytes that only grow, so
that a kill can be aimed at a place instead of a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

FOLDER = "FAULTS"
"""Variable: where a script leaves its marks. Its value is also what processes of a run are found by."""
BEGAN = "init-began"
CALLED = "called"
"""A byte for each item that was handed to `run()`."""
KEYS: Mapping[str, Any] = MappingProxyType(
    {
        "process_count_per_node": 2,
        "shutdown_timeout": 4,
        "term_grace_s": 1,
        "error_threshold": -1,
    }
)
"""Of all kinds."""

_HEAD = f"""
import os, time

def mark(name, count):
    fd = os.open(os.path.join(os.environ["{FOLDER}"], name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"x" * count)
    os.close(fd)

def init():
    mark("{BEGAN}", 1)
    time.sleep(0.03)

def begin(count, whole):
    mark("{CALLED}", count)
    # What remains of a mini-batch that was split gets one try: too short to be met by a kill that is not meant
    # for it.
    if count == whole:
        time.sleep(0.012)
"""


class Kind(NamedTuple):
    """One job. `items` of it go to `run()` in mini-batches of `size`."""

    name: str
    items: int
    size: int
    rows_file: str
    script: str
    write_inputs: Callable[[Path], None]
    keys: Mapping[str, Any]
    variables: Mapping[str, str] = MappingProxyType({})
    """Of the environment of each start."""


def _write_files(folder: Path) -> None:
    """Nothing: `support.make_job` makes as many as there are items."""


_FILES = """
def run(mini_batch):
    begin(len(mini_batch), 3)
    names = [os.path.basename(path) for path in mini_batch]
    if "item207" in names:
        os._exit(3)
    if "item100" in names or "item401" in names:
        raise ValueError("always bad")
    return [f"{name} is {int(open(path).read())}" for name, path in zip(names, mini_batch)]
"""

_ROWS = """
def run(df):
    begin(len(df), 6)
    numbers = df["id"].astype(int)
    if (numbers % 500 == 77).any():
        raise ValueError("always bad")
    if (numbers == CRASHES).any():
        os.kill(os.getpid(), 11)
    df["square"] = numbers ** 2
    return df
"""


def _records(first: int, count: int) -> list[tuple[int, float, str]]:
    chance = random.Random(first)
    text = 'the "{}"\nand, after a newline, é'
    return [(n, round(chance.random(), 6), text.format(n)) for n in range(first, first + count)]


def _write_csv(folder: Path) -> None:
    import csv

    for number in range(3):
        with open(folder / f"part{number}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "half", "text"])
            writer.writerows(_records(300 * number, 300))


def _write_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number in range(3):
        columns = zip(*_records(300 * number, 300))
        table = pa.table(dict(zip(("id", "half", "text"), map(list, columns))))
        pq.write_table(table, folder / f"part{number}.parquet", row_group_size=70)


_TABLE: dict[str, Any] = {"mini_batch_size": "6 rows", "run_max_try": 3}
_SURVEYED = {"MPIBATCH_SURVEY_IN_PLACE_S": "0"}

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "files", 600, 3, "rows.txt", _HEAD + _FILES, _write_files,
            {"mini_batch_size": 3},
        ),
        Kind(
            "csv-text", 900, 6, "rows.txt", "CRASHES = -1\n" + _HEAD + _ROWS, _write_csv,
            {**_TABLE, "inputs": [{"csv": "data/*.csv"}], "add_input_key": True}, _SURVEYED,
        ),
        Kind(
            "csv-csv", 900, 6, "rows.csv", "CRASHES = 333\n" + "CRASHES = -1\n" + _HEAD + _ROWS, _write_csv,
            {**_TABLE, "inputs": [{"csv": "data/*.csv"}], "append_row_format": "csv"},
        ),
        Kind(
            "parquet", 900, 6, "rows.parquet", "CRASHES = -1\n" + _HEAD + _ROWS, _write_parquet,
            {**_TABLE, "inputs": [{"parquet": "data/*.parquet"}], "append_row_format": "parquet"},
        ),
    )
}  # fmt: skip
