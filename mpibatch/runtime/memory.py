"""Whether the kernel has killed for want of memory: it counts its kills, in each cgroup and on the whole node."""

from __future__ import annotations

import os

LOOK_S = 30.0
"""A kill is evidence for so long, and up to twice as long: not that of somebody else hours ago."""
_NO_LIMIT = 1 << 60
"""Bytes from which on a limit of cgroup v1 is none."""
_KILLS = {"memory.events", "memory.oom_control"}
_LIMITS = ("memory.max", "memory.limit_in_bytes")


class MemoryWatch:
    """Of one processor at a time: `begin` when it has started, `look` now and then, `killed` once it has died.

    `proc`, `cgroups`: where the kernel shows what it knows.
    """

    def __init__(self, proc: str = "/proc", cgroups: str = "/sys/fs/cgroup") -> None:
        self._proc = proc
        self._cgroups = cgroups
        self._folders: list[str] = []
        self._older: dict[str, int] = {}
        self._newer: dict[str, int] = {}
        self._looked_at = 0.0

    def begin(self, pid: int, now: float) -> None:
        """Process `pid` has just started."""
        self._folders = self._folders_of(pid)
        self._older = self._newer = self._kills()
        self._looked_at = now

    def look(self, now: float) -> None:
        """Forget kills of long ago. Cheap to call often."""
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            # Two of them, as a large process takes its time to die of what has been counted already.
            self._older, self._newer = self._newer, self._kills()

    def killed(self) -> bool:
        """Whether the kernel has killed for want of memory since `begin`, or lately."""
        return any(count > self._older.get(file, count) for file, count in self._kills().items())

    def limit_bytes(self) -> int | None:
        """The lowest limit that a cgroup of the process sets; None: none does, as far as can be seen."""
        limits = [_number(_read(os.path.join(folder, name))) for folder in self._folders for name in _LIMITS]
        return min((limit for limit in limits if limit is not None and limit < _NO_LIMIT), default=None)

    def available_bytes(self) -> int | None:
        """What the node could still give."""
        kib = _value(_read(os.path.join(self._proc, "meminfo")), "MemAvailable:")
        return None if kib is None else kib << 10

    def _kills(self) -> dict[str, int]:
        """The counters by their files. That of the node only where the process's own cgroup has none: a kill is
        always counted in the cgroup of who was killed, and in that of the node also those of other jobs."""
        counts = {}
        for number, folder in enumerate(self._folders):
            for name in sorted(_KILLS):
                file = os.path.join(folder, name)
                count = _value(_read(file), "oom_kill")
                if count is not None:
                    counts[file] = count
            if number == 0 and counts:
                return counts
        node = os.path.join(self._proc, "vmstat")
        count = _value(_read(node), "oom_kill")
        return counts if count is None else {**counts, node: count}

    def _folders_of(self, pid: int) -> list[str]:
        """Of the process's memory cgroup, its own first, then those above it."""
        path, mount = self._cgroup_of(pid)
        folders = []
        while True:
            folders.append(os.path.join(mount, path.strip("/")))
            if path in ("", "/"):
                return folders
            path = os.path.dirname(path)

    def _cgroup_of(self, pid: int) -> tuple[str, str]:
        """Its path, and where the hierarchy of memory is mounted: v2 alone, v1, or v2 beside v1."""
        unified, path, mount = "/", "", ""
        for line in _read(os.path.join(self._proc, str(pid), "cgroup")).splitlines():
            _, _, rest = line.partition(":")
            controllers, _, where = rest.partition(":")
            if "memory" in controllers.split(","):
                path, mount = where, os.path.join(self._cgroups, "memory")
            elif not controllers:
                unified = where
        if mount:
            return path, mount
        beside = os.path.join(self._cgroups, "unified")
        return unified, beside if os.path.isdir(beside) else self._cgroups


def gibibytes(count: int) -> str:
    """Bytes for people; always in the same unit, so that errors that are alike look alike."""
    return f"{count / 2**30:.2f} GiB"


def _read(file: str) -> str:
    try:
        with open(file, encoding="ascii", errors="replace") as opened:
            return opened.read()
    except OSError:  # Not on this kernel, or not for us to see.
        return ""


def _value(text: str, key: str) -> int | None:
    """The number behind a key: one pair stands on each line."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == key:
            return _number(words[1])
    return None


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None
