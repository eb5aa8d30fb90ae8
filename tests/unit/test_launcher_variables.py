"""Which variables are a launcher's, and which of them are of one rank only."""

from __future__ import annotations

import pytest

from mpibatch.core.launcher_variables import PROMISES, RANKS, of_a_launcher, of_one_rank


@pytest.mark.parametrize("name", [*PROMISES, *RANKS, "HYDI_CONTROL_FD", "SLURM_STEP_ID", "MPIBATCH_STARTED"])
def test_a_processor_does_not_see_what_a_launcher_says(name: str) -> None:
    assert of_a_launcher(name) or name.startswith("MV2_")  # No MPI but MVAPICH looks at its variables.


@pytest.mark.parametrize(
    "name", ["SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "PATH"]
)
def test_a_processor_keeps_what_is_of_its_job(name: str) -> None:
    assert not of_a_launcher(name)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("PMI_RANK", True),
        ("PMI_FD", True),
        ("PMI_NO_FORK", False),
        ("PMIX_NAMESPACE", True),
        ("PMIX_MCA_gds", False),
        ("OMPI_COMM_WORLD_SIZE", True),
        ("OMPI_MCA_btl", False),
        ("PALS_RANKID", True),
        ("MPIBATCH_STARTED", True),
    ],
)
def test_a_new_job_inherits_what_people_set(name: str, is_one: bool) -> None:
    assert of_one_rank(name) is is_one
