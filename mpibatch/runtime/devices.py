"""What this rank sees of its node: devices by variables or by their files, CPUs by its affinity."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from mpibatch.core.binding import CUDA, ROCR, Devices, View, given_per_task, read_devices
from mpibatch.core.cpu_lists import cores_text, read_cpu_list

_NVIDIA = re.compile(r"nvidia\d+")
_CPU = "devices/system/cpu"
_NODE = "devices/system/node"
_AMD = "class/kfd/kfd/topology/nodes"


def view(
    environment: Mapping[str, str] = os.environ, *, dev: Path = Path("/dev"), sys: Path = Path("/sys")
) -> View:
    """In some milliseconds: no library of a device is loaded and no device opened, which may take seconds."""
    return View(
        devices=read_devices(environment) or found_devices(dev, sys),
        devices_per_task=given_per_task(environment),
        cores=_cores(sys),
    )


def found_devices(dev: Path, sys: Path) -> list[Devices]:
    """Those that are there, by number; of NVIDIA, else of AMD. Whether this rank may open them is not known."""
    with contextlib.suppress(OSError):
        nvidia = [name for name in os.listdir(dev) if _NVIDIA.fullmatch(name)]
        if nvidia:
            return [Devices(CUDA, [str(number) for number in range(len(nvidia))])]
    amd = 0
    with contextlib.suppress(OSError):
        for node in os.listdir(sys / _AMD):
            # CPUs are nodes as well, of number 0; a node that is not ours cannot be read.
            amd += _text(sys / _AMD / node / "gpu_id").strip() not in ("", "0")
    return [Devices(ROCR, [str(number) for number in range(amd)])] if amd else []


def _cores(sys: Path) -> str:
    usable = os.sched_getaffinity(0)
    siblings = {
        cpu: read_cpu_list(_text(sys / _CPU / f"cpu{cpu}" / "topology" / "thread_siblings_list"))
        for cpu in usable
    }
    nodes: list[list[int]] = []
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(sys / _NODE) if re.fullmatch(r"node\d+", name)]
        names.sort(key=lambda name: int(name[4:]))
        nodes = [read_cpu_list(_text(sys / _NODE / name / "cpulist")) for name in names]
    return cores_text(usable, siblings, nodes)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
