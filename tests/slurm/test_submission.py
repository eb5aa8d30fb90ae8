"""`mpibatch submit`: what it tells, what Slurm refuses, and `--wait` with the run's own exit code."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import support
from slurm.cluster import Cluster
from slurm.submitting import log, number, started, submit, waiting
from support import GATED, make_job, notes, open_gate, result, rows, wait_until

from mpibatch.core.shell_lines import quoted

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

SCRIPT = """
import os

def run(mini_batch):
    return [os.path.basename(item) for item in mini_batch]
"""
REFUSE = """
def run(mini_batch):
    raise ValueError("no such digit")
"""
HELD: dict[str, Any] = {"slurm": {"extra": ["--hold"]}}


def test_two_nodes_with_the_mpi_that_fits(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, SCRIPT, node_count=2, process_count_per_node=1, slurm={"mem": "100M"})

    with waiting(cluster, tmp_path, job) as waits:
        code = waits.wait_to_end()
    assert code == 0, waits.said
    assert rows(tmp_path / "output") == [f"item{item:03d}" for item in range(6)]
    told = cluster.job(number(waits.said))
    assert (told["JobName"], told["NumNodes"]) == ("test-job", "2")
    assert told["StdOut"] == str(tmp_path / ".output.slurm" / f"{number(waits.said)}.log")
    assert "has ended: exit code 0" in waits.said


def test_too_many_errors(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, REFUSE, error_threshold=2, run_max_try=1)

    with waiting(cluster, tmp_path, job) as waits:
        code = waits.wait_to_end()
    assert code == 3, waits.said
    assert "ValueError: no such digit" in waits.said, "the end of the log is shown"


def test_a_wrong_job_is_not_submitted(cluster: Cluster, tmp_path: Path) -> None:
    for job, words in (
        (make_job(tmp_path / "key", SCRIPT, slurm={"partiton": "debug"}), "slurm.partiton"),
        (make_job(tmp_path / "input", SCRIPT, inputs=[{"files": "nothing/"}]), "inputs.0.files"),
    ):
        ended = submit(cluster, job, "--wait")

        assert ended.returncode == 2, support.words(ended)
        assert words in ended.stderr
        assert ended.stdout == ""
        assert not (job.parent / ".output.slurm").exists()


def test_a_person_stops_it(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, GATED)
    with waiting(cluster, tmp_path, job) as waits:
        wait_until(lambda: len(notes(tmp_path)) > 4, "items wait at the gate")
        again = submit(cluster, job)
        assert again.returncode == 2, support.words(again)
        assert f"job {number(waits.said)} is in Slurm's queue for the run folder" in again.stderr
        assert support.mpibatch("stop", tmp_path / "output").returncode == 0
        waits.wait_until(lambda: "stopping" in log(tmp_path, number(waits.said)), "the run stops")
        open_gate(tmp_path)
        code = waits.wait_to_end()

    assert code == 75, waits.said
    assert result(tmp_path / "output")["verdict"] == "stopped"
    assert "put back into the queue" not in waits.said
    with waiting(cluster, tmp_path, job) as waits:
        assert waits.wait_to_end() == 0, waits.said
    assert len(rows(tmp_path / "output")) == 6


def test_who_waits_may_leave(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, GATED)
    with waiting(cluster, tmp_path, job) as waits:
        started(waits)
        waits.process.send_signal(signal.SIGINT)
        code = waits.wait_to_end()
        said = waits.said

    assert code == 130, said
    assert f"job {number(said)} goes on" in said
    open_gate(tmp_path)
    wait_until(lambda: cluster.job_state(number(said)) == "COMPLETED", "the job ends by itself")
    assert len(rows(tmp_path / "output")) == 6


@pytest.mark.parametrize("name", ['it\'s "one" 100% $HOME `id` # job', "mañana %j", "back \\ slash %j"])
def test_paths_are_what_they_are(cluster: Cluster, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    job = make_job(folder, SCRIPT, environment_variables={"LABEL": name})

    with waiting(
        cluster, tmp_path, job, "--output", folder / "run it", "--set", "arguments=[--x, a b]"
    ) as waits:
        code = waits.wait_to_end()
    assert code == 0, waits.said
    assert len(rows(folder / "run it")) == 6
    log_name = "batch" if "\\" in name else number(waits.said)
    assert "complete, exit code 0" in (folder / ".run it.slurm" / f"{log_name}.log").read_text()
    assert quoted(str(folder / "run it")) in waits.said


@pytest.mark.parametrize(
    ("keys", "words", "key"),
    [
        ({"partition": "nosuch"}, "invalid partition specified: nosuch", "slurm.partition: nosuch"),
        ({"constraint": "fast"}, "Invalid feature specification", "slurm.constraint: fast"),
        ({"mem": "999G"}, "Memory specification can not be satisfied", "slurm.mem: 999G"),
        ({"gpus_per_node": 9}, "node configuration is not available", "slurm.gpus_per_node: 9"),
        ({"extra": ["--gres=fpga:1"]}, "Invalid generic resource", "slurm.extra: fpga:1"),
        ({"extra": {"reservation": "exam"}}, "reservation is invalid", "slurm.extra: exam"),
        ({"extra": ["--no-such-option"]}, "unrecognized option", "slurm.extra"),
        ({"extra": ["--begin=never"]}, "Invalid --begin specification", "slurm.extra: never"),
    ],
)
def test_what_slurm_refuses_is_told_with_its_key(
    cluster: Cluster, tmp_path: Path, keys: dict[str, Any], words: str, key: str
) -> None:
    job = make_job(tmp_path, SCRIPT, slurm=keys)

    ended = submit(cluster, job)

    assert ended.returncode == 2, support.words(ended)
    assert words in ended.stderr
    assert f"\n  {key}" in ended.stderr, ended.stderr
    assert ended.stdout == ""
    assert not (tmp_path / "output").exists()


def test_a_variable_that_wins_over_the_job_is_named(cluster: Cluster, tmp_path: Path) -> None:
    ended = submit(cluster, make_job(tmp_path, SCRIPT), SBATCH_PARTITION="other")

    assert ended.returncode == 2, support.words(ended)
    assert "the variable SBATCH_PARTITION: other" in ended.stderr


def test_a_job_that_would_wait_for_ever_is_warned_of(cluster: Cluster, tmp_path: Path) -> None:
    ended = submit(cluster, make_job(tmp_path, SCRIPT, slurm={"partition": "short", "time": 10}))

    assert ended.returncode == 0, support.words(ended)
    cluster.command("scancel", number(ended.stdout))
    assert "warning: Slurm has taken the job, but does not start it (PartitionConfig)" in ended.stderr
    assert "slurm.time: 10" in ended.stderr


def test_within_a_job_nothing_of_it_is_inherited(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, SCRIPT)
    old = {"SLURM_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "3", "SLURM_NTASKS": "9", "MPIBATCH_SUCCESSIONS": "99"}

    ended = submit(cluster, job, "--wait", **old)

    assert ended.returncode == 0, support.words(ended)
    assert len(rows(tmp_path / "output")) == 6


def test_an_array(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, SCRIPT, array=2)

    with waiting(cluster, tmp_path, job) as waits:
        code = waits.wait_to_end()
    assert code == 0, waits.said
    assert rows(tmp_path / "output") == [f"item{item:03d}" for item in range(6)]
    assert f"job {number(waits.said)}_1 has ended: exit code 0" in waits.said


def test_no_slurm_answers(cluster: Cluster, tmp_path: Path) -> None:
    conf = tmp_path / "slurm.conf"
    conf.write_text(cluster.conf.read_text().replace("SlurmctldPort=", "SlurmctldPort=1 #"))

    ended = submit(cluster, make_job(tmp_path, SCRIPT, slurm={"mpi": "none"}), SLURM_CONF=str(conf))

    assert ended.returncode == 2, support.words(ended)
    assert "Slurm cannot be reached" in ended.stderr
