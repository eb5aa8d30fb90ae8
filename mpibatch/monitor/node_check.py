"""What this node gives: CPUs, devices, memory, scratch; the binding that workers would get; versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence

import mpibatch
from mpibatch.core.binding import DEVICE_VARIABLES, Gpus, Seat, View, bind
from mpibatch.core.cpu_lists import cores_of, cpu_list
from mpibatch.core.findings import Finding, fine, warning, wrong
from mpibatch.monitor.figures import counted
from mpibatch.monitor.mounts import read_mount
from mpibatch.runtime.memory import MemoryWatch, gibibytes

LITTLE_SCRATCH_BYTES = 1 << 30
_PACKAGES = ("numpy", "pandas", "pyarrow", "h5py", "msgspec", "mpi4py")


def node_findings(view: View) -> list[Finding]:
    return [_cpus(view), _devices(view), _memory(), *_scratch(), *_versions()]


def binding_findings(
    view: View, workers: int, host: str, *, gpus: Gpus | None, cpus: bool, variables: Mapping[str, str]
) -> list[Finding]:
    """What so many workers of this node would get, if their ranks saw what this process sees."""
    seats = [Seat(number, 0, host, view) for number in range(workers)]
    bindings = bind(seats, gpus=gpus, cpus=cpus, variables=variables)
    lines = [f"process{number:03d}: {bindings.of[number].words() or 'as it is'}" for number in range(workers)]
    text = "\n".join([f"{counted(workers, 'worker')} on this node would get", *lines])
    return [
        *(warning("binding", one) for one in bindings.warnings),
        *_oversubscribed(view, workers),
        fine("binding", text),
    ]


def _oversubscribed(view: View, workers: int) -> list[Finding]:
    cpus = sum(map(len, cores_of(view.cores)))
    if not cpus or workers <= cpus:
        return []
    return [
        warning(
            "CPUs",
            f"{workers} workers would share {counted(cpus, 'CPU')}",
            "Set a smaller process_count_per_node, or ask the launcher for more (slurm.cpus_per_task).",
        )
    ]


def _cpus(view: View) -> Finding:
    cores = cores_of(view.cores)
    cpus = [cpu for core in cores for cpu in core]
    of = os.cpu_count() or len(cpus)
    text = f"{len(cpus)} of this machine's {of} may be used here: {cpu_list(cpus)}, {counted(len(cores), 'core')}"
    if len(cpus) == 1 and of > 1:
        return warning(
            "CPUs", text, "If that is not meant, the launcher or a batch system has bound this process."
        )
    return fine("CPUs", text)


def _devices(view: View) -> Finding:
    if not view.devices:
        return fine("GPUs", f"none: no {', '.join(DEVICE_VARIABLES[:3])} ..., and none is found in /dev")
    told = "; ".join(f"{one.variable}={','.join(one.names) or '(none)'}" for one in view.devices)
    if not any(one.variable in os.environ for one in view.devices):
        told = f"found, no variable says: {told}"
    return fine("GPUs", f"{len(view.seen)} visible: {told}")


def _memory() -> Finding:
    watch = MemoryWatch()
    watch.begin(os.getpid(), 0.0)
    there, limit = watch.available_bytes(), watch.limit_bytes()
    text = f"{gibibytes(there)} available" if there is not None else "unknown"
    return fine(
        "memory", text + ("" if limit is None else f", at most {gibibytes(limit)} for this job (cgroup)")
    )


def _scratch() -> list[Finding]:
    try:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [
            wrong("scratch", f"no folder for temporary files can be written: {error}", "Set TMPDIR to one.")
        ]
    mount = read_mount(folder)
    text = f"{folder}, {gibibytes(free)} free, on {mount.words()}"
    if mount.reach == "shared":
        return [warning("scratch", text, "Set TMPDIR to a disk of the node: it is slow for all otherwise.")]
    if free < LITTLE_SCRATCH_BYTES:
        return [warning("scratch", text, "Make room, or set TMPDIR to another disk of the node.")]
    if mount.reach == "memory":
        return [
            warning("scratch", text, "What is staged there takes memory; set TMPDIR to a disk to avoid that.")
        ]
    return [fine("scratch", text)]


def _versions() -> Sequence[Finding]:
    python = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return [fine("Python", python), fine("versions", f"mpibatch {mpibatch.__version__}, {packages}")]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
