"""The processes of a world that was started here, found by a variable in their environment, and their end.

Whatever froze or lost its parent is found too: ranks, guardians, what the launcher put between them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

from mpibatch.runtime.local_folder import LOCAL_FOLDER

KILLED_S = 5.0
"""How long killed processes may take to be gone; a dead disk may hold one for ever."""
TIDY_S = 10.0
"""How long guardians may take to kill processors and remove scratch folders."""
EXECUTES_S = 0.1
"""How long one may be seen between two programs."""
_RANK_NAMES = tuple(
    f"\0{name}=".encode() for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PALS_RANKID")
)
_GUARDIAN = (b"mpibatch-guardian\0", b"rm\0-rf\0")
"""How the command line of a guardian, or of what it is executing, can be told."""


class Found(NamedTuple):
    pid: int
    is_guardian: bool
    is_rank: bool


def processes_of(folder: str) -> list[Found]:
    """All live processes of the world that speaks through `folder`; not those of users' scripts."""
    marker = f"\0{LOCAL_FOLDER}={folder}\0".encode()
    return list(_having(marker))


def _having(marker: bytes) -> Iterator[Found]:
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            environment, command = _environment_and_command(entry, marker)
        except OSError:  # Another user's, or gone.
            continue
        if marker not in environment:
            continue
        is_guardian = any(words in command for words in _GUARDIAN)
        is_rank = not is_guardian and any(name in environment for name in _RANK_NAMES)
        yield Found(int(entry), is_guardian, is_rank)


def _environment_and_command(pid: str, marker: bytes) -> tuple[bytes, bytes]:
    """Both of one program: a process that executes another one, as a guardian's shell does `rm`, has none for a
    moment, and it must not be taken for something else. The command is left out without `marker`."""
    end = time.monotonic() + EXECUTES_S
    while True:
        environment = b"\0" + _of_process(pid, "environ")  # Empty of one that is dead and not yet reaped.
        if marker not in environment:
            return environment, b""
        command = _of_process(pid, "cmdline")
        if (command and command == _of_process(pid, "cmdline")) or time.monotonic() > end:
            return environment, command


def _of_process(pid: str, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def is_frozen(pid: int) -> bool:
    """Whether somebody has stopped the process (SIGSTOP)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False


def end_world(folder: str) -> None:
    """Kill what is left of a world. Its guardians then end by themselves, once they have tidied up."""
    end = time.monotonic() + KILLED_S
    while time.monotonic() < end:
        left = [found.pid for found in processes_of(folder) if not found.is_guardian]
        if not left:
            break
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.01)
    end = time.monotonic() + TIDY_S
    while time.monotonic() < end:
        guardians = [found.pid for found in processes_of(folder) if found.is_guardian]
        if not guardians:
            return
        for pid in guardians:
            _signal(pid, signal.SIGCONT)  # A frozen one would leave a processor behind.
        time.sleep(0.02)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
