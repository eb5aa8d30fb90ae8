"""Whether files stay as they were when a processor first read them: a plan is of one version of a file."""

from __future__ import annotations

import os

from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Unreadable

_MOST = 4096
"""Files that are remembered."""


class SeenFiles:
    """Remembers size and time of change of each file from which something was read."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[int, int]] = {}

    def check(self, path: bytes, file: int) -> None:
        """After each read, of an open file. Raises Unreadable where it is not as it was after the first one."""
        found = os.fstat(file)
        stamp = (found.st_size, found.st_mtime_ns)
        known = self._seen.get(path)
        if known is None:
            if len(self._seen) >= _MOST:
                del self._seen[next(iter(self._seen))]
            self._seen[path] = stamp
        elif known != stamp:
            raise Unreadable(
                f"{shown(path)} changed while the run was reading it, so that its rows may be of two versions."
                " Nothing may write to an input during a run: start a new one, with --fresh."
            )

    def forget(self, path: bytes) -> None:
        """What was read was not what was planned."""
        self._seen.pop(path, None)
