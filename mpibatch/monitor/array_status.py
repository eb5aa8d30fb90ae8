"""How a job array stands, share by share, from the files of its folder alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from mpibatch.core.shares import Division
from mpibatch.errors import RunFolderError
from mpibatch.monitor.figures import counted, shown
from mpibatch.monitor.status import Status, read_status
from mpibatch.monitor.summary import output_words, verdict_words
from mpibatch.results import ItemCounts, JobResult, MiniBatchCounts
from mpibatch.runtime.array_folder import read_division, share_folder
from mpibatch.runtime.record import any_result, finished
from mpibatch.runtime.run_folder import RunFolder

ShareState = Literal["missing", "running", "complete", "ended", "dead"]


class ShareStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One share. Keys are never renamed, only added."""

    number: int
    state: ShareState
    """`missing`: its element has never begun. `ended`: otherwise than complete. `dead`: without a result."""
    run: Status | None
    """As of any run; None where it is missing."""

    @property
    def result(self) -> JobResult | None:
        """How it has ended, if it has."""
        return self.run.result if self.run is not None and self.state in ("complete", "ended") else None


class ArrayStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `mpibatch status --json` prints of an array; keys are never renamed, only added."""

    folder: str
    division: Division
    shares: list[ShareStatus]
    merged: JobResult | None
    """Once the shares were merged: the result of the whole."""


def read_array(folder: Path, *, clock: Callable[[], float] = time.time) -> ArrayStatus | None:
    """None where there is no array. StorageError where a file cannot be read."""
    whole = RunFolder(folder)
    division = read_division(whole)
    if division is None:
        return None
    shares = [_share(share_folder(whole, number), number, clock) for number in division.numbers]
    merged = any_result(whole)
    if merged is not None and merged.verdict == "complete" and finished(whole) is None:
        merged = None  # Its output is gone.
    return ArrayStatus(folder=str(folder), division=division, shares=shares, merged=merged)


def _share(folder: RunFolder, number: int, clock: Callable[[], float]) -> ShareStatus:
    try:
        run = read_status(folder.root, clock=clock)
    except RunFolderError:
        return ShareStatus(number=number, state="missing", run=None)
    complete = run.state == "ended" and run.result is not None and run.result.verdict == "complete"
    return ShareStatus(number=number, state="complete" if complete else run.state, run=run)


def array_text(status: ArrayStatus) -> str:
    """For people: a line a share, and all of them together."""
    complete = sum(one.state == "complete" for one in status.shares)
    lines = [
        f"{'run':<14}{shown(status.folder)}",
        f"{'array':<14}{status.division.words}: {complete} complete",
        f"{'share':>6}  {'state':<10}{'mini-batches':>24}{'items failed':>14}",
        *(_line(one) for one in status.shares),
    ]
    counts = [one for one in map(_counts, status.shares) if one is not None]
    done = sum(batches.succeeded + batches.failed for _, batches in counts)
    failed = sum(items.failed for items, _ in counts)
    lines.append(f"{'all':>6}  {'':<10}{f'{done:,} ended':>24}{failed:>14,}")
    lines.append(f"{'merged':<14}{_merged_words(status, complete)}")
    return "\n".join(lines)


def _counts(share: ShareStatus) -> tuple[ItemCounts, MiniBatchCounts] | None:
    run = share.run
    if run is None:
        return None
    told = run.progress if share.state in ("running", "dead") else run.result
    return None if told is None else (told.items, told.mini_batches)


def _line(share: ShareStatus) -> str:
    counts = _counts(share)
    state = share.result.verdict if share.state == "ended" and share.result is not None else share.state
    if counts is None:
        return f"{share.number:>6}  {state:<10}".rstrip()
    items, batches = counts
    ended = f"{batches.succeeded + batches.failed:,} of {batches.total:,}"
    return f"{share.number:>6}  {state:<10}{ended:>24}{items.failed:>14,}"


def _merged_words(status: ArrayStatus, complete: int) -> str:
    if status.merged is not None:
        return f"{verdict_words(status.merged)}: {output_words(status.merged)}"
    if complete == len(status.shares):
        return f"not yet: mpibatch merge {shown(status.folder)}"
    return f"not yet: {counted(len(status.shares) - complete, 'share')} to be complete first"
