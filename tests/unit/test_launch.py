"""What a launcher promises, and which of many processes speaks."""

from __future__ import annotations

import sys

import pytest

from mpibatch.launch import UNKNOWN, promised, speaks_for_all, world


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
