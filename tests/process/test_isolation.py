"""One bad item does not cost its mini-batch: what has used its tries is bisected until the items are found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import support

POISON = (
    support.NOTE
    + """
import ctypes

def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    note(" ".join(names))
    if "item005" in names:
        HARM
    return names
"""
)
HARMS = {
    "raises": ("raise ValueError(f'no good: {names}')", "ValueError"),
    "exits": ("os._exit(3)", "Died"),
    "crashes": ("ctypes.string_at(0)", "Died"),
    "is killed": ("os.kill(os.getpid(), 9)", "Died"),
    "hangs": ("time.sleep(1000)", "TimedOut"),
    "returns None": ("return None", "BadReturn"),
}


def names(*numbers: int) -> list[str]:
    return [f"item{number:03d}" for number in numbers]


@pytest.mark.parametrize("harm", list(HARMS))
def test_one_poisonous_item_is_found_and_its_neighbours_keep_their_rows(harm: str, tmp_path: Path) -> None:
    statement, error = HARMS[harm]
    job = support.make_job(
        tmp_path, POISON.replace("HARM", statement), items=13, mini_batch_size=8, run_max_try=2,
        run_invocation_timeout=2 if error == "TimedOut" else 600,
    )  # fmt: skip

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    output = tmp_path / "output"
    assert support.rows(output) == names(*(number for number in range(13) if number != 5))
    (failed,) = support.failed_items(output)
    assert failed["item"].endswith("/item005")
    # Twice with all eight, then among the four, two, one of the half that has it.
    assert (failed["mini_batch"], failed["attempts"], failed["error"]["type"]) == (0, 5, error)
    result = support.result(output)
    assert result["items"] == {"total": 13, "succeeded": 12, "failed": 1}
    mini_batches = result["mini_batches"]
    assert (mini_batches["total"], mini_batches["succeeded"], mini_batches["failed"]) == (2, 1, 1)
    assert result["rows"] == 12
    tried = [line.split() for line in support.notes(tmp_path)]
    assert tried.count(names(*range(8))) == 2
    assert [line for line in tried if "item005" in line][2:] == [names(4, 5, 6, 7), names(4, 5), names(5)]
    assert result["first_cause"]["item"].endswith("/item005")


def test_without_isolation_the_mini_batch_is_lost(tmp_path: Path) -> None:
    job = support.make_job(
        tmp_path, POISON.replace("HARM", "raise ValueError"), items=13, mini_batch_size=8, run_max_try=2,
        isolate_failures=False,
    )  # fmt: skip

    support.mpibatch("run", job)

    assert support.rows(tmp_path / "output") == names(*range(8, 13))
    assert len(support.failed_items(tmp_path / "output")) == 8
    assert len(support.notes(tmp_path)) == 3


def test_a_script_that_stores_its_own_output_gets_no_item_twice_unasked(tmp_path: Path) -> None:
    job = support.make_job(
        tmp_path, POISON.replace("HARM", "raise ValueError"), items=8, mini_batch_size=8, run_max_try=2,
        output_action="summary_only",
    )  # fmt: skip
    support.mpibatch("run", job)
    assert len(support.notes(tmp_path)) == 2


def test_a_broken_script_does_not_multiply_the_work(tmp_path: Path) -> None:
    script = (
        support.NOTE
        + "def run(mini_batch):\n    note(str(len(mini_batch)))\n    raise OSError(f'no model for {mini_batch}')\n"
    )
    job = support.make_job(tmp_path, script, items=160, mini_batch_size=8, run_max_try=1)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 3, support.words(ended)
    # 15 attempts find 8 poisonous items. After 3 such mini-batches others are tried once each, but for one that
    # may have been in bisection by then.
    assert 3 * 15 + 17 <= len(support.notes(tmp_path)) <= 4 * 15 + 16
    assert len(support.failed_items(tmp_path / "output")) == 160
    assert "OSError" in ended.stderr and "3 mini-batches" in ended.stderr, support.words(ended)
    assert support.result(tmp_path / "output")["first_cause"]["count"] == 160


def test_what_a_start_has_saved_of_a_mini_batch_the_next_one_keeps(tmp_path: Path) -> None:
    job = support.make_job(
        tmp_path, POISON.replace("HARM", "raise ValueError"), items=13, mini_batch_size=8, run_max_try=2,
        error_threshold=0,
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    assert not (tmp_path / "output" / "rows.txt").exists()
    before = support.notes(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(script.read_text().replace("raise ValueError", "pass"))

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == names(*range(13))
    assert support.failed_items(tmp_path / "output") == []
    again = " ".join(support.notes(tmp_path)[len(before) :]).split()
    saved = {name for line in before for name in line.split() if "item005" not in line.split()}
    assert not saved & set(again), "what had succeeded is not made again"
    result = support.result(tmp_path / "output")
    assert result["items"] == {"total": 13, "succeeded": 13, "failed": 0}
    assert (result["mini_batches"]["succeeded"], result["mini_batches"]["failed"]) == (2, 0)


TABLE = """
def run(df):
    if (df.number % 100 == 57).any():
        raise ValueError("57")
    return df
"""


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *(("csv", form) for form in ("text", "csv", "jsonl", "parquet", "hdf5")),
        *((kind, "csv") for kind in ("jsonl", "parquet", "hdf5")),
        ("parquet", "parquet"),
        ("hdf5", "hdf5"),
    ],
)
def test_rows_of_tables_in_every_format(kind: str, form: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"number": range(250), "half": [number / 2 for number in range(250)]})
    table = tmp_path / f"table.{kind}"
    _write(frame, table, kind)
    name = f"rows.{ {'text': 'txt', 'hdf5': 'h5'}.get(form, form) }"
    job = support.make_job(
        tmp_path, TABLE, inputs=[{kind: str(table)}], mini_batch_size="60 rows", run_max_try=1,
        append_row_format=form, append_row_file_name=name, arguments=[],
    )  # fmt: skip

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    failed = support.failed_items(tmp_path / "output")
    assert [line["row"] for line in failed] == [57, 157]
    assert _numbers(tmp_path / "output" / name, form) == [n for n in range(250) if n % 100 != 57]
    assert support.result(tmp_path / "output")["rows"] == 248


def _write(frame: pd.DataFrame, table: Path, kind: str) -> None:
    if kind == "csv":
        frame.to_csv(table, index=False)
    elif kind == "jsonl":
        frame.to_json(table, orient="records", lines=True)
    elif kind == "parquet":
        frame.to_parquet(table, index=False)
    else:
        import h5py

        with h5py.File(table, "w") as file:
            for column in frame:
                file[str(column)] = frame[column].to_numpy()


def _numbers(output: Path, form: str) -> list[int]:
    if form == "text":
        return [int(line.split()[0]) for line in output.read_text().splitlines()]
    if form == "jsonl":
        return [json.loads(line)["number"] for line in output.read_text().splitlines()]
    if form == "csv":
        return [int(number) for number in pd.read_csv(output)["number"]]
    if form == "parquet":
        return [int(number) for number in pd.read_parquet(output)["number"]]
    import h5py

    with h5py.File(output) as file:
        return [int(number) for number in file["number"][:]]


def test_failures_wait_before_they_are_tried_again(tmp_path: Path) -> None:
    script = """
import os, sys, time

def run(mini_batch):
    (item,) = mini_batch
    marks = os.path.join(os.path.dirname(os.path.dirname(item)), "marks")
    with open(marks, "a") as file:
        file.write(f"{time.monotonic()}\\n")
    with open(marks) as file:
        if len(file.readlines()) < 3:
            raise OSError("429")
    return [item]
"""
    backoff: dict[str, Any] = {"initial": 0.4, "factor": 2, "max": 60, "jitter": False}
    job = support.make_job(tmp_path, script, items=1, retry_backoff=backoff)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    first, second, third = map(float, (tmp_path / "marks").read_text().split())
    assert second - first >= 0.4 and third - second >= 0.8


def test_a_script_may_say_that_it_gets_on(tmp_path: Path) -> None:
    script = """
import time

def run(mini_batch, context):
    for _ in range(80):
        time.sleep(0.1)
        context.heartbeat()
    return mini_batch
"""
    job = support.make_job(tmp_path, script, items=1, progress_update_timeout=6)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)

    file = tmp_path / "script.py"
    file.write_text(file.read_text().replace("context.heartbeat()", "time.sleep(1000)"))
    ended = support.mpibatch("run", job, "--fresh")
    assert ended.returncode == 75, support.words(ended)
    assert "progress_update_timeout" in ended.stderr + ended.stdout
    assert os.path.exists(tmp_path / "output" / "job_result.json")


def test_where_no_item_is_to_blame_none_is_looked_for(tmp_path: Path) -> None:
    """A filter, where each row needs its item: among single items it would look like failures of theirs."""
    script = (
        support.NOTE
        + "def run(df):\n    note('called')\n    return df[df.number % 2 == 0].reset_index(drop=True)\n"
    )
    (tmp_path / "table.csv").write_text("number\n" + "".join(f"{number}\n" for number in range(40)))
    job = support.make_job(
        tmp_path, script, inputs=[{"csv": "table.csv"}], mini_batch_size="10 rows", run_max_try=2,
        append_row_format="csv", append_row_file_name="rows.csv", add_input_key=True,
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3 and "add_input_key" in ended.stdout.splitlines()[-1], support.words(ended)
    assert len(support.notes(tmp_path)) == 8


def test_a_processor_whose_memory_is_full_is_renewed(tmp_path: Path) -> None:
    """A leak of the script: nothing fails for good, as each processor in turn is let go of."""
    script = (
        support.NOTE
        + """
kept = []

def init():
    note("init")

def run(mini_batch):
    kept.append(mini_batch)
    time.sleep(0.03)  # So long that each is given out singly.
    if len(kept) > 4:
        raise MemoryError
    return [os.path.basename(item) for item in mini_batch]
"""
    )
    job = support.make_job(tmp_path, script, items=20, run_max_try=2)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == names(*range(20))
    assert support.failed_items(tmp_path / "output") == []
    assert support.notes(tmp_path).count("init") == 5


def test_an_item_that_is_too_large_does_not_cost_a_processor_again_and_again(tmp_path: Path) -> None:
    script = (
        support.NOTE
        + """
def init():
    note("init")

def run(mini_batch):
    raise MemoryError
"""
    )
    job = support.make_job(tmp_path, script, items=6, run_max_try=2)
    assert support.mpibatch("run", job).returncode == 3
    assert support.notes(tmp_path) == ["init"]
