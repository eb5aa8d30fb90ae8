"""What the end of a survey's session means for the run: whether all was asked, else the error that ends it."""

from __future__ import annotations

from mpibatch.errors import (
    EXIT_COMPLETE,
    EXIT_INTERRUPTED,
    EXIT_STORAGE,
    EXIT_TOO_MANY_ERRORS,
    InputError,
    InterruptedByUser,
    MpibatchError,
    StoppedError,
    StorageError,
)
from mpibatch.results import JobResult


def all_asked(result: JobResult) -> bool:
    """Whether each question has its answer or has failed for good; of a session's thresholds none counts here."""
    if result.exit_code == EXIT_COMPLETE:
        return True
    # Not one success is a failure for a session, but each question may be about a file that kills its reader.
    return result.exit_code == EXIT_TOO_MANY_ERRORS and result.items.failed == result.items.total


def why_not(result: JobResult, *, lost: bool) -> MpibatchError:
    """The error that ends the run. `lost`: workers were lost."""
    if result.verdict == "stopped":
        kind = InterruptedByUser if result.exit_code == EXIT_INTERRUPTED else StoppedError
        return kind(stopped_words(result))
    if result.verdict == "no_workers" and lost:
        return StoppedError(stopped_words(result))
    cause = result.first_cause.error if result.first_cause is not None else result.reason
    failed = StorageError if result.exit_code == EXIT_STORAGE else InputError
    return failed(f"the inputs could not be surveyed: {cause}")


def stopped_words(result: JobResult | None) -> str:
    """What was being done when it was stopped, what is kept, and how to go on. Empty where that is not known."""
    if result is None or result.verdict == "failed":
        return ""
    items = result.items
    kept = f"{items.succeeded:,} of {items.total:,} parts are surveyed, and kept"
    why = f" ({result.reason})" if result.reason else ""
    return f"stopped while the inputs were surveyed{why}; {kept}. Start the same command again to go on."
