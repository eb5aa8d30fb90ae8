"""What has failed in the other shares of an array, from what they publish: the thresholds hold over all of them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from mpibatch.core.accounting import Elsewhere
from mpibatch.core.shares import Share
from mpibatch.results import ItemCounts, MiniBatchCounts
from mpibatch.runtime.array_folder import share_folder
from mpibatch.runtime.run_folder import RunFolder

LOOK_S = 2.0
EACH_S = 0.05
"""So much longer for each share, as each of a thousand elements looks at a thousand folders."""


class _Told(msgspec.Struct):
    """What `job_result.json` and `progress.json` have in common, and what tells them apart."""

    items: ItemCounts
    mini_batches: MiniBatchCounts
    session: int = 0
    sessions: int = 0
    verdict: str = ""


class _Seen(msgspec.Struct):
    stamp: tuple[int, int]
    told: _Told | None


class Siblings:
    """`look` reads, in any one thread; `failed` is what it has found.

    A sibling's failures count while it works, and when it is complete. One that has ended otherwise tries them again
    when it is started: they count for who has not ended since, so that all of an array can be started again.
    """

    def __init__(self, whole: RunFolder, share: Share) -> None:
        own = share_folder(whole, share.number)
        self._folders = [
            share_folder(whole, number) for number in share.division.numbers if number != share.number
        ]
        self._ended_at = _stamp(own.result)[0]
        self._seen: dict[Path, _Seen] = {}
        self._next = 0.0
        self.failed = Elsewhere()

    def due(self, now: float) -> bool:
        """Whether it is time to look, by a clock that is always the same; then it is taken as done."""
        if now < self._next:
            return False
        self._next = now + LOOK_S + EACH_S * len(self._folders)
        return True

    def look(self) -> None:
        """What cannot be read now is as it was."""
        items = mini_batches = 0
        for folder in self._folders:
            told = self._of(folder)
            if told is not None:
                items += told.items.failed
                mini_batches += told.mini_batches.failed
        self.failed = Elsewhere(items=items, mini_batches=mini_batches)

    def _of(self, folder: RunFolder) -> _Told | None:
        result, progress = self._read(folder.result), self._read(folder.progress)
        if result is None or (progress is not None and progress.session > result.sessions):
            return progress
        if result.verdict == "complete" or self._seen[folder.result].stamp[0] > self._ended_at:
            return result
        return None

    def _read(self, path: Path) -> _Told | None:
        stamp, seen = _stamp(path), self._seen.get(path)
        if seen is None or seen.stamp != stamp:
            seen = self._seen[path] = _Seen(stamp, _told(path) or (seen.told if seen else None))
        return seen.told


def _stamp(path: Path) -> tuple[int, int]:
    """When a file was written, and which one it is; zeros where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def _told(path: Path) -> _Told | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Told)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
