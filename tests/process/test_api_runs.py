"""Pipelines that are submitted from Python: real runs, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import support

from mpibatch.api import (
    Dataset,
    DatasetConsumptionConfig,
    Experiment,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PipelineRun,
    RunDetails,
    RunFailed,
    Workspace,
)

DOUBLE = """
import os

def run(mini_batch):
    return [f"{os.path.basename(path)}:{2 * int(open(path).read())}" for path in mini_batch]
"""

SUM = """
import argparse, os

parser = argparse.ArgumentParser()
parser.add_argument("--rows")
arguments, _ = parser.parse_known_args()

def run(mini_batch):
    lines = [line for path in mini_batch for line in open(path)]
    beside = open(os.path.join(arguments.rows, "doubled.txt")).read().splitlines()
    return [f"{sum(int(line.split(':')[1]) for line in lines)} of {len(beside)}"]
"""

AT_GATE = """
import os, time

def run(mini_batch):
    here = os.path.dirname(__file__)
    open(os.path.join(here, "reached"), "w").close()
    while not os.path.exists(os.path.join(here, "gate")):
        time.sleep(0.01)
    return mini_batch
"""

BROKEN = """
def run(mini_batch):
    raise ValueError("no such digit")
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With six files in `data`, and a folder for code."""
    (tmp_path / "data").mkdir()
    (tmp_path / "code").mkdir()
    for number in range(6):
        (tmp_path / "data" / f"{number}.txt").write_text(str(number))
    return Workspace.create("tests", path=tmp_path)


def config(workspace: Workspace, script: str, name: str = "script.py", **settings: Any) -> ParallelRunConfig:
    folder = Path(workspace.folder) / "code"
    (folder / name).write_text(script)
    given = {"error_threshold": 0, "mini_batch_size": 3, "run_max_try": 1, **settings}
    return ParallelRunConfig(entry_script=name, source_directory=folder, **given)


def data(workspace: Workspace, names: str = "data/*.txt") -> Any:
    return Dataset.File.from_files(os.path.join(workspace.folder, names))


def one_step(workspace: Workspace, script: str, **step: Any) -> Pipeline:
    settings = step.pop("settings", {})
    made = ParallelRunStep(
        name="double",
        parallel_run_config=config(workspace, script, append_row_file_name="doubled.txt", **settings),
        inputs=[data(workspace).as_named_input("digits")],
        output=PipelineData("doubled"),
        **step,
    )
    return Pipeline(workspace, steps=[made])


def download(run: Any, target: Path, rows: str = "doubled.txt") -> list[str]:
    """As tutorials do it."""
    output = run.get_output_data("doubled")
    output.download(local_path=target)
    text: str = (target / output.path_on_datastore / rows).read_text()
    return text.splitlines()


def test_the_tutorials_way_and_a_rerun_with_one_file(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = PipelineParameter(name="data_param", default_value=data(workspace))
    step = ParallelRunStep(
        name="double",
        parallel_run_config=config(
            workspace,
            DOUBLE,
            append_row_file_name="doubled.txt",
            mini_batch_size=PipelineParameter("batch_size_param", "5"),
            process_count_per_node=PipelineParameter("process_count_param", 2),
            node_count=2,
        ),
        inputs=[DatasetConsumptionConfig("digits", everything).as_mount()],
        output=PipelineData(name="doubled", datastore=workspace.get_default_datastore()),
        allow_reuse=False,
    )
    pipeline = Pipeline(workspace=workspace, steps=[step])
    experiment = Experiment(workspace, "digits")
    first = experiment.submit(pipeline, tags={"of": "tests"})
    assert first.wait_for_completion(show_output=True) == "Finished"
    told = capsys.readouterr()
    assert "step double: complete, items 6: 6 succeeded, 0 failed, in 2 mini-batches" in told.out
    assert "node_count is for clusters" in told.err

    values = {
        "data_param": data(workspace, "data/4.txt"),
        "batch_size_param": "1",
        "process_count_param": 1,
    }
    second = experiment.submit(pipeline, pipeline_parameters=values)
    RunDetails(second).show()
    assert "state         ended: complete, exit code 0" in capsys.readouterr().out
    assert second.get_status() == "Finished"
    assert download(second.find_step_run("double")[0], tmp_path / "one") == ["4.txt:8"]
    # What the first has made is still there.
    expected = [f"{number}.txt:{2 * number}" for number in range(6)]
    assert download(first.find_step_run(step.name)[0], tmp_path / "all") == expected
    assert [run.id for run in experiment.get_runs()] == [second.id, first.id]
    assert [run.id for run in experiment.get_runs(tags={"of": "tests"})] == [first.id]


def test_a_second_step_reads_the_first_ones_rows_and_reuse(workspace: Workspace) -> None:
    doubled = PipelineData("doubled")

    def pipeline(**settings: Any) -> Pipeline:
        first = ParallelRunStep(
            "double",
            config(workspace, DOUBLE, append_row_file_name="doubled.txt"),
            inputs=data(workspace),
            output=doubled,
        )
        second = ParallelRunStep(
            "sums",
            config(workspace, SUM, "sums.py", **settings),
            inputs=doubled.as_input("rows"),
            side_inputs=[doubled],
            arguments=["--rows", doubled],
            output=PipelineData("sum"),
        )
        # The order of a pipeline is that of its data.
        return Pipeline(workspace, [second, first])

    run = pipeline().submit("sums")
    assert run.wait_for_completion(show_output=False) == "Finished"
    assert [step.name for step in run.get_steps()] == ["double", "sums"]
    output = run.get_pipeline_output("sum")
    assert list(output.files()) == ["parallel_run_step.txt"]
    assert Path(output.folder, "parallel_run_step.txt").read_text() == "30 of 6\n"

    again = pipeline().submit("sums")
    again.wait_for_completion(show_output=False)
    assert [step.is_reused for step in again.get_steps()] == [True, True]
    assert [step.folder for step in again.get_steps()] == [step.folder for step in run.get_steps()]

    other = pipeline(append_row_file_name="other.txt").submit("sums")
    other.wait_for_completion(show_output=False)
    assert [step.is_reused for step in other.get_steps()] == [True, False]

    anew = pipeline().submit("sums", regenerate_outputs=True)
    anew.wait_for_completion(show_output=False)
    assert [step.is_reused for step in anew.get_steps()] == [False, False]


def test_a_failed_run_tells_its_first_cause_and_goes_on(workspace: Workspace) -> None:
    run = one_step(workspace, BROKEN).submit("fails")
    with pytest.raises(RunFailed) as caught:
        run.wait_for_completion(show_output=False)
    assert "First cause: step double: ValueError: no such digit (item " in str(caught.value)
    assert caught.value.exit_code == 3
    assert run.get_status() == "Failed"
    assert run.find_step_run("double")[0].get_status() == "Failed"
    assert "no such digit" in run.find_step_run("double")[0].get_job_log()
    assert run.wait_for_completion(show_output=False, raise_on_error=False) == "Failed"

    # A repaired script is another one: its run is begun anew.
    (Path(workspace.folder) / "code" / "script.py").write_text(DOUBLE)
    run.resume()
    assert run.wait_for_completion(show_output=False) == "Finished"


def test_cancel_ends_it_and_the_next_submission_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    code = tmp_path / "code"
    pipeline = one_step(workspace, AT_GATE, settings={"mini_batch_size": 1})
    run = pipeline.submit("gate")
    support.wait_until((code / "reached").exists, "its script runs")
    assert run.get_status() == "Running"
    with pytest.raises(TimeoutError, match="it goes on"):
        run.wait_for_completion(show_output=False, timeout_seconds=0)
    # As another kernel would find it.
    found = PipelineRun.get(workspace, run.id)
    found.cancel()
    assert run.get_status() == "CancelRequested"
    found.cancel()
    with pytest.raises(RunFailed, match="was stopped"):
        run.wait_for_completion(show_output=False)
    assert run.get_status() == "Canceled"

    (code / "gate").touch()
    again = pipeline.submit("gate")
    assert again.wait_for_completion(show_output=False) == "Finished"
    assert again.get_steps()[0].folder == run.get_steps()[0].folder
    assert support.result(Path(run.get_steps()[0].folder))["sessions"] == 2


def test_cancel_before_it_has_begun(workspace: Workspace) -> None:
    run = one_step(workspace, AT_GATE).submit("gate")
    run.cancel()
    assert run.wait_for_completion(show_output=False, raise_on_error=False) == "Canceled"


def test_a_run_whose_processes_were_killed_has_failed(workspace: Workspace, tmp_path: Path) -> None:
    run = one_step(workspace, AT_GATE).submit("gate")
    support.wait_until((tmp_path / "code" / "reached").exists, "its script runs")
    keeper = run.home.submission().keeper
    assert keeper is not None
    os.killpg(keeper.pid, signal.SIGKILL)
    support.wait_until(lambda: run.get_status() == "Failed", "it is seen that nothing runs any more")
    with pytest.raises(
        RunFailed, match=r"has failed. What is finished is kept: run.resume\(\) goes on with it"
    ):
        run.wait_for_completion(show_output=False)


def test_it_outlives_the_process_that_has_submitted_it(workspace: Workspace, tmp_path: Path) -> None:
    one_step(workspace, AT_GATE)
    program = """
import sys
from mpibatch.api import Dataset, ParallelRunConfig, ParallelRunStep, Pipeline, Workspace

workspace = Workspace.from_config()
config = ParallelRunConfig(None, "script.py", 0, "append_row", None, 1, source_directory="code")
step = ParallelRunStep("gate", config, Dataset.File.from_files("data/*.txt"))
print(Pipeline(workspace, [step]).submit("gate").id)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, env=support.from_anywhere(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, support.words(ended)
    run = PipelineRun.get(workspace, ended.stdout.strip())
    support.wait_until((tmp_path / "code" / "reached").exists, "its script runs")
    assert run.get_status() == "Running"
    (tmp_path / "code" / "gate").touch()
    assert run.wait_for_completion(show_output=False) == "Finished"
