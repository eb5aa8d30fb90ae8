"""The processes of one run, by the part they play, and what can be done to them.

They are found by a marker in their environment, so that also what has lost its parent is found.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import support

_RANK = re.compile(rb"\0(?:PMI_RANK|OMPI_COMM_WORLD_RANK)=(\d+)\0")
_LAUNCHERS = ("mpiexec", "mpirun", "prterun", "hydra")
_DAEMONS = ("hydra_pmi_proxy", "prted")


class Process:
    """One process as it was seen: `role` is what it does in the run."""

    def __init__(self, pid: int, role: str, parent: int, rank: int | None) -> None:
        self.pid = pid
        self.role = role
        self.parent = parent
        self.rank = rank

    def __repr__(self) -> str:
        return f"{self.role} (pid {self.pid})"


def look(marker: str, main: int) -> list[Process]:
    """All processes whose environment holds `marker`. `main`: the one that the test started."""
    found = []
    for pid in support.processes_with(marker):
        with contextlib.suppress(OSError, IndexError):  # It has just ended.
            found.append(_seen(pid, main))
    return found


def _seen(pid: int, main: int) -> Process:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    parent = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    told = _RANK.search(b"\0" + environ)
    rank = int(told[1]) if told else None
    return Process(pid, _role(command, rank, is_main=pid == main), parent, rank)


def _role(command: list[str], rank: int | None, *, is_main: bool) -> str:
    words = " ".join(command)
    if "mpibatch-guardian" in words:
        return "guardian"
    if "mpibatch.runtime.processor" in words:
        return "processor"
    program = os.path.basename(command[0])
    if program in _DAEMONS:
        return "daemon"
    if program.startswith(_LAUNCHERS):
        return "mpiexec"
    if "mpibatch" in words and rank is not None:
        return "rank 0" if rank == 0 else "worker"
    if is_main:
        return "parent"
    return "other"


def of_role(marker: str, main: int, target: str, *, embedded: bool) -> list[Process]:
    """Those that a fault at `target` is about: one role, or everything."""
    found = look(marker, main)
    if target == "everything":
        return found
    if embedded and target == "rank 0":
        target = "parent"  # There is one process that is all of it.
    return [process for process in found if process.role == target]


def send(pid: int, number: signal.Signals) -> bool:
    """Whether there was such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def end_all(marker: str, main: int, *, of: Callable[[Process], bool] = lambda process: True) -> list[str]:
    """What a node's end does: nobody sees another one end. Who there was is returned."""
    ended: list[str] = []
    while found := [process for process in look(marker, main) if of(process) and not _is_zombie(process.pid)]:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in found:
                send(process.pid, number)
        ended += [repr(process) for process in found]
        time.sleep(0.01)  # Until those are gone, and what they were just starting can be seen.
    return ended


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True
