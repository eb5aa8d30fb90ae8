"""What a launcher promises, and which of many processes speaks."""

from __future__ import annotations

import sys

import pytest

from mpibatch.launch import UNKNOWN, guard_words, promised, rank_0_speaks, speaks_for_all, world


@pytest.mark.parametrize(
    ("environment", "size"),
    [
        ({}, None),
        ({"HOME": "/root", "SLURM_NTASKS": "64", "SLURM_PROCID": "0"}, None),  # A batch shell.
        ({"SLURM_STEP_NUM_TASKS": "4"}, 4),
        ({"PMI_SIZE": "3", "PMI_RANK": "1"}, 3),
        ({"OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "0"}, 2),
        ({"PMI_SIZE": "1"}, 1),
        ({"PMI_SIZE": "1", "SLURM_STEP_NUM_TASKS": "8"}, 8),
        ({"PMIX_RANK": "3"}, UNKNOWN),
        ({"PMI_RANK": "3"}, UNKNOWN),
        ({"PALS_RANKID": "0"}, UNKNOWN),
        ({"PMI_SIZE": ""}, None),
        ({"PMI_SIZE": "many"}, None),
    ],
)
def test_promised(environment: dict[str, str], size: int | None) -> None:
    assert promised(environment) == size


@pytest.mark.parametrize("environment", [{}, {"SLURM_NTASKS": "64"}, {"PMI_SIZE": "1"}])
def test_a_world_of_one_asks_no_mpi(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # An import of it fails.

    assert world(environment) is None


@pytest.mark.parametrize(
    ("environment", "speaks"),
    [
        ({}, True),
        ({"SLURM_PROCID": "0", "PMI_RANK": "0"}, True),
        ({"SLURM_PROCID": "1"}, False),
        ({"SLURM_PROCID": "1", "PMI_RANK": "0"}, False),  # N worlds of size 1, each with a rank 0.
        ({"OMPI_COMM_WORLD_RANK": "2"}, False),
        ({"PMIX_RANK": "2"}, False),
    ],
)
def test_one_of_many_speaks(environment: dict[str, str], speaks: bool) -> None:
    assert speaks_for_all(environment) == speaks


@pytest.mark.parametrize(
    ("environment", "another"),
    [
        ({}, False),
        ({"SLURM_PROCID": "0", "PMI_RANK": "0"}, False),
        ({"SLURM_PROCID": "1"}, True),
        ({"SLURM_PROCID": "1", "PMI_RANK": "1"}, True),
        ({"SLURM_PROCID": "1", "PMI_RANK": "0"}, False),  # Nobody may have zeros only.
    ],
)
def test_who_leaves_it_to_rank_0(environment: dict[str, str], another: bool) -> None:
    assert rank_0_speaks(environment) == another


STEP = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}
ALL = ["pmix", "none", "pmi2"]


@pytest.mark.parametrize(
    ("library", "environment", "plugins", "words"),
    [
        ("MPICH 5", STEP, ALL, "Start it with srun --mpi=pmi2, which fits MPICH; this Slurm has pmix, pmi2."),
        (
            "MPICH 5",
            STEP | {"SLURM_MPI_TYPE": "pmix"},
            ALL,
            "srun --mpi=pmi2 instead of --mpi=pmix, which fits",
        ),
        ("MPICH 5", STEP | {"SLURM_MPI_TYPE": "pmi2"}, ALL, "--mpi=pmi2 would fit MPICH, so another library"),
        ("Intel(R) MPI", STEP | {"SLURM_MPI_TYPE": "pmi2"}, ALL, "I_MPI_PMI_LIBRARY does not name"),
        (
            "Open MPI v5",
            STEP,
            ["none", "pmi2"],
            "No --mpi of this Slurm fits Open MPI, which needs pmix; this Slurm",
        ),
        ("Open MPI v5", STEP, None, "Start it with srun --mpi=pmix, which fits Open MPI. Nothing"),
        (
            "HPE MPT",
            STEP,
            ALL,
            "Choose another --mpi for srun (srun --mpi=list shows them; this Slurm has pmix, pmi2)",
        ),
        ("HPE MPT", STEP, None, "Choose another --mpi for srun (srun --mpi=list shows them)"),
        (
            "Open MPI v5",
            {"PMI_SIZE": "4"},
            None,
            "Use the mpirun that belongs to this MPI. Nothing was started.",
        ),
    ],
)
def test_the_guard_names_what_fits(
    library: str, environment: dict[str, str], plugins: list[str] | None, words: str
) -> None:
    said = guard_words(4, library, environment, plugins)

    assert words in said
    assert said.startswith(f"the launcher started 4 processes, but MPI ({library}) does not see")
