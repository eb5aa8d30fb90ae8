"""All ranks are killed, and the job is put back into the queue, onto the same node: its MPI comes up again.

MPICH would take the shared memory of the killed ranks for its own, as job and step have the same numbers again.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import support
from slurm.cluster import Cluster
from slurm.processes import in_environment, kill, others
from slurm.steps import right_plugin
from support import NOTE, make_job, notes, open_gate, result, rows

from mpibatch.runtime.jobfile import load_job
from mpibatch.slurm.script import batch_script

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

NODE = "n4"
ITEMS = 6
GATED = (
    NOTE
    + """
def run(mini_batch):
    note("at work")
    gate()
    return [os.path.basename(item) for item in mini_batch]
"""
)


def test_killed_ranks_do_not_hinder_those_that_come_after_them(cluster: Cluster, tmp_path: Path) -> None:
    log = tmp_path / "batch.log"
    job = submit(cluster, tmp_path, log)
    # Both: one that is about to start something is two for an instant.
    support.wait_until(lambda: len(notes(tmp_path)) == 2, "the ranks are at work")
    ranks = ranks_of(job)
    assert len(ranks) == 2
    left = {file for rank in ranks for file in shared_memory(rank)}
    assert bool(left) == (right_plugin() == "pmi2")

    kill(ranks)
    support.wait_until(lambda: cluster.job_state(job) == "FAILED", "the batch script has given up")
    assert all(file.exists() for file in left), "this is what the test is about"
    open_gate(tmp_path)
    cluster.command("scontrol", "requeue", job)

    output = tmp_path / "output"
    support.wait_until((output / "rows.txt").exists, "the rows are there", support.TIMEOUT_S)
    support.wait_until(
        lambda: cluster.job_state(job) == "COMPLETED", f"the job is complete\n{log.read_text()}"
    )
    assert cluster.job(job)["Restarts"] == "1"
    assert rows(output) == [f"item{item:03d}" for item in range(ITEMS)]
    assert result(output)["sessions"] == 2
    assert not any(file.exists() for file in left)


def submit(cluster: Cluster, folder: Path, log: Path) -> str:
    """A job of two ranks on one node, which is not launched again when they are lost; its number."""
    job = make_job(
        folder, GATED, items=ITEMS, process_count_per_node=2, max_restarts=0, slurm={"mpi": right_plugin()}
    )
    script = folder / "batch.sh"
    script.write_text(
        batch_script(
            load_job(str(job)),
            command=[*support.COMMAND, "run", str(job)],
            run_folder=str(folder / "output"),
            log=str(log),
            work_dir=str(folder),
        ).text
    )
    words = ("sbatch", "--parsable", f"--nodelist={NODE}", script)
    return cluster.command(*words, environment=support.from_anywhere()).strip()


def ranks_of(job: str) -> set[int]:
    """The tasks of its step 0, without what these have started."""
    marks = (f"\0SLURM_JOB_ID={job}\0", "\0SLURM_STEP_ID=0\0")
    tasks = {pid for pid in others() if all(in_environment(pid, mark) for mark in marks)}
    return {pid for pid in tasks if b"\0run\0" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def shared_memory(rank: int) -> set[Path]:
    """What it shares with others of its node by MPICH."""
    lines = Path(f"/proc/{rank}/maps").read_text().splitlines()
    return {Path(line.split()[5]) for line in lines if "/dev/shm/mpich_" in line}
