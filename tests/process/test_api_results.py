"""What a pipeline's run leaves for those who ask: metrics, registered outputs; and a wait that is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import support

import mpibatch
from mpibatch.api import (
    Dataset,
    Experiment,
    FileDataset,
    OutputFileDatasetConfig,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineRun,
    Workspace,
)

LOGS = """
from mpibatch.azureml.run import Run

def run(mini_batch):
    context = Run.get_context()
    for path in mini_batch:
        context.log("seen", int(open(path).read()))
    context.log("batches", 1)
    return [1 for _ in mini_batch]
"""

AT_GATE = """
import os, time

def run(mini_batch):
    while not os.path.exists(os.path.join(os.path.dirname(__file__), "gate")):
        time.sleep(0.01)
    return mini_batch
"""

WAITS = """
import sys
from mpibatch.api import PipelineRun, Workspace

PipelineRun.get(Workspace(sys.argv[1]), sys.argv[2]).wait_for_completion()
"""


def submitted(folder: Path, script: str, output: OutputFileDatasetConfig) -> PipelineRun:
    workspace = Workspace.create("tests", path=folder)
    (folder / "data").mkdir()
    for number in range(3):
        (folder / "data" / f"{number}.txt").write_text(str(number))
    (folder / "script.py").write_text(script)
    config = ParallelRunConfig(
        entry_script="script.py",
        source_directory=folder,
        mini_batch_size=3,
        error_threshold=0,
        logging_level="DEBUG",
    )
    step = ParallelRunStep(
        name="score",
        parallel_run_config=config,
        inputs=[Dataset.File.from_files(folder / "data").as_named_input("digits")],
        output=output,
    )
    return Experiment(workspace, "digits").submit(Pipeline(workspace, [step]))


def test_metrics_and_a_registered_output_with_a_destination(tmp_path: Path) -> None:
    output = OutputFileDatasetConfig("rows", destination=str(tmp_path / "there"))
    run = submitted(tmp_path, LOGS, output.register_on_complete("all-rows"))
    assert run.wait_for_completion(show_output=False) == "Finished"
    assert run.get_metrics() == {"seen": [0, 1, 2], "batches": 1}
    assert run.get_metrics("batches") == {"batches": 1}
    registered = Dataset.get_by_name(run.experiment.workspace, "all-rows")
    assert isinstance(registered, FileDataset)
    (path,) = registered.to_path()
    assert path.endswith("parallel_run_step.txt")
    assert (tmp_path / "there" / "parallel_run_step.txt").read_text() == "1\n1\n1\n"


def test_an_interrupted_wait_leaves_the_run_alone(tmp_path: Path) -> None:
    run = submitted(tmp_path, AT_GATE, OutputFileDatasetConfig("rows"))
    environment = {**os.environ, "PYTHONPATH": str(Path(mpibatch.__file__).parents[1])}
    said = tmp_path / "said"
    command = [sys.executable, "-c", WAITS, run.experiment.workspace.folder, run.id]
    try:
        with (
            open(said, "w") as file,
            subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT) as waiter,
        ):
            support.wait_until(lambda: bool(said.read_text()), "it shows what the run prints")
            waiter.send_signal(signal.SIGINT)
            waiter.wait(timeout=60)
        assert f"Nobody waits for the pipeline run {run.id} any more; it goes on" in said.read_text()
    finally:
        (tmp_path / "gate").touch()
        status = run.wait_for_completion(show_output=False, raise_on_error=False)
    assert status == "Finished"
