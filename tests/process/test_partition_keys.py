"""`partition_keys` by the real command line: what `run()` gets, in which order, and what is refused."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import support
import yaml
from table_files import write_table

FILES = """
import json, os

def run(mini_batch, context):
    names = [os.path.basename(item) for item in mini_batch]
    return [json.dumps([context.partition_key_value, context.global_row_index_lower_bound, names])] * len(names)
"""

ROWS = """
import json

def run(df, context):
    return [json.dumps([context.partition_key_value, context.minibatch_index, n]) for n in df["id"].tolist()]
"""


def job_of(folder: Path, inputs: list[dict[str, Any]], script: str = ROWS, **keys: Any) -> Path:
    job = support.make_job(folder, textwrap.dedent(script), items=0, inputs=inputs, **keys)
    given = yaml.safe_load(job.read_text())
    del given["mini_batch_size"]
    job.write_text(yaml.safe_dump(given))
    return job


def completes(job: Path) -> list[Any]:
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    return [json.loads(line) for line in support.rows(job.parent / "output")]


def frame(keys: str, first: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"id": range(first, first + len(keys)), "user": list(keys), "half": 0.5})


def by_key(rows: list[Any]) -> dict[str, list[int]]:
    """The ids of each key, in the order in which they came."""
    found: dict[str, list[int]] = {}
    mini_batches: dict[str, set[int]] = {}
    for keys, mini_batch, number in rows:
        found.setdefault(keys["user"], []).append(number)
        mini_batches.setdefault(keys["user"], set()).add(mini_batch)
    assert all(len(numbers) == 1 for numbers in mini_batches.values()), "a key is in several mini-batches"
    return found


def test_files_by_a_path_format(tmp_path: Path) -> None:
    for user, season, name in (("ann", "w", "1"), ("bob", "s", "2"), ("ann", "s", "3"), ("ann", "w", "4")):
        (tmp_path / "data" / user / season).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / user / season / f"{name}.wav").touch()
    job = job_of(
        tmp_path, [{"files": "data/{user}/{season}/{n}.wav"}], FILES, partition_keys=["season", "user"]
    )
    assert completes(job) == [
        [{"season": "s", "user": "ann"}, 0, ["3.wav"]],
        *[[{"season": "w", "user": "ann"}, 1, ["1.wav", "4.wav"]]] * 2,
        [{"season": "s", "user": "bob"}, 3, ["2.wav"]],
    ]
    again = support.mpibatch("run", job)
    assert again.returncode == 0 and "is reused" in again.stdout, support.words(again)


def test_a_key_that_is_no_field_is_refused(tmp_path: Path) -> None:
    job = job_of(tmp_path, [{"files": "data/{user}/{n}.wav"}], FILES, partition_keys=["usr"])
    ended = support.mpibatch("run", job)
    assert ended.returncode == 2 and "did you mean user?" in ended.stderr, support.words(ended)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "hdf5"])
def test_tables_whose_keys_stand_together_and_scattered_ones(kind: str, tmp_path: Path) -> None:
    write_table(frame("aaabbbbc"), kind, tmp_path / f"1.{kind}")
    write_table(frame("ccd", 8), kind, tmp_path / f"2.{kind}")
    job = job_of(tmp_path / "job", [{kind: f"../*.{kind}"}], partition_keys=["user"])
    assert by_key(completes(job)) == {"a": [0, 1, 2], "b": [3, 4, 5, 6], "c": [7, 8, 9], "d": [10]}

    write_table(frame("ccad", 8), kind, tmp_path / f"2.{kind}")
    refused = support.mpibatch("run", job, "--fresh")
    assert refused.returncode == 2, support.words(refused)
    for word in ("partition_keys", "user='a'", "row 2 ", f"2.{kind}", "shuffle: true"):
        assert word in refused.stderr

    job = job_of(tmp_path / "sorted", [{kind: f"../*.{kind}"}], partition_keys=["user"], shuffle=True)
    assert by_key(completes(job)) == {"a": [0, 1, 2, 10], "b": [3, 4, 5, 6], "c": [7, 8, 9], "d": [11]}
    assert not (tmp_path / "sorted" / "output" / ".mpibatch" / "unpacked").exists(), "the copy is removed"


def test_rows_know_the_file_and_row_they_come_from(tmp_path: Path) -> None:
    write_table(frame("abab"), "csv", tmp_path / "t.csv")
    with open(tmp_path / "t.csv", "a") as file:
        file.write("4,b,0.5,surplus\n5,a,0.5\n")
    job = job_of(
        tmp_path, [{"csv": "t.csv"}], "def run(df):\n    return df[['id']]\n", partition_keys=["user"],
        shuffle=True, add_input_key=True,
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    name = tmp_path / "t.csv"
    assert support.rows(tmp_path / "output") == [f"{name} {row} {row}" for row in (0, 2, 5, 1, 3)]
    (failed,) = support.failed_items(tmp_path / "output")
    assert (failed["item"], failed["row"]) == (str(name), 4)
    assert "t.csv', row 4: 4 fields where 3 are expected" in failed["error"]["message"]


def test_a_killed_run_over_a_sorted_table_goes_on(tmp_path: Path) -> None:
    write_table(frame("abcde" * 20), "csv", tmp_path / "t.csv")
    script = (
        support.NOTE
        + """
def run(df, context):
    note(context.partition_key_value["user"])
    if context.partition_key_value["user"] == "c":
        gate()
    return df["id"].tolist()
"""
    )
    job = job_of(tmp_path, [{"csv": "t.csv"}], script, partition_keys=["user"], shuffle=True)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "c" in support.notes(tmp_path), "it stands at c")
        support.kill(run.process.pid)
    copies = list((tmp_path / "output" / ".mpibatch" / "unpacked" / "sorted").iterdir())
    assert len(copies) == 2, "a sorted copy and its rows are kept for the next start"
    support.open_gate(tmp_path)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    expected = [str(first + 5 * n) for first in range(5) for n in range(20)]
    assert support.rows(tmp_path / "output") == expected


@pytest.mark.parametrize("in_place", ["0", "60"])
def test_workers_answer_the_survey_as_rank_0_does(in_place: str, tmp_path: Path) -> None:
    for number in range(6):
        write_table(frame("abcab", 5 * number), "parquet", tmp_path / f"{number}.parquet")
    job = job_of(tmp_path, [{"parquet": "*.parquet"}], partition_keys=["user"], shuffle=True)
    ended = support.mpibatch("run", job, env=support.environment(MPIBATCH_SURVEY_IN_PLACE_S=in_place))
    assert ended.returncode == 0, support.words(ended)
    assert ("surveying the inputs on the workers" in ended.stdout + ended.stderr) == (in_place == "0")
    rows = [json.loads(line) for line in support.rows(tmp_path / "output")]
    expected = {key: [5 * n + at for n in range(6) for at in places] for key, places in
                (("a", (0, 3)), ("b", (1, 4)), ("c", (2,)))}  # fmt: skip
    assert by_key(rows) == expected


def test_two_inputs(tmp_path: Path) -> None:
    write_table(frame("aab"), "csv", tmp_path / "t.csv")
    write_table(frame("bcc", 3), "jsonl", tmp_path / "t.jsonl")
    job = job_of(tmp_path, [{"csv": "t.csv"}, {"jsonl": "t.jsonl"}], partition_keys=["user"])
    assert [(keys["user"], number, row) for keys, number, row in completes(job)] == [
        ("a", 0, 0), ("a", 0, 1), ("b", 1, 2), ("b", 2, 3), ("c", 3, 4), ("c", 3, 5)
    ]  # fmt: skip
