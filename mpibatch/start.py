"""`mpibatch run`: decides whether this process starts a world, is a rank of one, or does all by itself."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpibatch.errors import LaunchError, tell
from mpibatch.launch import TTY, promised, speaks_for_all, world
from mpibatch.runtime.stops import EXIT_CODE_FILE, tell_parent

if TYPE_CHECKING:
    from mpi4py import MPI

    from mpibatch.core.config import Job
    from mpibatch.runtime.transport import Port


def start(path: str, *, sets: Sequence[str], output: str | None, fresh: bool, started_at: float) -> int:
    """Run the job file at `path`, in whatever role this process has; its exit code."""
    if promised(os.environ) is None:
        job = _load(path, sets, output)
        processes = _local_processes(job)
        if processes > 1:
            from mpibatch.local_world import run_world

            return run_world(sys.argv[1:], processes, started_at)
        return _rank(None, path, sets, output, fresh, started_at)
    try:
        comm = world(os.environ)
    except LaunchError as error:
        if speaks_for_all(os.environ):
            tell(error)
        return 0 if tell_parent(EXIT_CODE_FILE, str(error.exit_code)) else error.exit_code
    return _rank(comm, path, sets, output, fresh, started_at)


def _load(path: str, sets: Sequence[str], output: str | None) -> Job:
    from mpibatch.runtime.jobfile import load_job

    return load_job(path, sets=sets, output=output)


def _local_processes(job: Job) -> int:
    if (job.node_count or 1) > 1:
        raise LaunchError(
            f"node_count: {job.node_count} needs a launcher that reaches other machines: start it with"
            f" srun or mpirun (mpirun -n {(job.node_count or 1) * (job.process_count_per_node or 1)} mpibatch run"
            f" {os.path.basename(job.job_file)}), or set node_count: 1 to run here."
        )
    return job.process_count_per_node or 1


def _rank(
    comm: MPI.Intracomm | None,
    path: str,
    sets: Sequence[str],
    output: str | None,
    fresh: bool,
    started_at: float,
) -> int:
    from mpibatch.rank import be_coordinator, be_worker, coordinate, gather_places

    places = gather_places(comm)
    if comm is not None and comm.Get_rank() != 0:
        return be_worker(comm, places)

    def work(port: Port | None) -> tuple[int, bool]:
        from mpibatch.monitor.progress import make_progress

        job = _load(path, sets, output)
        progress = make_progress(sys.stderr, os.environ.get(TTY), job.name, time.monotonic)
        return coordinate(
            job, places=places, port=port, fresh=fresh, progress=progress, started_at=started_at
        )

    return be_coordinator(comm, places, work)
