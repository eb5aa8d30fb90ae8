"""Worlds of every size: who works, who coordinates, who stays idle, and what each process loads and sees."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import support

pytestmark = pytest.mark.mpi

HOST = socket.gethostname()
ITEMS = 12
NAMES = [f"item{number:03d}" for number in range(ITEMS)]
ECHO = """
import os

def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""


class World(NamedTuple):
    ranks: int
    per_node: int | None
    working: list[int]
    """Ranks that supervise a processor, in order."""
    warning: str = ""


WORLDS = [
    World(1, 2, [0], "The job asks for 2 workers .* allow for 1"),
    World(1, 1, [0]),
    World(1, None, [0]),
    World(2, 2, [0, 1]),
    World(2, 1, [1]),
    World(2, None, [0, 1]),
    World(3, 2, [1, 2]),
    World(3, 1, [1], "3 ranks, more than this job has a use for: rank 2 stays idle"),
    World(3, None, [0, 1, 2]),
    World(4, 2, [1, 2], "rank 3 stays idle"),
    World(4, 1, [1], r"2 ranks \(2, 3\) stay idle"),
    World(4, None, [0, 1, 2, 3]),
]


@pytest.mark.parametrize(
    "world", WORLDS, ids=[f"n{world.ranks}-per_node_{world.per_node}" for world in WORLDS]
)
def test_who_works(world: World, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"process_count_per_node": world.per_node} if world.per_node else {}
    job = support.make_job(tmp_path, ECHO, items=ITEMS, **keys)

    ended = support.mpibatch("run", job, ranks=world.ranks)

    assert ended.returncode == 0, support.words(ended)
    output = tmp_path / "output"
    assert support.rows(output) == NAMES
    assert working_ranks(output) == world.working
    assert processors(output) == [f"process{number:03d}" for number in range(len(world.working))]
    warnings = [line for line in ended.stderr.splitlines() if line.startswith("warning")]
    assert len(warnings) == bool(world.warning), support.words(ended)
    assert re.search(world.warning, "".join(warnings)), support.words(ended)


def test_alone_it_starts_a_world_of_as_many_workers(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, ECHO, items=ITEMS, process_count_per_node=2)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    output = tmp_path / "output"
    assert support.rows(output) == NAMES
    assert working_ranks(output) == [0, 1]
    assert processors(output) == ["process000", "process001"]


def test_other_nodes_need_a_launcher(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, ECHO, node_count=2, process_count_per_node=3)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 2, support.words(ended)
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert "node_count: 2" in line and "mpirun -n 6 mpibatch run job.yaml" in line
    assert not (tmp_path / "output").exists()


def working_ranks(output: Path) -> list[int]:
    """By their logs."""
    return sorted(int(file.stem) for file in (output / "logs" / "sys" / "node" / HOST).iterdir())


def processors(output: Path) -> list[str]:
    """By their logs."""
    folder = output / "logs" / "user" / "stdout" / HOST
    return sorted(file.name.removesuffix(".stdout.txt") for file in folder.iterdir())


# The guard


def test_n_worlds_of_size_1_are_refused(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, ECHO)

    ended = support.mpibatch("run", job, env=support.environment(SLURM_STEP_NUM_TASKS="4"))

    assert ended.returncode == 2, support.words(ended)
    told = ended.stdout + ended.stderr
    assert len([line for line in told.splitlines() if line]) == 1, told
    assert "started 4 processes" in told and "--mpi" in told
    assert not (tmp_path / "output").exists()


def test_of_n_worlds_of_size_1_one_speaks(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, ECHO)
    tasks = [
        support.start("run", job, env=support.environment(SLURM_STEP_NUM_TASKS="2", SLURM_PROCID=str(number)))
        for number in range(2)
    ]

    told = [task.communicate(timeout=support.TIMEOUT_S) for task in tasks]

    # Not by the others, as a launcher that kills on a bad exit could kill the one that speaks.
    assert [task.returncode for task in tasks] == [2, 0], told
    assert ["started 2 processes" in err for _, err in told] == [True, False]
    assert told[1] == ("", "")
    assert not (tmp_path / "output").exists()


# What is loaded


WAITS = (
    support.NOTE
    + """
def run(mini_batch):
    note(str(os.getpid()))
    gate()
    return mini_batch
"""
)


def loaded(pid: int) -> set[str]:
    """Which of the heavy libraries a live process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    heavy = ("libmpi", "mpi4py", "numpy", "pandas", "pyarrow", "msgspec")
    return {name for name in heavy if f"/{name}" in maps}


def test_a_worker_rank_loads_mpi_and_no_tables(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, WAITS, process_count_per_node=2)
    process = support.start("run", job, ranks=3)
    support.wait_until(lambda: len(support.notes(tmp_path)) == 2, "two processors are in run()")
    ranks = support.ranks_with(str(tmp_path))

    by_rank = {rank: loaded(pid) for rank, pid in ranks.items()}
    by_processor = [loaded(int(pid)) for pid in support.notes(tmp_path)]
    support.open_gate(tmp_path)
    out, err = process.communicate(timeout=support.TIMEOUT_S)

    assert process.returncode == 0, out + err
    assert sorted(by_rank) == [0, 1, 2]
    assert by_rank[0] >= {"libmpi", "mpi4py", "msgspec"}
    assert by_rank[1] == by_rank[2] == {"libmpi", "mpi4py", "msgspec"}
    assert by_processor == [{"msgspec"}] * 2


def test_a_world_of_one_loads_no_mpi(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, WAITS)
    process = support.start("run", job)
    support.wait_until(lambda: bool(support.notes(tmp_path)), "the processor is in run()")

    of_rank, of_processor = loaded(process.pid), loaded(int(support.notes(tmp_path)[0]))
    support.open_gate(tmp_path)
    out, err = process.communicate(timeout=support.TIMEOUT_S)

    assert process.returncode == 0, out + err
    assert "msgspec" in of_rank and not of_rank & {"libmpi", "mpi4py"}
    assert of_processor == {"msgspec"}


# What a processor sees


SEES = """
import json, os

def run(mini_batch):
    return [json.dumps(dict(os.environ))]
"""
HARMLESS = {
    *("AZUREML_BI_OUTPUT_PATH", "LD_LIBRARY_PATH", "GFORTRAN_UNBUFFERED_PRECONNECTED", "LC_CTYPE", "_"),
    *("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"),  # Of the binding.
}


@pytest.mark.parametrize("ranks", [None, 3], ids=["local", "mpiexec"])
def test_a_processor_sees_nothing_of_the_launcher(ranks: int | None, tmp_path: Path) -> None:
    seen = environment_seen(tmp_path, ranks)

    assert {name for name in seen if name not in os.environ} <= HARMLESS


def test_environment_keep_gives_some_back(tmp_path: Path) -> None:
    keep = ["PMI_RANK", "PMI_SI*", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SI*"]

    seen = environment_seen(tmp_path, 2, environment_keep=keep)

    added = {name for name in seen if name not in os.environ} - HARMLESS
    assert added in ({"PMI_RANK", "PMI_SIZE"}, {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"})


def environment_seen(folder: Path, ranks: int | None, **keys: Any) -> dict[str, str]:
    job = support.make_job(folder, SEES, items=1, process_count_per_node=2, **keys)
    ended = support.mpibatch("run", job, ranks=ranks)
    assert ended.returncode == 0, support.words(ended)
    (row,) = support.rows(folder / "output")
    seen: dict[str, str] = json.loads(row)
    return seen


def test_a_script_may_have_a_world_of_its_own(tmp_path: Path) -> None:
    script = """
    from mpi4py import MPI

    def run(mini_batch):
        return [f"{MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size}"] * len(mini_batch)
    """
    job = support.make_job(tmp_path, script, items=2, process_count_per_node=2)

    ended = support.mpibatch("run", job, ranks=2)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == ["0 of 1", "0 of 1"]
