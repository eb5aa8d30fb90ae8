"""`mpibatch doctor`: what is here, what workers would get, and what is wrong, in words. It changes nothing.

Under a launcher all ranks take part: then it also shows what each rank gets, and whether all see the run folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpibatch.core.binding import Gpus
from mpibatch.core.findings import Finding, as_json, as_text, exit_code, fine, table, warning, wrong
from mpibatch.core.ranks import Place, Roles, assign, bound
from mpibatch.errors import LaunchError, MpibatchError
from mpibatch.launch import end_before_world, promised, speaks_for_all, world
from mpibatch.local_world import find_mpiexec, is_open_mpi
from mpibatch.monitor.mpi_check import load_mpi, mpi_findings
from mpibatch.monitor.node_check import binding_findings, node_findings
from mpibatch.monitor.storage_check import AREA, check_run_folder, excluded, existing, scratch_in
from mpibatch.rank import gather_places
from mpibatch.runtime.devices import view
from mpibatch.slurm.slurm_check import slurm_findings
from mpibatch.slurm.srun_plugins import srun_plugins

if TYPE_CHECKING:
    from mpi4py import MPI

    from mpibatch.core.config import Job


def doctor(
    job_file: str | None, *, sets: Sequence[str], output: str | None, processes: int | None, json: bool
) -> tuple[str, int]:
    """What to print, and the exit code: 0, or 2 where something is wrong. Nothing is printed by ranks but 0."""
    findings: list[Finding] = []
    comm = None
    if promised(os.environ) is not None:
        try:
            comm = world(os.environ)
        except LaunchError as error:
            if not speaks_for_all(os.environ):
                return "", end_before_world(error)
            findings.append(Finding("launcher", "wrong", str(error)))
    places = gather_places(comm)
    job, refused = _load(job_file, sets, output)
    folder = job.output if job is not None else output
    across = _across(comm, None if folder is None else Path(folder))
    if comm is not None and comm.Get_rank() != 0:
        comm.Barrier()
        return "", 0
    findings += [*refused, *_ranks(places, job, processes), *across]
    if folder is not None:
        nodes = job.node_count if job is not None else None
        several = (nodes or 1) > 1 or len({place.node for place in places}) > 1
        findings += check_run_folder(Path(folder), several_nodes=several and not across)
    findings += [*_mpi(), *slurm_findings(), *node_findings(view())]
    if comm is not None:
        comm.Barrier()  # The others are still there, so that the launcher does not end us.
    return (as_json if json else as_text)(findings), exit_code(findings)


def _load(job_file: str | None, sets: Sequence[str], output: str | None) -> tuple[Job | None, list[Finding]]:
    from mpibatch.core.pipeline import Pipeline, as_one_job
    from mpibatch.runtime.pipeline_file import load_any

    if job_file is None:
        return None, []
    try:
        loaded = load_any(job_file, sets=sets, output=output)
        return (as_one_job(loaded) if isinstance(loaded, Pipeline) else loaded), []
    except MpibatchError as error:
        return None, [Finding("job", "wrong", str(error))]


def _mpi() -> list[Finding]:
    try:
        launcher: str | None = find_mpiexec()
    except LaunchError:
        launcher = None
    return mpi_findings(
        load_mpi(),
        launcher=launcher,
        launcher_is_open_mpi=launcher is not None and is_open_mpi(launcher),
        plugins=srun_plugins(),
    )


# Ranks


def _ranks(places: Sequence[Place], job: Job | None, processes: int | None) -> list[Finding]:
    """The binding: of the ranks that are here, else of the workers that would be."""
    gpus: Gpus | None = job.gpus if job is not None else None
    cpus = job is None or job.cpus == "bind"
    variables = job.environment_variables if job is not None else {}
    per_node = processes or (job.process_count_per_node if job is not None else None)
    if len(places) == 1:
        host = socket.gethostname()
        return binding_findings(
            places[0].view, per_node or 1, host, gpus=gpus, cpus=cpus, variables=variables
        )
    roles = assign(places, per_node, job.node_count if job is not None else None)
    roles = bound(roles, places, gpus=gpus, cpus=cpus, variables=variables)
    return [
        *(warning("ranks", one) for one in roles.warnings),
        fine("ranks", rank_table(places, roles)),
    ]


def rank_table(places: Sequence[Place], roles: Roles) -> str:
    """A line a rank: what it does, and what its processor gets."""
    workers = {worker.rank: worker for worker in roles.workers}
    rows = []
    for place in places:
        worker = workers.get(place.rank)
        node = str(sorted({one.node for one in places}).index(place.node))
        if worker is None:
            role = "coordinates" if place.rank == 0 else "idle"
            rows.append([str(place.rank), place.host, node, role, ""])
            continue
        role = f"process{worker.local_index:03d}" + (", coordinates" if place.rank == 0 else "")
        rows.append([str(place.rank), place.host, node, role, worker.binding.words() or "as it is"])
    return table(["rank", "host", "node", "does", "gets"], rows)


def _across(comm: MPI.Comm | None, folder: Path | None) -> list[Finding]:
    """Whether all ranks see what rank 0 writes to the run folder, and its lock. Called by all ranks."""
    if comm is None:
        return []
    with contextlib.ExitStack() as stack:
        path = _locked(folder, stack) if comm.Get_rank() == 0 and folder is not None else None
        path = comm.bcast(path, root=0)
        if path is None:
            return []
        told = comm.gather((socket.gethostname(), path.exists(), excluded(path)), root=0)
    if told is None:
        return []
    blind = sorted({f"{host} (rank {rank})" for rank, (host, sees, _) in enumerate(told) if not sees})
    if blind:
        return [
            wrong(
                AREA,
                f"rank 0 on {told[0][0]} writes to {folder}, and {', '.join(blind[:4])} does not see it",
                "Choose a folder that all nodes share, with --output.",
            )
        ]
    if not all(locked for _, _, locked in told):
        return [
            warning(
                AREA,
                f"a lock of rank 0 in {folder} does not hold on all nodes",
                "Runs are still kept apart, by a lease: a start after a lost one waits up to half a minute.",
            )
        ]
    return [fine(AREA, f"all {len(told)} ranks see it, and locks hold for all of them")]


def _locked(folder: Path, stack: contextlib.ExitStack) -> Path | None:
    """A file in the run folder, or near it, whose lock this rank has until the stack is left."""
    with contextlib.suppress(OSError):  # That nothing can be written there is found elsewhere.
        path = stack.enter_context(scratch_in(existing(folder))) / "lock"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        stack.callback(os.close, file)
        with contextlib.suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Path(path)
    return None
