"""core.binding and runtime.devices: which devices and CPUs workers get, by what their ranks see."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpibatch.core.binding import (
    Binding,
    Bindings,
    Gpus,
    Seat,
    View,
    bind,
    given_per_task,
    read_devices,
    read_gpus,
)
from mpibatch.core.cpu_lists import cores_of, cores_text, cpu_list, read_cpu_list
from mpibatch.core.settings import Wrong
from mpibatch.runtime.devices import found_devices, view


def sees(**more: str) -> View:
    """The view of a rank with such variables; `cores` is none of them."""
    cores = more.pop("cores", "")
    return View(devices=read_devices(more), devices_per_task=given_per_task(more), cores=cores)


def bound(
    *views: View, gpus: Gpus | None = None, cpus: bool = True, variables: Mapping[str, str] | None = None
) -> Bindings:
    """Of workers on one node."""
    seats = [Seat(number, 0, "a", one) for number, one in enumerate(views)]
    return bind(seats, gpus=gpus, cpus=cpus, variables=variables or {})


def cuda(*values: str, **options: Any) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES that workers get, by that of their ranks; None: what it is."""
    found = bound(*(sees(CUDA_VISIBLE_DEVICES=value) for value in values), **options)
    return [found.of[number].variables.get("CUDA_VISIBLE_DEVICES") for number in range(len(values))]


DEVICES: list[tuple[list[str], Any, list[str | None]]] = [
    # Each rank's variable, gpus: what the processors get.
    (["0,1"] * 2, None, ["0", "1"]),
    (["2,5,7"] * 2, None, ["2", "5"]),
    (["GPU-8f,GPU-2c"] * 2, None, ["GPU-8f", "GPU-2c"]),
    (["MIG-a/1/0, MIG-a/2/0"] * 2, None, ["MIG-a/1/0", "MIG-a/2/0"]),
    # Alone: it keeps them, unless the job says how many it gets.
    (["0,1"], None, [None]),
    (["0,1"], "share", [None]),
    (["0,1"], 1, ["0"]),
    # Given by the launcher.
    (["0", "1"], None, [None, None]),
    (["0,1", "2,3"], None, [None, None]),
    (["0,1", "0,1", "2,3", "2,3"], None, ["0", "1", "2", "3"]),
    (["0", "0", "1", "1"], None, ["0", "0", "1", "1"]),
    # Too few.
    (["0,1"] * 3, None, ["0", "1", ""]),
    (["0,1"] * 3, "share", ["0", "1", "0"]),
    (["0,1"] * 3, "none", [None, None, None]),
    (["0,1,2,3"] * 2, 2, ["0,1", "2,3"]),
    (["0,1,2"] * 2, 2, ["0,1", ""]),
    # None at all.
    ([""] * 2, None, [None, None]),
    (["-1"] * 2, None, [None, None]),
    (["NoDevFiles"] * 2, "share", [None, None]),
    (["0,-1,1"] * 2, None, ["0", ""]),
]


@pytest.mark.parametrize(("values", "gpus", "want"), DEVICES)
def test_devices_are_divided(values: list[str], gpus: Any, want: list[str | None]) -> None:
    assert cuda(*values, gpus=gpus) == want


def test_who_goes_without_is_told_once_with_what_to_do() -> None:
    (warning,) = bound(*[sees(CUDA_VISIBLE_DEVICES="0,1")] * 5).warnings
    assert "a has 5 workers and 2 devices: 3 workers go without" in warning
    assert "gpus: share" in warning
    assert bound(*[sees(CUDA_VISIBLE_DEVICES="0,1")] * 5, gpus="share").warnings == []
    assert bound(*[sees()] * 5).warnings == []


def test_what_the_job_sets_itself_wins() -> None:
    two = [sees(CUDA_VISIBLE_DEVICES="0,1")] * 2
    found = bound(*two, variables={"CUDA_VISIBLE_DEVICES": "1"})
    assert [one.variables for one in found.of.values()] == [{}, {}]


def test_ranks_that_the_launcher_has_given_their_own_under_one_name_keep_them() -> None:
    one = sees(CUDA_VISIBLE_DEVICES="0", SLURM_GPUS_PER_TASK="a100:1")
    assert [b.variables for b in bound(one, one).of.values()] == [{}, {}]
    # It says so, but all see all.
    two = sees(CUDA_VISIBLE_DEVICES="0,1", SLURM_GPUS_PER_TASK="1")
    assert [b.devices for b in bound(two, two).of.values()] == [["0"], ["1"]]


OTHER_VARIABLES = [
    ({"ROCR_VISIBLE_DEVICES": "4,6"}, {"ROCR_VISIBLE_DEVICES": "6"}),
    ({"ZE_AFFINITY_MASK": "0.0,0.1"}, {"ZE_AFFINITY_MASK": "0.1"}),
    ({"HIP_VISIBLE_DEVICES": "4,6"}, {"HIP_VISIBLE_DEVICES": "6"}),
    # Those of HIP are counted among what ROCR leaves.
    (
        {"ROCR_VISIBLE_DEVICES": "4,5,6", "HIP_VISIBLE_DEVICES": "0,2"},
        {"ROCR_VISIBLE_DEVICES": "6", "HIP_VISIBLE_DEVICES": "0"},
    ),
    (
        {"ROCR_VISIBLE_DEVICES": "0,1", "GPU_DEVICE_ORDINAL": "0,1", "CUDA_VISIBLE_DEVICES": "0,1"},
        {"ROCR_VISIBLE_DEVICES": "1", "GPU_DEVICE_ORDINAL": "0", "CUDA_VISIBLE_DEVICES": "1"},
    ),
]


@pytest.mark.parametrize(("given", "want"), OTHER_VARIABLES)
def test_the_second_worker_s_variables(given: dict[str, str], want: dict[str, str]) -> None:
    assert bound(*[sees(**given)] * 2).of[1].variables == want


def test_nodes_are_counted_each_by_itself() -> None:
    both = sees(CUDA_VISIBLE_DEVICES="0,1")
    seats = [Seat(number, number // 2, "ab"[number // 2], both) for number in range(4)]
    found = bind(seats, gpus=None, cpus=True, variables={})
    assert [found.of[number].devices for number in range(4)] == [["0"], ["1"], ["0"], ["1"]]


# CPUs


FOUR = "0,4 1,5 2,6 3,7"
CPUS: list[tuple[list[str], list[tuple[list[int], int | None]]]] = [
    # Cores of each rank: (CPUs bound to, threads) of each worker.
    ([FOUR], [([], None)]),
    ([FOUR] * 2, [([0, 4, 1, 5], 4), ([2, 6, 3, 7], 4)]),
    ([FOUR] * 3, [([0, 4], 2), ([1, 5], 2), ([2, 6, 3, 7], 4)]),
    (["0 1 2 3"] * 2, [([0, 1], 2), ([2, 3], 2)]),
    # One CPU each would be too tight; more workers than cores.
    (["0 1"] * 2, [([], 1)] * 2),
    (["0 1 2"] * 2, [([], 1)] * 2),
    (["0 1"] * 5, [([], 1)] * 5),
    # Bound by the launcher: each to its own, or some to the half of a machine.
    (["0", "1"], [([], 1)] * 2),
    (["0 1", "2 3"], [([], 2)] * 2),
    (["0 1 2 3"] * 2 + ["4 5 6 7"] * 2, [([0, 1], 2), ([2, 3], 2), ([4, 5], 2), ([6, 7], 2)]),
    ([""] * 2, [([], None)] * 2),
]


@pytest.mark.parametrize(("cores", "want"), CPUS)
def test_cpus_are_divided(cores: list[str], want: list[tuple[list[int], int | None]]) -> None:
    found = bound(*(sees(cores=one) for one in cores))
    assert [(found.of[n].cpus, found.of[n].threads) for n in range(len(cores))] == want
    off = bound(*(sees(cores=one) for one in cores), cpus=False)
    assert all((one.cpus, one.threads) == ([], None) for one in off.of.values())


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 40))
def test_sets_of_cpus_are_disjoint_and_nearly_alike(cores: int, threads: int, workers: int) -> None:
    text = " ".join(
        ",".join(str(core + cores * thread) for thread in range(threads)) for core in range(cores)
    )
    found = [one for _, one in sorted(bound(*[sees(cores=text)] * workers).of.items())]
    taken = [cpu for one in found for cpu in one.cpus]
    assert len(taken) == len(set(taken))
    assert len(taken) in (0, cores * threads)
    sizes = {len(one.cpus) for one in found}
    assert max(sizes) - min(sizes) <= threads
    assert 1 not in sizes


def test_words_and_defaults() -> None:
    one = bound(*[sees(CUDA_VISIBLE_DEVICES="0,1", cores=FOUR)] * 2).of[1]
    assert one.words() == "device 1, CPUs 2-3,6-7 (bound), 4 threads"
    assert one.defaults == {"OMP_NUM_THREADS": "4", "TF_NUM_INTRAOP_THREADS": "4"}
    assert Binding().words() == ""
    assert Binding(devices=[], threads=1).words() == "no device, 1 thread"
    assert Binding(devices=["0", "1"], usable="3").words() == "devices 0, 1, CPUs 3"
    assert Binding().defaults == {}


@pytest.mark.parametrize(
    ("value", "want"), [(1, 1), (8, 8), (0, "none"), (False, "none"), ("share", "share")]
)
def test_the_key_gpus(value: Any, want: Gpus) -> None:
    assert read_gpus(value) == want


@pytest.mark.parametrize("value", [True, -1, 1.5, "2", "all", [0], None])
def test_what_the_key_gpus_refuses(value: Any) -> None:
    with pytest.raises(Wrong):
        read_gpus(value)


# What ranks see


def test_lists_of_cpus() -> None:
    assert cpu_list([7, 0, 1, 2, 5]) == "0-2,5,7"
    assert read_cpu_list("0-2,5,7\n") == [0, 1, 2, 5, 7]
    assert (cpu_list([]), read_cpu_list(""), read_cpu_list("x-2,")) == ("", [], [])


def test_cores_stand_together_with_those_of_their_memory_node() -> None:
    siblings = {cpu: [cpu % 4, cpu % 4 + 4] for cpu in range(8)}
    assert cores_text(range(8), siblings, [[0, 2, 4, 6], [1, 3, 5, 7]]) == "0,4 2,6 1,5 3,7"
    assert cores_text([1, 2, 5], siblings, []) == "1,5 2"
    assert cores_of("1,5 2") == [[1, 5], [2]]
    assert cores_text([0, 1], {}, []) == "0 1"


def test_a_rank_sees_the_cpus_that_it_may_use() -> None:
    usable = os.sched_getaffinity(0)
    assert {cpu for core in cores_of(view({}).cores) for cpu in core} == usable


def test_devices_are_found_where_no_variable_says(tmp_path: Path) -> None:
    dev, sys = tmp_path / "dev", tmp_path / "sys"
    dev.mkdir()
    assert found_devices(dev, sys) == []
    nodes = sys / "class/kfd/kfd/topology/nodes"
    for number, gpu in enumerate(("0", "4711", "4712")):
        (nodes / str(number)).mkdir(parents=True)
        (nodes / str(number) / "gpu_id").write_text(f"{gpu}\n")
    (amd,) = found_devices(dev, sys)
    assert (amd.variable, amd.names) == ("ROCR_VISIBLE_DEVICES", ["0", "1"])
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (dev / name).touch()
    (nvidia,) = found_devices(dev, sys)
    assert (nvidia.variable, nvidia.names) == ("CUDA_VISIBLE_DEVICES", ["0", "1"])
    assert view({}, dev=dev, sys=sys).seen == ("0", "1")
    # A variable that says none is believed.
    assert view({"CUDA_VISIBLE_DEVICES": ""}, dev=dev, sys=sys).seen == ()
