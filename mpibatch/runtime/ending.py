"""How a session ended, in the form of `job_result.json`."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from mpibatch.core.accounting import Tally, Verdict
from mpibatch.core.config import Job
from mpibatch.errors import (
    EXIT_BUG,
    EXIT_COMPLETE,
    EXIT_INTERRUPTED,
    EXIT_NO_WORKERS,
    EXIT_STOPPED,
    EXIT_STORAGE,
    EXIT_TOO_MANY_ERRORS,
    EXIT_USAGE,
    MpibatchError,
    StoppedError,
    StorageError,
)
from mpibatch.results import CauseGroup, ItemCounts, JobResult, MiniBatchCounts, plain
from mpibatch.runtime.coordinator import Coordinator
from mpibatch.runtime.finalizing import Finalizing
from mpibatch.work import ErrorReport

_EXIT_CODES: dict[Verdict, int] = {
    "complete": EXIT_COMPLETE,
    "too_many_errors": EXIT_TOO_MANY_ERRORS,
    "failed": EXIT_TOO_MANY_ERRORS,
    "no_workers": EXIT_NO_WORKERS,
    "stopped": EXIT_STOPPED,
}


def make_result(
    *,
    job: Job,
    coordinator: Coordinator,
    tally: Tally,
    groups: list[CauseGroup],
    error: Exception | None,
    interrupted: bool,
    sessions: int,
    ended_now: int,
    elapsed_s: float,
    processing_s: float,
    log_of: Callable[[int, ErrorReport], str],
    finalizing: Finalizing | None = None,
) -> JobResult:
    """`error`: what broke the writer thread off; `ended_now`: mini-batches that ended in this session; `finalizing`:
    how calling `finalize()` went, if that was to be done."""
    verdict, reason, exit_code = _verdict(coordinator, error, interrupted, finalizing)
    rows_file = os.path.join(job.output, job.append_row_file_name)
    has_output = verdict == "complete" and job.output_action == "append_row"
    has_output = has_output and not (finalizing is not None and finalizing.removed)
    return JobResult(
        verdict=verdict,
        exit_code=exit_code,
        reason=plain(reason),
        items=ItemCounts(total=tally.items_total, succeeded=tally.items_succeeded, failed=tally.items_failed),
        mini_batches=MiniBatchCounts(
            total=tally.mini_batches_total,
            succeeded=tally.mini_batches_succeeded,
            failed=tally.mini_batches_failed,
            attempts=tally.attempts,
        ),
        rows=tally.rows,
        elapsed_s=round(elapsed_s, 6),
        processing_s=round(processing_s, 6),
        mini_batches_per_s=round(ended_now / processing_s, 3) if processing_s > 0 else 0.0,
        sessions=sessions,
        output=plain(rows_file) if has_output else None,
        first_cause=_first_cause(coordinator, error, groups, log_of, finalizing),
    )


def with_advice(result: JobResult) -> JobResult:
    """Of a session that the wall time has ended: if nothing was finished in it, another one alike brings nothing."""
    if result.verdict != "stopped":
        return result
    reason = (
        f"{result.reason}; not one mini-batch has ended within the {result.elapsed_s:.3g} s of this session. If each"
        " takes longer than that, starting again does not help: make them smaller (mini_batch_size), or raise the"
        " wall time (time_limit, or time of slurm)"
    )
    return msgspec.structs.replace(result, reason=reason)


def storage_result(result: JobResult, error: StorageError) -> JobResult:
    """What becomes of a result that cannot be written down. What broke the session off first is still told."""
    if result.exit_code in (EXIT_STORAGE, EXIT_BUG):
        return result
    cause = CauseGroup(error=plain(str(error)), item=None, count=0, log=None)
    return msgspec.structs.replace(
        result,
        verdict="failed",
        exit_code=EXIT_STORAGE,
        reason=plain(str(error)),
        output=None,
        first_cause=cause,
    )


def _verdict(
    coordinator: Coordinator, error: Exception | None, interrupted: bool, finalizing: Finalizing | None
) -> tuple[Verdict, str, int]:
    if isinstance(error, StoppedError):
        return "stopped", str(error), error.exit_code
    if error is not None:
        return "failed", str(error), error.exit_code if isinstance(error, MpibatchError) else EXIT_BUG
    if coordinator.unusable is not None:
        return "failed", coordinator.reason, EXIT_USAGE
    verdict, reason = coordinator.verdict, coordinator.reason
    if finalizing is not None and finalizing.failure is not None:
        verdict, reason = "failed", finalizing.failure.words
    elif finalizing is not None and finalizing.stopped is not None:
        verdict, reason = "stopped", f"{finalizing.stopped}, before finalize() had ended"
    exit_code = EXIT_INTERRUPTED if verdict == "stopped" and interrupted else _EXIT_CODES[verdict]
    return verdict, reason, exit_code


def _first_cause(
    coordinator: Coordinator,
    error: Exception | None,
    groups: list[CauseGroup],
    log_of: Callable[[int, ErrorReport], str],
    finalizing: Finalizing | None,
) -> CauseGroup | None:
    if error is not None:
        return CauseGroup(error=plain(str(error)), item=None, count=0, log=None)
    if finalizing is not None and finalizing.failure is not None:
        failure = finalizing.failure
        return CauseGroup(error=plain(failure.words), item=None, count=0, log=plain(failure.log))
    gave_up = coordinator.gave_up
    if gave_up is not None and (coordinator.verdict == "no_workers" or coordinator.unusable is not None):
        worker, report = gave_up
        # A death says itself where it was.
        told = report.type in ("Died", "TimedOut", "OutOfMemory", "EnvironmentFailed")
        where = "" if told else " (in init(), or while the script was loaded)"
        return CauseGroup(
            error=plain(f"{report.type}: {report.message}{where}"),
            item=None,
            count=0,
            log=plain(log_of(worker, report)),
        )
    return groups[0] if groups else None
