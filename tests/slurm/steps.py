"""The command line as a step of a real Slurm, and as a batch job, with the MPI of this environment."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path

import support
from slurm.cluster import Cluster

from mpibatch.core.shell_lines import quoted
from mpibatch.local_world import find_mpiexec, is_open_mpi


@functools.cache
def right_plugin() -> str:
    """The `--mpi` that fits the MPI of this environment."""
    return "pmix" if is_open_mpi(find_mpiexec()) else "pmi2"


@functools.cache
def family() -> str:
    return "Open MPI" if is_open_mpi(find_mpiexec()) else "MPICH"


def srun(
    cluster: Cluster,
    *arguments: object,
    options: Sequence[str] = ("--nodes=4", "--ntasks=4"),
    mpi: str | None,
) -> subprocess.CompletedProcess[str]:
    """`srun OPTIONS mpibatch ARGUMENTS`, to its end; with `--mpi`, unless it is None."""
    return subprocess.run(
        [*srun_words(options, mpi), *support.COMMAND, *map(str, arguments)],
        env=cluster.environment(support.from_anywhere()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=support.TIMEOUT_S,
        check=False,
    )


def srun_words(options: Sequence[str], mpi: str | None) -> list[str]:
    return ["srun", *options, *([] if mpi is None else [f"--mpi={mpi}"])]


def sbatch(
    cluster: Cluster, folder: Path, *arguments: object, options: Sequence[str] = ("--nodes=4", "--ntasks=4")
) -> tuple[int, str]:
    """A batch job with `srun mpibatch ARGUMENTS`, to its end: the exit code that Slurm tells of, and its log.

    Seen by a file that the script writes at its end: `sbatch --wait` asks after 2, 10, 20, ... seconds only.
    """
    ended = folder / "ended"
    ended.unlink(missing_ok=True)
    script, log = _batch_script(folder, arguments, f"code=$?; touch {quoted(str(ended))}; exit $code")
    command = [*_sbatch_words(options, log), "--parsable", str(script)]
    job = cluster.command(*command, environment=support.from_anywhere()).strip()
    support.wait_until(ended.exists, f"the batch script of job {job} has ended", support.TIMEOUT_S)
    support.wait_until(
        lambda: cluster.job(job)["JobState"] not in ("RUNNING", "COMPLETING"), f"job {job} has ended"
    )
    return int(cluster.job(job)["ExitCode"].partition(":")[0]), log.read_text()


def sbatch_wait(
    cluster: Cluster, folder: Path, *arguments: object, options: Sequence[str] = ("--nodes=4", "--ntasks=4")
) -> tuple[int, str]:
    """The same by `sbatch --wait`, with its exit code."""
    script, log = _batch_script(folder, arguments, "")
    ended = subprocess.run(
        [*_sbatch_words(options, log), "--wait", str(script)],
        env=cluster.environment(support.from_anywhere()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=support.TIMEOUT_S,
        check=False,
    )
    return ended.returncode, log.read_text() if log.exists() else support.words(ended)


def _batch_script(folder: Path, arguments: Sequence[object], end: str) -> tuple[Path, Path]:
    script = folder / "batch.sh"
    command = [*srun_words((), right_plugin()), *support.COMMAND, *map(str, arguments)]
    script.write_text(f"#!/bin/bash\n{' '.join(map(quoted, command))}\n{end}\n")
    return script, folder / "batch.log"


def _sbatch_words(options: Sequence[str], log: Path) -> list[str]:
    return ["sbatch", *options, f"--output={log}"]
