"""Pipelines that are submitted from Python to a real Slurm."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import support
from slurm.cluster import Cluster

from mpibatch.api import (
    Dataset,
    ParallelRunConfig,
    ParallelRunStep,
    Pipeline,
    PipelineData,
    PipelineRun,
    RunFailed,
    SlurmCompute,
    Workspace,
)
from mpibatch.slurm.submit import Beside

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

AT_GATE = """
import os, time

def run(mini_batch):
    here = os.path.dirname(__file__)
    open(os.path.join(here, "reached"), "w").close()
    while not os.path.exists(os.path.join(here, "gate")):
        time.sleep(0.01)
    return [f"{os.path.basename(path)} {open(path).read()}" for path in mini_batch]
"""


@pytest.fixture
def workspace(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Of a user whose commands speak to the cluster."""
    for name in [*os.environ]:
        if name.startswith(("SLURM", "SBATCH", "SRUN")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    (tmp_path / "data").mkdir()
    for number in range(4):
        (tmp_path / "data" / f"{number}.txt").write_text(str(number))
    (tmp_path / "score.py").write_text(AT_GATE)
    return Workspace.create("tests", path=tmp_path)


def pipeline(workspace: Workspace, **slurm: Any) -> Pipeline:
    folder = Path(workspace.folder)
    config = ParallelRunConfig(
        entry_script="score.py",
        source_directory=folder,
        mini_batch_size=1,
        error_threshold=0,
        node_count=2,
        process_count_per_node=1,
        compute_target=SlurmCompute(mem="100M", **slurm),
    )
    data = Dataset.File.from_files(str(folder / "data"))
    return Pipeline(
        workspace, [ParallelRunStep("score", config, [data], PipelineData("rows"), allow_reuse=False)]
    )


def job_of(run: PipelineRun) -> str:
    """Its number, once it was submitted."""
    beside = Beside(str(run.home.pipeline.root))
    support.wait_until(lambda: beside.last() is not None, "the job is in the queue")
    last = beside.last()
    assert last is not None
    return last.job


def test_on_two_nodes(cluster: Cluster, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(workspace.folder)
    run = pipeline(workspace).submit("nodes")
    job = job_of(run)
    support.wait_until((folder / "reached").exists, "its script runs")
    support.wait_until(lambda: run.get_status() == "Running", "it is seen that it runs")
    assert cluster.job(job)["NumNodes"] == "2"

    (folder / "gate").touch()
    assert run.wait_for_completion(show_output=True, timeout_seconds=support.TIMEOUT_S) == "Finished"
    assert f"job {job} has ended: exit code 0" in capsys.readouterr().out
    run.find_step_run("score")[0].get_output_data("rows").download(folder / "copy")
    (rows,) = (folder / "copy").rglob("parallel_run_step.txt")
    assert rows.read_text().splitlines() == [f"{number}.txt {number}" for number in range(4)]


def test_cancelled_while_it_waits(cluster: Cluster, workspace: Workspace) -> None:
    run = pipeline(workspace, extra=["--hold"]).submit("waits")
    job = job_of(run)
    assert run.get_status() == "Queued"
    run.cancel()
    with pytest.raises(RunFailed, match="was stopped"):
        run.wait_for_completion(show_output=False, timeout_seconds=support.TIMEOUT_S)
    assert run.get_status() == "Canceled"
    assert cluster.job_state(job) == "CANCELLED"
    assert not (Path(workspace.folder) / "reached").exists()


def test_it_goes_on_when_the_waiting_process_is_gone(cluster: Cluster, workspace: Workspace) -> None:
    """As where a login node ends all that a user has left there."""
    run = pipeline(workspace, extra=["--hold"]).submit("left")
    job = job_of(run)
    keeper = run.home.submission().keeper
    assert keeper is not None
    os.killpg(keeper.pid, signal.SIGKILL)
    support.wait_until(lambda: not keeper.lives(), "it is gone")
    assert run.get_status() == "Queued"

    Path(workspace.folder, "gate").touch()
    cluster.command("scontrol", "release", job)
    assert run.wait_for_completion(show_output=False, timeout_seconds=support.TIMEOUT_S) == "Finished"


def test_it_is_cancelled_when_the_waiting_process_is_gone(cluster: Cluster, workspace: Workspace) -> None:
    run = pipeline(workspace, extra=["--hold"]).submit("left")
    job = job_of(run)
    keeper = run.home.submission().keeper
    assert keeper is not None
    os.killpg(keeper.pid, signal.SIGKILL)
    support.wait_until(lambda: not keeper.lives(), "it is gone")
    run.cancel()
    assert run.wait_for_completion(False, 60, raise_on_error=False) == "Canceled"
    assert cluster.job_state(job) == "CANCELLED"


def test_cancelled_while_it_runs_and_resumed(cluster: Cluster, workspace: Workspace) -> None:
    folder = Path(workspace.folder)
    run = pipeline(workspace).submit("runs")
    support.wait_until((folder / "reached").exists, "its script runs")
    support.wait_until(lambda: run.get_status() == "Running", "it is seen that it runs")
    run.cancel()
    run.cancel()
    assert run.wait_for_completion(False, 60, raise_on_error=False) == "Canceled"

    (folder / "gate").touch()
    run.resume()
    assert run.wait_for_completion(show_output=False, timeout_seconds=support.TIMEOUT_S) == "Finished"
    assert (
        len(Path(run.get_steps()[0].get_output().files()["parallel_run_step.txt"]).read_text().split("\n"))
        == 5
    )


def test_what_slurm_refuses_fails_with_its_words(workspace: Workspace) -> None:
    run = pipeline(workspace, partition="nothing").submit("refused")
    with pytest.raises(RunFailed, match=r"slurm\.partition"):
        run.wait_for_completion(show_output=False, timeout_seconds=support.TIMEOUT_S)
    assert run.get_status() == "Failed"
