"""`mpibatch run`: decides whether this process starts a world, is a rank of one, or does all by itself."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from mpibatch.core.pipeline import Pipeline, as_one_job
from mpibatch.errors import LaunchError, tell
from mpibatch.launch import FIRST_STARTED, TTY, end_before_world, promised, speaks_for_all, world
from mpibatch.runtime.local_folder import EXIT_CODE_FILE, tell_batch_code, tell_parent

if TYPE_CHECKING:
    from mpi4py import MPI

    from mpibatch.core.config import Job
    from mpibatch.monitor.progress import Progress
    from mpibatch.runtime.transport import Port


def start(
    path: str,
    *,
    sets: Sequence[str],
    output: str | None,
    fresh: bool,
    only_failed: bool = False,
    share: str | None = None,
    started_at: float,
) -> int:
    """Run the job file at `path`, in whatever role this process has; its exit code."""
    asked = _Asked(path, sets, output, fresh, only_failed, share)
    if promised(os.environ) is None:
        asked, loaded, added = _here(asked)
        of_steps = [step.job.output for step in loaded.steps] if isinstance(loaded, Pipeline) else []
        job = _as_one(loaded)
        processes = _local_processes(job)
        if processes > 1:
            from mpibatch.core.shares import find_element
            from mpibatch.restarts import Restarts, run_world
            from mpibatch.runtime.array_folder import run_folder_of

            element = None if of_steps else find_element(os.environ, asked.share, job.array)
            restarts = Restarts(
                most=job.max_restarts,
                patience_s=job.heartbeat_timeout,
                run_folder=str(run_folder_of(job, element).root),
                of_steps=of_steps,
            )
            return run_world([*sys.argv[1:], *added], processes, started_at, restarts)
        return _rank(None, asked, started_at)
    try:
        comm = world(os.environ)
    except LaunchError as error:
        speaks = speaks_for_all(os.environ)
        if speaks:
            tell(error)
        tell_batch_code(error.exit_code)
        if tell_parent(EXIT_CODE_FILE, str(error.exit_code)):
            return 0
        return error.exit_code if speaks else end_before_world(error)
    return _rank(comm, asked, started_at)


class _Asked(NamedTuple):
    """What the command line asks for."""

    path: str
    sets: Sequence[str]
    output: str | None
    fresh: bool
    only_failed: bool
    share: str | None

    def load(self) -> Job | Pipeline:
        from mpibatch.runtime.pipeline_file import load_any, refuse_options

        loaded = load_any(self.path, sets=self.sets, output=self.output)
        if isinstance(loaded, Pipeline):
            refuse_options(loaded, only_failed=self.only_failed, share=self.share)
        return loaded


def _as_one(loaded: Job | Pipeline) -> Job:
    return as_one_job(loaded) if isinstance(loaded, Pipeline) else loaded


def _here(asked: _Asked) -> tuple[_Asked, Job | Pipeline, list[str]]:
    """What is asked, what it loads, and what the ranks are told besides: a file of Azure ML is for a cluster that
    starts machines by itself, and how many it names is no reason not to run it on this one."""
    from mpibatch.core.azure_keys import form_of
    from mpibatch.runtime.jobfile import read_mapping

    loaded = asked.load()
    job = _as_one(loaded)
    if (job.node_count or 1) == 1 or form_of(
        read_mapping(job.job_file), os.path.basename(job.job_file)
    ) is None:
        return asked, loaded, []
    click.echo(
        f"warning: resources.instance_count is {job.node_count}, and without srun or mpirun there is this machine"
        f" only: runs here, in {job.process_count_per_node or 1} processes",
        err=True,
    )
    here = "node_count=1"
    asked = asked._replace(sets=[*asked.sets, here])
    return asked, asked.load(), ["--set", here]


def _local_processes(job: Job) -> int:
    if (job.node_count or 1) > 1:
        raise LaunchError(
            f"node_count: {job.node_count} needs a launcher that reaches other machines: start it with"
            f" srun or mpirun (mpirun -n {(job.node_count or 1) * (job.process_count_per_node or 1)} mpibatch run"
            f" {os.path.basename(job.job_file)}), or run it here with --set node_count=1."
        )
    return job.process_count_per_node or 1


def _rank(comm: MPI.Intracomm | None, asked: _Asked, started_at: float) -> int:
    from mpibatch.rank import be_coordinator, coordinate, gather_places
    from mpibatch.worker_rank import be_worker

    places = gather_places(comm)
    if comm is not None and comm.Get_rank() != 0:
        return be_worker(comm, places)

    def work(port: Port | None) -> tuple[int, bool]:
        from mpibatch.core.shares import find_element

        job = asked.load()
        if isinstance(job, Pipeline):
            from mpibatch.pipeline_rank import coordinate_pipeline

            return coordinate_pipeline(
                job,
                places=places,
                port=port,
                fresh=asked.fresh,
                progress_of=_progress_of,
                started_at=started_at,
                first_started_at=float(os.environ.get(FIRST_STARTED, started_at)),
            )
        return coordinate(
            job,
            places=places,
            port=port,
            fresh=asked.fresh,
            only_failed=asked.only_failed,
            element=find_element(os.environ, asked.share, job.array),
            progress=_progress_of(job.name),
            started_at=started_at,
            first_started_at=float(os.environ.get(FIRST_STARTED, started_at)),
        )

    return be_coordinator(comm, places, work)


def _progress_of(name: str) -> Progress:
    from mpibatch.monitor.progress import make_progress

    return make_progress(sys.stderr, os.environ.get(TTY), name, time.monotonic)
