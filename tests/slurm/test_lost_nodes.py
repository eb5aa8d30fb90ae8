"""A node dies in mid-run: SIGKILL to its slurmd, its slurmstepd and all tasks. It costs time, not rows.

Under pmi2 the survivors go on, under pmix Slurm ends the whole step and the batch script launches again on the
nodes that are left. Where the first node dies, the batch script dies with it, and Slurm keeps a job with --no-kill as
long as one node is left, script or not: the script's watcher on the last node puts the job back into the queue.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import support
from slurm.cluster import NODES, Cluster
from slurm.processes import others
from slurm.steps import right_plugin
from slurm.submitting import LONG_S
from support import NOTE, make_job, notes, open_gate, result, rows

from mpibatch.runtime.jobfile import load_job
from mpibatch.slurm.script import batch_script

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

ITEMS = 24
GATED = (
    NOTE
    + """
def run(mini_batch):
    note(os.environ["SLURMD_NODENAME"])
    gate()
    return [os.path.basename(item) for item in mini_batch]
"""
)


@pytest.fixture
def whole_again(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster. For the next test all nodes are there again, and what a dead node has left is removed."""
    before = set(_scratch())
    yield cluster
    for folder in set(_scratch()) - before:
        shutil.rmtree(folder)
    for node in NODES:
        if cluster.states()[node] not in ("idle", "mix", "alloc", "comp"):
            cluster.bring_back(node)
    cluster.wait_for_nodes(dict.fromkeys(NODES, "idle"))


def _scratch() -> Iterator[Path]:
    return Path(tempfile.gettempdir()).glob("mpibatch-*")


def submit(cluster: Cluster, folder: Path) -> tuple[str, Path]:
    """The job's number, once each node is at work, and its log."""
    keys: dict[str, Any] = {"node_count": 4, "process_count_per_node": 1, "slurm": {"mpi": right_plugin()}}
    job = make_job(folder, GATED, items=ITEMS, heartbeat_timeout=15, **keys)
    log, script = folder / "batch.log", folder / "batch.sh"
    text = batch_script(
        load_job(str(job)),
        command=[*support.COMMAND, "run", str(job)],
        run_folder=str(folder / "output"),
        log=str(log),
        work_dir=str(folder),
    ).text
    script.write_text(text)
    number = cluster.command("sbatch", "--parsable", script, environment=support.from_anywhere()).strip()
    support.wait_until(lambda: set(notes(folder)) == set(NODES), "each node is at work")
    # Nobody sees that the first node is lost before the watcher is there, which is started beside the ranks.
    support.wait_until(lambda: _is_watched(number), "the last node watches")
    return number, log


def _is_watched(number: str) -> bool:
    """Whether the batch script's watcher runs, and not only the srun that starts it."""
    commands = [_command(pid) for pid in others()]
    return any(words[0].endswith("bash") and {"watcher", number} <= set(words) for words in commands)


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:  # It has ended.
        return [""]


def ends_complete(cluster: Cluster, folder: Path, number: str, log: Path) -> str:
    """Wait for the end of the job, look at the rows, and return the log."""
    support.wait_until((folder / "output" / "rows.txt").exists, "the rows are there", LONG_S)
    support.wait_until(
        lambda: cluster.job_state(number) == "COMPLETED", f"the job is complete\n{log.read_text()}"
    )
    assert rows(folder / "output") == [f"item{item:03d}" for item in range(ITEMS)]
    assert result(folder / "output")["verdict"] == "complete"
    return log.read_text()


def test_a_lost_node(whole_again: Cluster, tmp_path: Path) -> None:
    number, log = submit(whole_again, tmp_path)

    whole_again.lose("n3")
    open_gate(tmp_path)

    said = ends_complete(whole_again, tmp_path, number, log)
    whole_again.wait_for_nodes({"n3": "down*"})
    relaunched = right_plugin() == "pmix"
    assert ("launching again on n1 n2 n4" in said) == relaunched, said
    assert result(tmp_path / "output")["sessions"] == 1 + relaunched


@pytest.mark.mpich
def test_the_first_node_is_lost(whole_again: Cluster, tmp_path: Path) -> None:
    """And with it rank 0 and the batch script. The job comes back by itself, when four nodes are there again.

    Not with PMIx, of which something stays on nodes whose daemons were killed, so that no step starts there again.
    """
    number, log = submit(whole_again, tmp_path)

    whole_again.lose("n1")
    whole_again.wait_for_nodes({"n1": "down*"})
    open_gate(tmp_path)
    support.wait_until(
        lambda: whole_again.job(number)["Restarts"] == "1", "the job is put back", support.TIMEOUT_S
    )
    whole_again.bring_back("n1")

    said = ends_complete(whole_again, tmp_path, number, log)
    assert said.count("the first node, n1, was lost") == 1, said
    assert whole_again.job(number)["Restarts"] == "1"
    assert result(tmp_path / "output")["sessions"] == 2
