"""Which MPI plugins this Slurm has: asked of `srun --mpi=list`."""

from __future__ import annotations

import os
import subprocess

from mpibatch.core.mpi_kinds import listed_plugins

ANSWER_S = 10


def srun_plugins() -> list[str] | None:
    """Values that `--mpi` may have here; None where srun is not found or does not answer."""
    try:
        answer = subprocess.run(
            ["srun", "--mpi=list"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_S,
            check=False,
            env={name: value for name, value in os.environ.items() if name != "SLURM_MPI_TYPE"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return listed_plugins(f"{answer.stdout}\n{answer.stderr}") or None if answer.returncode == 0 else None
