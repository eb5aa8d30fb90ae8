"""The command line: its words, its exit codes, and `status` and `stop` beside a run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import support

NAMES = """
import os

def run(mini_batch):
    return [os.path.basename(item) for item in mini_batch]
"""
STANDS = support.NOTE + NAMES.replace("    return", "    note('called')\n    gate()\n    return")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["run", "stop", "status"]),
        (["run", "--help"], ["--set KEY=VALUE", "--output", "--fresh", "--dry-run"]),
        (["stop", "-h"], ["second time"]),
        (["status", "--help"], ["--json"]),
        (["--version"], ["mpibatch, version"]),
    ],
)
def test_help(arguments: list[str], words: list[str]) -> None:
    ended = support.mpibatch(*arguments)
    assert ended.returncode == 0, support.words(ended)
    assert all(word in ended.stdout for word in words), ended.stdout
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Missing argument 'JOB'"),
        (["run", "job.yaml", "--frehs"], "--fresh"),
        (["rum", "job.yaml"], "No such command 'rum'"),
        (["run", "job.yaml", "more"], "unexpected extra argument (more)"),
        (["run", "no-such.yaml"], "no-such.yaml does not exist"),
        (["run", "."], "is a folder"),
        (["run", "job.yaml", "--output", ""], "--output is empty"),
        (["run", "job.yaml", "--set", "novalue"], "--set"),
        (["run", "job.yaml", "--set", "mini_batch_sice=3"], "mini_batch_size"),
        (["run", "job.yaml", "--set", "mini_batch_size=x"], "mini_batch_size"),
        (["run", "job.yaml", "--dry-run", "--set", "inputs.0.files=nothing/"], "nothing/"),
        (["status", "nowhere"], "there is no run at nowhere"),
        (["status", "data"], "there is no run in data"),
        (["stop", "nowhere"], "there is no run at nowhere"),
    ],
)
def test_wrong_use_is_told_in_words(arguments: list[str], words: str, tmp_path: Path) -> None:
    support.make_job(tmp_path, NAMES)

    ended = support.mpibatch(*arguments, cwd=tmp_path, env=support.from_anywhere())

    assert ended.returncode == 2, support.words(ended)
    assert words in ended.stderr, support.words(ended)
    assert "Traceback" not in ended.stderr and ended.stdout == ""
    assert not (tmp_path / "output").exists()


# (what is changed in the job file, what the first line of the message says)
WRONG_JOBS: list[tuple[dict[str, Any], list[str]]] = [
    ({"run_max_tyr": 3}, ["run_max_tyr", "run_max_try"]),
    ({"run_max_try": "many"}, ["run_max_try", "many"]),
    ({"run_max_try": 0}, ["run_max_try", "0", "1"]),
    ({"error_threshold": -2}, ["error_threshold", "-2", "-1"]),
    ({"output_action": "append_rows"}, ["output_action", "append_rows", "append_row"]),
    ({"order": "inptu"}, ["order", "inptu", "input"]),
    ({"name": "Bad Name"}, ["name", "Bad Name", "bad-name"]),
    ({"append_row_file_name": "a/b"}, ["append_row_file_name", "a/b"]),
    ({"entry_script": "scirpt.py"}, ["entry_script", "scirpt.py", "script.py"]),
    ({"inputs": [{"filse": "data/"}]}, ["inputs.0", "filse", "files"]),
    ({"inputs": [{"files": "dta/"}]}, ["inputs.0.files", "dta", "data"]),
    ({"inputs": [{"files": "data/*.png"}]}, ["inputs.0.files", "data/*.png"]),
    ({"inputs": []}, ["inputs"]),
    ({"append_row": {"seperator": ","}}, ["append_row", "seperator"]),
    ({"output": "."}, ["output"]),
    ({"arguments": ["${job_dri}/x"]}, ["arguments", "job_dri", "job_dir"]),
]


@pytest.mark.parametrize(("keys", "words"), WRONG_JOBS, ids=[str(row[0])[:40] for row in WRONG_JOBS])
def test_the_first_line_says_what_to_change_in_a_wrong_job_file(
    keys: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    job = support.make_job(tmp_path, NAMES, **keys)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 2, support.words(ended)
    first = ended.stderr.splitlines()[0]
    assert first.startswith("mpibatch: ")
    for word in ["job.yaml", *words]:
        assert word in first, support.words(ended)
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "mapping"),
        ("name: [\n", "line"),
        ("name: a-b\nname: c-d\n", "name"),
        ("\tname: x\n", "line 1"),
    ],
)
def test_a_job_file_that_is_no_mapping(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(text)
    ended = support.mpibatch("run", tmp_path / "job.yaml")
    assert ended.returncode == 2, support.words(ended)
    assert "job.yaml" in ended.stderr.splitlines()[0]
    assert words in ended.stderr


def test_dry_run_shows_the_plan_and_leaves_nothing(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, NAMES, items=12, mini_batch_size=5, process_count_per_node=2)
    before = support.tree(tmp_path)

    ended = support.mpibatch("run", job, "--dry-run")

    assert ended.returncode == 0, support.words(ended)
    lines = ended.stdout.splitlines()
    assert lines[0] == f"job          test-job ({job})"
    assert "input        data/" in lines
    assert "items        12" in lines
    assert "mini-batches 3 of up to 5 files" in lines
    assert "workers      2 (1 nodes x 2 processes)" in lines
    assert f"output       {tmp_path / 'output' / 'rows.txt'} (append_row)" in lines
    begin = lines.index("mini-batch 0:")
    items = [f"  {tmp_path / 'data' / f'item{number:03d}'}" for number in range(12)]
    assert lines[begin:] == [
        "mini-batch 0:", *items[0:3], "  ... and 2 more",
        "mini-batch 1:", *items[5:8], "  ... and 2 more",
        "mini-batch 2:", *items[10:],
    ]  # fmt: skip
    assert support.tree(tmp_path) == before


def test_dry_run_refuses_what_a_run_refuses(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, "def rum(b): return b", items=0, prepare="prepare.py")
    (tmp_path / "prepare.py").write_text("open('data/made', 'w')")
    ended = support.mpibatch("run", job, "--dry-run")
    assert ended.returncode == 2, support.words(ended)
    assert "script.py" in ended.stderr and "run" in ended.stderr
    (tmp_path / "script.py").write_text(NAMES)
    ended = support.mpibatch("run", job, "--dry-run")
    assert ended.returncode == 2, support.words(ended)
    assert "--dry-run does not run it" in ended.stderr
    assert list((tmp_path / "data").iterdir()) == []


def test_set_replaces_keys_and_output_is_where_one_stands(tmp_path: Path) -> None:
    job = support.make_job(tmp_path / "job", NAMES, items=6)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    ended = support.mpibatch(
        "run", os.path.relpath(job, elsewhere), "--output", "runs/one", "--set", "mini_batch_size=4",
        "--set", "inputs.0.files=[data/item001, data/item004]", "--set", "append_row_file_name=one.txt",
        cwd=elsewhere, env=support.from_anywhere(),
    )  # fmt: skip

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(elsewhere / "runs" / "one", "one.txt") == ["item001", "item004"]
    assert support.result(elsewhere / "runs" / "one")["mini_batches"]["total"] == 1
    assert not (tmp_path / "job" / "output").exists()


def test_status_and_stop_through_the_life_of_a_run(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS)
    output = tmp_path / "output"

    def status(state: str) -> tuple[dict[str, Any], str]:
        as_json, text = support.mpibatch("status", output, "--json"), support.mpibatch("status", output)
        assert (as_json.returncode, text.returncode) == (0, 0), support.words(as_json)
        told: dict[str, Any] = json.loads(as_json.stdout)
        assert told["state"] == state
        return told, text.stdout

    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "called" in support.notes(tmp_path), "run() is called")
        run.wait_until((output / ".mpibatch" / "progress.json").exists, "progress is written")
        told, text = status("running")
        assert told["owner"]["pid"] == run.process.pid and told["session"] == 1
        assert told["progress"]["items"]["total"] == 6 and told["result"] is None
        assert f"running: session 1 (process {run.process.pid} on" in text
        run.process.kill()
        run.wait_to_end()

    told, text = status("dead")
    assert told["owner"]["pid"] == run.process.pid
    assert "session 1 has left no result and is gone" in text and "start the same command again" in text
    stop = support.mpibatch("stop", output)
    assert stop.returncode == 2, support.words(stop)
    assert "nothing is running in" in stop.stderr and "There is nothing to stop" in stop.stderr

    support.open_gate(tmp_path)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    told, text = status("ended")
    assert told["result"]["verdict"] == "complete" and told["owner"] is None
    assert told["result"] == support.result(output)
    assert "complete" in text and str(output / "rows.txt") in text
    stop = support.mpibatch("stop", output)
    assert stop.returncode == 2 and "its run has ended" in stop.stderr, support.words(stop)
    assert not (output / ".mpibatch" / "stop").exists()


def test_nothing_is_said_of_a_run_that_all_is_well_but_its_end(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, NAMES)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    lines = ended.stdout.splitlines()
    labels = [line[:13].rstrip() for line in lines]
    assert labels == ["verdict", "items", "failures", "output", "time"]
    assert lines[0] == "verdict      complete, exit code 0"
    assert lines[1] == "items        6: 6 succeeded, 0 failed, in 6 mini-batches (6 attempts)"
    assert lines[3] == f"output       {tmp_path / 'output' / 'rows.txt'} (6 rows)"
    told = support.result(tmp_path / "output")
    assert 0 < told["processing_s"] < told["elapsed_s"]
    assert told["mini_batches_per_s"] == pytest.approx(6 / told["processing_s"], rel=0.01)


def test_a_suspicious_argument_is_warned_of_once(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, NAMES, arguments=["--mini_batch_sice", "3"])
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
    assert "--mini_batch_sice" in line and "--mini_batch_size" in line


def test_an_empty_file_among_the_job_s_is_an_item_too(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, NAMES, items=1)
    (tmp_path / "data" / "empty").touch()
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == ["empty", "item000"]


def test_a_reader_that_leaves_does_not_cost_the_run(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS)
    process = support.start("run", job)
    support.wait_until(lambda: "called" in support.notes(tmp_path), "run() is called")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    support.open_gate(tmp_path)
    process.wait(support.TIMEOUT_S)
    assert len(support.rows(tmp_path / "output")) == 6
    assert support.result(tmp_path / "output")["verdict"] == "complete"
    assert process.returncode == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.mpi)])
def test_closed_streams_do_no_harm(closed: str, workers: int, tmp_path: Path) -> None:
    job = support.make_job(tmp_path, "def run(mini_batch): return mini_batch", process_count_per_node=workers)
    command = shlex.join([*support.COMMAND, "run", str(job)])
    ended = subprocess.run(["sh", "-c", f"{command} {closed}"], check=False)
    assert ended.returncode == 0
    assert len(support.rows(tmp_path / "output")) == 6
