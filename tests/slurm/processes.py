"""Processes of a cluster, as /proc shows them: found by what they have, not by who started them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def others() -> Iterator[int]:
    """All processes but this one and those above it."""
    above = set()
    pid = os.getpid()
    while pid > 0:
        above.add(pid)
        pid = _parent(pid)
    return (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in above)


def _parent(pid: int) -> int:
    """0 for one that has ended, waited for or not."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state in "ZX" else int(parent)


def with_descendants(roots: Iterator[int]) -> set[int]:
    found = set(roots)
    parents = {pid: _parent(pid) for pid in others()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid for pid in found if parents.get(pid)}


def in_environment(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return False


def has_open(pid: int, folder: str) -> bool:
    """Whether a process of Slurm has a file below `folder` open: its environment is overwritten by its title."""
    found = False
    if _is_daemon(pid):
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    found = found or os.readlink(f"/proc/{pid}/fd/{number}").startswith(folder)
    return found


def kill(pids: set[int]) -> None:
    """As if by a loss of power: all at once, so that no slurmstepd lives to report the end of its tasks, and no task
    to hear of its slurmstepd's: the kernel wakes a stopped process by SIGHUP when its parent dies before it."""
    for pid in sorted(pids, key=lambda pid: not _is_daemon(pid)):
        _signal(pid, signal.SIGSTOP)
    for pid in sorted(pids, key=lambda pid: _depth(pid, pids), reverse=True):
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _depth(pid: int, pids: set[int]) -> int:
    """How many of `pids` are above it."""
    depth = 0
    while (pid := _parent(pid)) in pids:
        depth += 1
    return depth


def _is_daemon(pid: int) -> bool:
    """Of Slurm, or munged."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith(("slurm", "munge"))
    except OSError:
        return False
