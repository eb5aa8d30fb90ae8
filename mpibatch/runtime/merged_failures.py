"""`failed_items.jsonl` of a job array: the lines of all shares, in the order of the plan."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence

from mpibatch.runtime.files import naming
from mpibatch.runtime.run_folder import RunFolder


def merge_failed_items(whole: RunFolder, shares: Sequence[RunFolder]) -> None:
    """Write the file whole. Only where the lines lie is kept in memory: there may be millions. Raises OSError."""
    places: list[tuple[int, int, int, int]] = []
    for share, folder in enumerate(shares):
        with contextlib.suppress(FileNotFoundError), open(folder.failed_items, "rb") as file:
            start = 0
            for line in file:
                places.append((int(json.loads(line)["mini_batch"]), share, start, len(line)))
                start += len(line)
    places.sort()
    aside = whole.private / "failed_items.partial"
    fds: dict[int, int] = {}
    try:
        with naming(aside), open(aside, "wb") as out:
            for _, share, start, length in places:
                if share not in fds:
                    fds[share] = os.open(shares[share].failed_items, os.O_RDONLY | os.O_CLOEXEC)
                out.write(os.pread(fds[share], length, start))
            out.flush()
            os.fsync(out.fileno())
        os.replace(aside, whole.failed_items)
    finally:
        for fd in fds.values():
            os.close(fd)
        aside.unlink(missing_ok=True)
