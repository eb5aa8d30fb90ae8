"""`srun mpibatch run` on four real nodes, as a step of its own and in a batch job: rows, counts, exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import support
from slurm.cluster import NODES, Cluster
from slurm.steps import right_plugin, sbatch, sbatch_wait, srun
from support import NOTE, failed_items, make_job, notes, result, rows

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

MEET = (
    NOTE
    + """
NODE = os.environ["SLURMD_NODENAME"]

def run(mini_batch):
    note(NODE)
    while len(set(open(os.path.join(FOLDER, "notes")).read().split())) < 4:
        time.sleep(0.005)
    return [os.path.basename(item) for item in mini_batch]
"""
)
"""Nobody goes on before all four nodes have got something."""

REFUSE = """
def run(mini_batch):
    raise ValueError("no such digit")
"""

STOP = (
    NOTE
    + """
def run(mini_batch):
    with open(os.path.join(FOLDER, "output", ".mpibatch", "stop"), "w") as file:
        file.write("now")
    gate()
    return mini_batch
"""
)

FOUR: dict[str, Any] = {"node_count": 4, "process_count_per_node": 1}


@pytest.mark.parametrize("tasks", [4, 5])
def test_four_nodes(cluster: Cluster, tmp_path: Path, tasks: int) -> None:
    job = make_job(tmp_path, MEET, items=12, run_invocation_timeout=60, **FOUR)

    ended = srun(cluster, "run", job, options=("--nodes=4", f"--ntasks={tasks}"), mpi=right_plugin())

    assert ended.returncode == 0, support.words(ended)
    output = tmp_path / "output"
    assert rows(output) == [f"item{number:03d}" for number in range(12)]
    told = result(output)
    assert told["verdict"] == "complete"
    assert told["items"] == {"total": 12, "succeeded": 12, "failed": 0}
    assert set(notes(tmp_path)) == set(NODES)
    logs = [file.parent.name for file in (output / "logs" / "user" / "stdout").rglob("*.txt")]
    assert sorted(logs) == list(NODES), "a worker on each node, with its logs by the node's name"


def test_keys_follow_the_step(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, MEET, items=8, run_invocation_timeout=60)

    ended = srun(cluster, "run", job, options=("--nodes=4", "--ntasks-per-node=2"), mpi=right_plugin())

    assert ended.returncode == 0, support.words(ended)
    assert len(rows(tmp_path / "output")) == 8
    assert set(notes(tmp_path)) == set(NODES)


def test_the_batch_job_ends_with_0(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, MEET, run_invocation_timeout=60, **FOUR)

    code, log = sbatch(cluster, tmp_path, "run", job)

    assert code == 0, log
    assert len(rows(tmp_path / "output")) == 6
    assert "complete" in log


def test_sbatch_wait_ends_with_3_and_its_log_has_the_cause(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, REFUSE, error_threshold=2, run_max_try=1, **FOUR)

    code, log = sbatch_wait(cluster, tmp_path, "run", job)

    assert code == 3, log
    assert "ValueError: no such digit" in log
    told = result(tmp_path / "output")
    assert (told["verdict"], told["exit_code"]) == ("too_many_errors", 3)
    assert told["first_cause"]["error"] == "ValueError: no such digit"
    assert failed_items(tmp_path / "output")


def test_the_batch_job_ends_with_2_and_leaves_no_folder(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, MEET, process_count_pernode=1)

    code, log = sbatch(cluster, tmp_path, "run", job)

    assert code == 2, log
    assert log.count("process_count_pernode") == 1, "said by one rank"
    assert "process_count_per_node" in log
    assert not (tmp_path / "output").exists()


def test_the_batch_job_ends_with_4(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, "def init():\n    raise OSError('no model')\n" + REFUSE, **FOUR)

    code, log = sbatch(cluster, tmp_path, "run", job)

    assert code == 4, log
    assert "no model" in log


def test_the_batch_job_ends_with_75_and_goes_on_in_the_next(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, STOP, items=40, **FOUR)

    code, log = sbatch(cluster, tmp_path, "run", job)

    assert code == 75, log
    assert result(tmp_path / "output")["verdict"] == "stopped"
    (tmp_path / "script.py").write_text(MEET)
    support.open_gate(tmp_path)
    code, log = sbatch(cluster, tmp_path, "run", job)
    assert code == 0, log
    assert len(rows(tmp_path / "output")) == 40
    assert result(tmp_path / "output")["sessions"] == 2
