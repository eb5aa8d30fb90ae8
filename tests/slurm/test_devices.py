"""Devices on a real Slurm: nodes of two, that are names only. Each processor gets its own, and `doctor` shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import support
from slurm.cluster import Cluster
from slurm.steps import right_plugin, srun
from support import NOTE, make_job, notes

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

TELLS = (
    NOTE
    + """
def init():
    worker = os.path.basename(os.getcwd()).partition("-")[0]
    note(f"{os.environ['SLURMD_NODENAME']} {worker} {os.environ['CUDA_VISIBLE_DEVICES'] or 'none'}")

def run(mini_batch):
    while len(open(os.path.join(FOLDER, "notes")).readlines()) < int(os.environ["WORKERS"]):
        time.sleep(0.005)
    return list(mini_batch)
"""
)

# What srun is asked for, workers a node: the device of each of a node's.
LAYOUTS: list[tuple[tuple[str, ...], int, list[str]]] = [
    (("--nodes=2", "--ntasks-per-node=2", "--gres=gpu:2"), 2, ["0", "1"]),
    (("--nodes=2", "--ntasks-per-node=2", "--gpus-per-task=1"), 2, ["0", "1"]),
]
# Three on a node: there Open MPI fails in MPI_Init on a machine of two cores.
OF_THREE: list[tuple[tuple[str, ...], int, list[str]]] = [
    # Rank 0 only coordinates, and is on the first node.
    (("--ntasks=5", "--distribution=arbitrary", "--nodelist=n1,n1,n1,n2,n2", "--gres=gpu:2"), 2, ["0", "1"]),
    (("--nodes=2", "--ntasks-per-node=3", "--gres=gpu:2"), 3, ["0", "1", "none"]),
]


@pytest.mark.parametrize(
    ("options", "workers", "devices"),
    [*LAYOUTS, *(pytest.param(*layout, marks=pytest.mark.mpich) for layout in OF_THREE)],
)
def test_each_has_its_device(
    cluster: Cluster, tmp_path: Path, options: tuple[str, ...], workers: int, devices: list[str]
) -> None:
    variables = {"WORKERS": 2 * workers}
    job = make_job(
        tmp_path,
        TELLS,
        items=12,
        process_count_per_node=workers,
        node_count=2,
        environment_variables=variables,
    )
    ended = srun(cluster, "run", job, options=options, mpi=right_plugin())
    assert ended.returncode == 0, support.words(ended)
    found = [line.split() for line in notes(tmp_path)]
    nodes = sorted({node for node, _, _ in found})
    assert len(nodes) == 2
    for node in nodes:
        mine = sorted((worker, device) for there, worker, device in found if there == node)
        assert mine == [(f"process{number:03d}", device) for number, device in enumerate(devices)]


def test_doctor_shows_each_rank(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--nodes=2", "--ntasks-per-node=2", "--gres=gpu:2")
    ended = srun(cluster, "doctor", "--output", tmp_path / "run", options=options, mpi=right_plugin())
    assert ended.returncode == 0, support.words(ended)
    rows = [line.split() for line in ended.stdout.splitlines() if "process00" in line]
    assert len(rows) == 4
    for number, row in enumerate(rows):
        assert row[0] == str(number)
        assert f"device {number % 2}," in " ".join(row)
    assert len({row[1] for row in rows}) == 2
    assert "all 4 ranks see it" in ended.stdout
    assert f"--mpi={right_plugin()} fits" in ended.stdout
    assert "jobs may be requeued" in ended.stdout
