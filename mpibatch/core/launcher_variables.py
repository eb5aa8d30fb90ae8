"""Variables in which launchers (mpiexec, srun, palsrun) tell the processes they start who they are. Pure."""

from __future__ import annotations

import re

PROMISES = ("SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PALS_SIZE", "MV2_COMM_WORLD_SIZE")
"""How many ranks there are to be. Not SLURM_NTASKS, which batch shells have too."""
RANKS = (
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PALS_RANKID",
    "MV2_COMM_WORLD_RANK",
    "SLURM_PROCID",
)
"""Which rank this is."""
RANKS_ONLY = ("PMIX_RANK", "PMI_RANK", "PALS_RANKID")
"""Those that some launchers set without saying how many ranks there are."""

_PREFIXES = (
    "PMI_", "PMIX_", "OMPI_", "PRTE_", "HYDI_", "HYDRA_", "MPIR_", "I_MPI_", "PALS_", "MPI_LOCAL", "OPAL_",
    "SLURM_STEP", "SLURM_TASK", "SLURM_SRUN_", "SLURM_LAUNCH_", "MPIBATCH_",
)  # fmt: skip
_NAMES = frozenset(
    (
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_NODEID",
        "SLURM_GTIDS",
        "SLURM_MPI_TYPE",
        "SLURM_PMIX_MAPPING_SERV",
    )
)
_OF_A_RANK = re.compile(
    r"MPIBATCH_|PMI_(FD|ID|JOBID|PORT|RANK|SIZE|SPAWNED)$|PMIX_(?!MCA_)|PALS_|OMPI_COMM_WORLD_|MV2_COMM_WORLD_"
)


def of_a_launcher(name: str) -> bool:
    """Whether a child that might import MPI must not see this variable (FACTS, MPI)."""
    return name.startswith(_PREFIXES) or name in _NAMES


def of_one_rank(name: str) -> bool:
    """Whether it is of one process that a launcher has started, as an interactive shell in a job is: MPI in a new job
    would look for that launcher. What people set (PMI_NO_FORK, PMIX_MCA_...) is not among them."""
    return _OF_A_RANK.match(name) is not None
