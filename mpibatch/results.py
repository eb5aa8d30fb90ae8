"""The words for what a run tells while it goes on and when it ends."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

Verdict = Literal["complete", "too_many_errors", "no_workers", "stopped", "failed"]
"""How a run ended."""


def plain(text: str) -> str:
    """`text` as JSON and a terminal can hold it: bytes of a name that are no UTF-8 as `\\xff`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


class ItemCounts(msgspec.Struct, frozen=True, kw_only=True):
    total: int
    succeeded: int
    failed: int


class MiniBatchCounts(msgspec.Struct, frozen=True, kw_only=True):
    total: int
    succeeded: int
    failed: int
    attempts: int


class CauseGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failed items whose error is equal, with an example."""

    error: str
    """Type and message of the error."""
    item: str | None
    """The example: first failed item of this group in time, or its mini-batch; None where it is unknown."""
    count: int
    """Items that failed so."""
    log: str | None
    """File below the run folder (absolute path) that holds the traceback or the output."""


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """`job_result.json`: how the run stands after a session."""

    verdict: Verdict
    exit_code: int
    reason: str
    """The verdict in words; empty where it is `complete`."""
    items: ItemCounts
    mini_batches: MiniBatchCounts
    rows: int
    elapsed_s: float
    """Of this session, from the start of rank 0."""
    processing_s: float
    """From the first grant until the ordered output is durable."""
    mini_batches_per_s: float
    """Mini-batches of this session over `processing_s`."""
    sessions: int
    output: str | None
    """Absolute path of the output file; None where there is none (yet)."""
    first_cause: CauseGroup | None
    share: int | msgspec.UnsetType = msgspec.UNSET
    """Number of the element of a job array whose share this is of; not there for other runs."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How a session stands at one moment; also `.mpibatch/progress.json`, for `mpibatch status`."""

    name: str
    session: int
    host: str
    """Of rank 0."""
    pid: int
    written_at: float
    """Seconds since the epoch, by the clock of rank 0's host."""
    elapsed_s: float
    workers: int
    workers_ready: int
    in_flight: int
    """Attempts that are granted and not answered."""
    items: ItemCounts
    mini_batches: MiniBatchCounts
    half_failed: int = 0
    """Of the failed mini-batches: those of which other pieces are still tried."""
    rows: int
    rows_per_s: float
    mini_batches_per_s: float
    """Both over the last seconds, not since the start."""
    remaining_s: float | None
    """Estimate; None before it can be made."""
    finalizing: bool = False
    """`finalize()` of the script is running: all rows are there."""
