"""What processors of a real world get: each its device and its CPUs, also those that replace one that has died."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import pytest
import support

pytestmark = pytest.mark.mpi

TELLS = (
    support.NOTE
    + """
NAMES = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")

def init():
    worker = os.path.basename(os.getcwd())
    note(repr((worker, [os.environ.get(name) for name in NAMES], sorted(os.sched_getaffinity(0)))))
    with open(os.path.join(FOLDER, "at_work"), "a") as file:
        file.write(worker + "\\n")
    wait_for(int(os.environ["WORKERS"]))

def wait_for(processors):
    while len(open(os.path.join(FOLDER, "at_work")).readlines()) < processors:
        time.sleep(0.005)

def run(mini_batch):
    if os.environ.get("DIES"):
        if first("died"):
            os._exit(7)
        wait_for(int(os.environ["WORKERS"]) + 1)
    return list(mini_batch)

def first(what):
    try:
        os.close(os.open(os.path.join(FOLDER, what), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
"""
)


def told(folder: Path, workers: int, **job: Any) -> dict[str, tuple[list[str | None], list[int]]]:
    """What each processor has found, by its name and its number: process000-0."""
    environment = {"WORKERS": workers, **job.pop("environment_variables", {})}
    file = support.make_job(
        folder, TELLS, process_count_per_node=workers, environment_variables=environment, **job
    )
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    }
    ended = support.mpibatch("run", file, env={**clean, "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"})
    assert ended.returncode == 0, support.words(ended)
    (folder / "stderr").write_text(ended.stderr)
    found = [ast.literal_eval(line) for line in support.notes(folder)]
    return {worker: (variables, cpus) for worker, variables, cpus in found}


def test_each_has_its_device_and_the_last_one_none(tmp_path: Path) -> None:
    found = told(tmp_path, 3)
    assert {worker: variables[0] for worker, (variables, _) in found.items()} == {
        "process000-0": "GPU-a", "process001-0": "GPU-b", "process002-0": "",
    }  # fmt: skip
    assert "3 workers and 2 devices: 1 worker goes without" in (tmp_path / "stderr").read_text()
    logs = tmp_path / "output" / "logs" / "sys"
    assert "is given: device GPU-b" in (logs / "coordinator.txt").read_text()
    (one,) = logs.glob("node/*/1.txt")
    assert re.search(r"process001 started, pid \d+, with device GPU-b, ", one.read_text())


def test_who_replaces_a_processor_gets_its_device(tmp_path: Path) -> None:
    found = told(tmp_path, 2, environment_variables={"DIES": 1})
    (second,) = [worker for worker in found if worker.endswith("-1")]
    assert found[second] == found[second.replace("-1", "-0")]
    assert {variables[0] for variables, _ in found.values()} == {"GPU-a", "GPU-b"}


def test_threads_are_limited_by_the_cpus_of_each(tmp_path: Path) -> None:
    cpus = os.sched_getaffinity(0)
    found = told(tmp_path, 2)
    for variables, affinity in found.values():
        threads = int(variables[1] or 0)
        assert variables[1] == variables[2]
        assert threads == (len(affinity) if set(affinity) < cpus else max(1, len(cpus) // 2))
    sets = [set(affinity) for _, affinity in found.values()]
    assert sets[0].isdisjoint(sets[1]) or sets == [cpus, cpus]


def test_the_job_has_the_last_word(tmp_path: Path) -> None:
    mine = {"OMP_NUM_THREADS": 5, "CUDA_VISIBLE_DEVICES": "GPU-b"}
    found = told(tmp_path, 2, environment_variables=mine)
    assert all(variables[:2] == ["GPU-b", "5"] for variables, _ in found.values())


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    found = told(tmp_path, 2, gpus="none", cpus="none")
    cpus = sorted(os.sched_getaffinity(0))
    assert list(found.values()) == [(["GPU-a,GPU-b", None, None], cpus)] * 2
