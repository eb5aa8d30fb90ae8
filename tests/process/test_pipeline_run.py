"""Pipelines by the command line, on one machine: in this process, and as a world of ranks that is started here."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import support
from pipelines import (
    ALL_FIRST,
    ALL_SECOND,
    GATED_SECOND,
    ITEMS,
    ROWS,
    make_pipeline,
    pipeline_result,
    states,
    work_of,
)

WORLDS = pytest.mark.parametrize("processes", [1, 2], ids=["embedded", "world"])


@WORLDS
def test_from_the_first_file_to_the_last_row(processes: int, tmp_path: Path) -> None:
    file = make_pipeline(tmp_path, process_count_per_node=processes)

    ended = support.mpibatch("run", file)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output" / "second") == ROWS
    assert work_of(tmp_path) == ALL_FIRST + ALL_SECOND
    assert states(tmp_path / "output") == {"first": "complete", "second": "complete"}
    told = ended.stdout.splitlines()
    assert told[0].split() == ["pipeline", "test-pipeline"]
    assert [line.split(",")[0].split() for line in told[1:3]] == [
        ["step", "first:", "complete"],
        ["step", "second:", "complete"],
    ]
    assert told[3].split() == ["output", str(tmp_path / "output/second/rows.txt"), f"({ITEMS}", "rows)"]

    again = support.mpibatch("run", file)

    assert again.returncode == 0, support.words(again)
    assert work_of(tmp_path) == []
    assert states(tmp_path / "output") == {"first": "reused", "second": "reused"}


@WORLDS
def test_what_is_changed_is_made_anew_and_what_takes_its_data(processes: int, tmp_path: Path) -> None:
    third = {"third": {"entry_script": "script.py", "inputs": [{"files": "data/"}], "mini_batch_size": 4}}
    file = make_pipeline(tmp_path, steps=third, process_count_per_node=processes)
    assert support.mpibatch("run", file).returncode == 0
    work_of(tmp_path)
    script = tmp_path / "two/second.py"
    script.write_text(script.read_text() + "# changed\n")
    kept = support.tree(tmp_path / "output" / "first")

    ended = support.mpibatch("run", file)

    assert ended.returncode == 0, support.words(ended)
    assert work_of(tmp_path) == ALL_SECOND
    assert states(tmp_path / "output") == {"first": "reused", "second": "complete", "third": "reused"}
    assert "step second is begun anew, as these have changed: the entry script" in ended.stderr
    assert support.tree(tmp_path / "output" / "first") == kept

    # The rows stay the same, and yet they are others: nobody can know.
    ended = support.mpibatch("run", file, "--set", "steps.first.mini_batch_size=2")

    assert ended.returncode == 0, support.words(ended)
    assert work_of(tmp_path) == [*ALL_FIRST[::2], *ALL_SECOND]
    assert states(tmp_path / "output") == {"first": "complete", "second": "complete", "third": "reused"}
    assert "step second is begun anew: what it takes of first is not what it was" in ended.stderr


def test_fresh_and_allow_reuse(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path, steps={"first": {"allow_reuse": False}})
    assert support.mpibatch("run", file).returncode == 0
    assert support.mpibatch("run", file).returncode == 0
    assert work_of(tmp_path) == sorted((ALL_FIRST + ALL_SECOND) * 2)

    ended = support.mpibatch("run", file, "--fresh", "--set", "steps.first.allow_reuse=true")

    assert ended.returncode == 0, support.words(ended)
    assert work_of(tmp_path) == ALL_FIRST + ALL_SECOND
    assert states(tmp_path / "output") == {"first": "complete", "second": "complete"}


@WORLDS
def test_killed_in_the_second_step_it_goes_on_there(processes: int, tmp_path: Path) -> None:
    """A step that is not to be reused is, as long as the pipeline has not been complete."""
    first = {"allow_reuse": False}
    file = make_pipeline(
        tmp_path,
        second=GATED_SECOND,
        steps={"first": first},
        process_count_per_node=processes,
        max_restarts=0,
    )
    journal = tmp_path / "output/second/.mpibatch/session-0001.journal"
    with support.Started(tmp_path, "run", file, start_new_session=True) as started:
        started.wait_until(
            lambda: (
                support.notes(tmp_path).count("second 1") >= 3
                and journal.exists()
                and journal.stat().st_size > 150
            ),
            "two rows of the second step are safe",
        )
        assert "running, second: " in support.mpibatch("status", tmp_path / "output").stdout
        victims = list(support.ranks_with(str(file)).values()) if processes > 1 else [started.process.pid]
        support.kill_all(victims)
        started.wait_to_end()
    support.wait_until(lambda: not support.processes_with(str(file)), "all of it is gone")
    told = json.loads(support.mpibatch("status", "--json", tmp_path / "output").stdout)
    assert (told["state"], [step["state"] for step in told["steps"]]) == ("dead", ["complete", "dead"])
    work_of(tmp_path)
    support.open_gate(tmp_path)

    ended = support.mpibatch("run", file)

    assert ended.returncode == 0, support.words(ended)
    assert states(tmp_path / "output") == {"first": "reused", "second": "complete"}
    assert support.rows(tmp_path / "output" / "second") == ROWS
    redone = work_of(tmp_path)
    assert 1 <= len(redone) <= ITEMS - 2 and set(redone) == {"second 1"}, redone


def test_a_world_that_is_lost_is_started_again(tmp_path: Path) -> None:
    """And --fresh is not taken for a wish to lose what has been finished since."""
    file = make_pipeline(tmp_path, second=GATED_SECOND, process_count_per_node=2)
    support.open_gate(tmp_path)
    assert support.mpibatch("run", file).returncode == 0
    (tmp_path / "gate").unlink()
    work_of(tmp_path)
    with support.Started(tmp_path, "run", file, "--fresh") as started:
        started.wait_until(
            lambda: support.notes(tmp_path).count("second 1") >= 3, "the second step is at work"
        )
        support.kill_all(support.ranks_with(str(file)).values())
        support.open_gate(tmp_path)  # After that, as the step may be over at once.
        assert started.wait_to_end() == 0, started.said
    assert "starting again (1 of 3)" in started.said
    assert support.rows(tmp_path / "output" / "second") == ROWS
    assert [note for note in work_of(tmp_path) if note.startswith("first")] == ALL_FIRST
    assert states(tmp_path / "output") == {"first": "reused", "second": "complete"}


@pytest.mark.parametrize("way", ["stop", "SIGTERM", "SIGINT"])
@WORLDS
def test_asked_to_stop(way: str, processes: int, tmp_path: Path) -> None:
    file = make_pipeline(
        tmp_path, second=GATED_SECOND, steps={"third": {**THIRD}}, process_count_per_node=processes
    )
    with support.Started(tmp_path, "run", file) as started:
        started.wait_until(
            lambda: support.notes(tmp_path).count("second 1") >= 3, "the second step is at work"
        )
        if way == "stop":
            asked = support.mpibatch("stop", tmp_path / "output")
            assert "asked the pipeline in" in asked.stdout, support.words(asked)
        else:
            os.kill(started.process.pid, signal.Signals[way])
        started.wait_to_say("stopping (")
        support.open_gate(tmp_path)
        code = started.wait_to_end()
    assert code == (130 if way == "SIGINT" else 75), started.said
    result = pipeline_result(tmp_path / "output")
    assert (result["verdict"], result["exit_code"]) == ("stopped", code)
    assert states(tmp_path / "output") == {"first": "complete", "second": "failed", "third": "waiting"}
    assert "step second: " in result["reason"]

    ended = support.mpibatch("run", file)

    assert ended.returncode == 0, support.words(ended)
    assert list(states(tmp_path / "output").values()) == ["reused", "complete", "complete"]


THIRD = {"entry_script": "two/second.py", "inputs": [{"csv": "${steps.first.output}", "header": "none"}]}


def test_it_ends_at_the_first_step_that_does_not_complete(tmp_path: Path) -> None:
    file = make_pipeline(
        tmp_path, second="def run(table): raise ValueError('no good')", steps={"third": THIRD}
    )

    ended = support.mpibatch("run", file)

    assert ended.returncode == 3, support.words(ended)
    assert ended.stdout.splitlines()[-1].startswith("first cause  step second: ValueError: no good: 12 items")
    output = tmp_path / "output"
    assert states(output) == {"first": "complete", "second": "failed", "third": "waiting"}
    result = pipeline_result(output)
    assert result["exit_code"] == 3 and not (output / "third").exists()
    assert result["first_cause"]["step"] == "second"
    assert result["first_cause"]["error"] == "ValueError: no good"
    assert result["outputs"] == {"first": str(output / "first/rows.txt")}
    told = support.mpibatch("status", output).stdout
    assert "step first: complete" in told and "step third: waiting" in told
    assert told.splitlines()[-1].startswith("first cause   step second: ValueError: no good, log ")


def test_a_step_that_cannot_begin(tmp_path: Path) -> None:
    """What it takes is known only when those before it have run."""
    file = make_pipeline(
        tmp_path, steps={"first": {"output_action": "append_row", "append_row_file_name": "x.txt"}}
    )
    text = file.read_text().replace("${steps.first.output}", "${steps.first.folder}/nothing/*.csv")
    file.write_text(text)

    ended = support.mpibatch("run", file)

    assert ended.returncode == 2, support.words(ended)
    assert ended.stderr.splitlines()[-1].startswith("mpibatch: step second: "), support.words(ended)
    assert "Traceback" not in ended.stderr
    assert states(tmp_path / "output") == {"first": "complete", "second": "failed"}
    assert sorted(os.listdir(tmp_path / "output")) == [".mpibatch", "first", "pipeline_result.json"]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "key": (
        {"second": {"run_max_tries": 2}},
        "step second: pipeline.yaml: run_max_tries is 2: .*run_max_try",
    ),
    "script": (
        {"second": {"entry_script": "two/secnd.py"}},
        "step second: .*no such file; did you mean second.py",
    ),
    "reference": (
        {"second": {"arguments": ["${steps.fist.folder}"]}},
        "steps.second.arguments.0 has .*first",
    ),
    "placeholder": ({"second": {"arguments": ["${job_dri}"]}}, "step second: .*job_dir"),
    "input": ({"first": {"inputs": [{"files": "nothing/"}]}}, "step first: .*nothing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_step_costs_nothing(mistake: str, tmp_path: Path) -> None:
    steps, words = MISTAKES[mistake]
    file = make_pipeline(tmp_path, steps=steps)

    ended = support.mpibatch("run", file)

    assert ended.returncode == 2, support.words(ended)
    assert re.search(words, ended.stderr), support.words(ended)
    assert not (tmp_path / "output").exists()
    assert work_of(tmp_path) == []


def test_what_no_step_says_it_makes_is_told_of_before_the_first_begins(tmp_path: Path) -> None:
    steps = {
        "third": {"entry_script": "script.py", "inputs": [{"files": "datta/"}], "side_inputs": {"x": "x.txt"}}
    }
    file = make_pipeline(tmp_path, steps=steps)

    ended = support.mpibatch("run", file)

    assert ended.returncode == 2, support.words(ended)
    told = ended.stderr.splitlines()
    assert told[0].startswith("warning: step third: pipeline.yaml: side_inputs.x is "), support.words(ended)


def test_folders_of_jobs_and_of_pipelines_are_not_mixed(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path / "pipeline")
    job = support.make_job(tmp_path / "job", "def run(mini_batch): return mini_batch")
    assert support.mpibatch("run", file).returncode == support.mpibatch("run", job).returncode == 0

    one = support.mpibatch("run", job, "--output", tmp_path / "pipeline/output")
    two = support.mpibatch("run", file, "--output", tmp_path / "job/output")

    assert one.returncode == two.returncode == 2
    assert "is that of a pipeline" in one.stderr and "is the run folder of a single job" in two.stderr
    assert "is for a single job" in support.mpibatch("run", file, "--only-failed").stderr
    assert "--share divides a single job" in support.mpibatch("run", file, "--share", "0/2").stderr


def test_two_starts_of_one_pipeline(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path, second=GATED_SECOND)
    with support.Started(tmp_path, "run", file) as started:
        started.wait_until(
            lambda: support.notes(tmp_path).count("second 1") >= 3, "the second step is at work"
        )

        other = support.mpibatch("run", file)

        assert other.returncode == 2 and "is in use by process" in other.stderr, support.words(other)
        support.open_gate(tmp_path)
        assert started.wait_to_end() == 0, started.said
    assert states(tmp_path / "output") == {"first": "complete", "second": "complete"}


def test_a_step_with_a_folder_of_its_own(tmp_path: Path) -> None:
    """It is made anew if it is this step's; another job's run is not thrown away."""
    file = make_pipeline(tmp_path, steps={"first": {"output": "elsewhere"}})
    assert support.mpibatch("run", file).returncode == 0
    assert support.mpibatch("run", file, "--set", "steps.first.mini_batch_size=2").returncode == 0
    assert (tmp_path / "elsewhere/rows.txt").exists()

    ended = support.mpibatch("run", file, "--set", "steps.first.name=another")

    assert ended.returncode == 2 and "belongs to a run with other settings" in ended.stderr, support.words(
        ended
    )


def test_the_plan_is_shown(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path)

    ended = support.mpibatch("run", file, "--dry-run")

    assert ended.returncode == 0, support.words(ended)
    assert "step first (1 of 2)\n" in ended.stdout and "mini-batches 12 of up to 1 files" in ended.stdout
    assert "step second (2 of 2), takes data of first\n" in ended.stdout
    assert not (tmp_path / "output").exists()
