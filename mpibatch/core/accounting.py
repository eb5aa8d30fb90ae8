"""Outcomes become tallies and a verdict. Pure.

Only final outcomes are counted: an attempt that a later one repairs never counts against a threshold.
"""

from __future__ import annotations

import msgspec

from mpibatch.results import Verdict

__all__ = ["Elsewhere", "Tally", "Thresholds", "Verdict", "exceeded", "final_verdict", "percent_exceeded"]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """How much may fail. None and -1 ignore all failures, 0 allows none."""

    failed_items: int | None = None
    failed_mini_batches: int | None = None
    failed_percent: float | None = None
    """Percent of mini-batches, judged once all have been handed out."""
    needs_success: bool = True
    """`append_row`: items, but not one success, is a failure whatever the thresholds."""


class Tally(msgspec.Struct, kw_only=True):
    """What has ended so far, over all sessions of the run."""

    items_total: int
    mini_batches_total: int
    items_succeeded: int = 0
    items_failed: int = 0
    mini_batches_succeeded: int = 0
    mini_batches_failed: int = 0
    attempts: int = 0
    rows: int = 0

    def success(self, items: int, succeeded: int, rows: int, *, whole: bool = True) -> None:
        """`items` ended: a mini-batch, or a piece of one that is not `whole` by that.

        A short return leaves failed items, no failed mini-batch. `succeeded` is what a worker said: beyond
        `items` it counts as all of them, below 0 as none.
        """
        succeeded = max(0, min(succeeded, items))
        self.mini_batches_succeeded += whole
        self.items_succeeded += succeeded
        self.items_failed += items - succeeded
        self.rows += rows

    def failure(self, items: int, *, first: bool = True) -> None:
        """A piece of `items` has failed for good, and so has its mini-batch, if this is the `first` one of it."""
        self.mini_batches_failed += first
        self.items_failed += items

    @property
    def mini_batches_ended(self) -> int:
        return self.mini_batches_succeeded + self.mini_batches_failed


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """What has failed in the other shares of the same array, as far as they have told."""

    items: int = 0
    mini_batches: int = 0


NOWHERE_ELSE = Elsewhere()


def exceeded(tally: Tally, thresholds: Thresholds, elsewhere: Elsewhere = NOWHERE_ELSE) -> str | None:
    """The threshold that more has failed than allowed, in words; None while all hold."""
    items, failed = thresholds.failed_items, tally.items_failed + elsewhere.items
    if items is not None and 0 <= items < failed:
        return f"{failed} items failed{_of_them(elsewhere.items)}; error_threshold is {items}"
    batches, failed = thresholds.failed_mini_batches, tally.mini_batches_failed + elsewhere.mini_batches
    if batches is not None and 0 <= batches < failed:
        there = _of_them(elsewhere.mini_batches)
        return f"{failed} mini-batches failed{there}; mini_batch_error_threshold is {batches}"
    return None


def _of_them(elsewhere: int) -> str:
    return f" ({elsewhere} of them in other shares of the array)" if elsewhere else ""


def percent_exceeded(tally: Tally, thresholds: Thresholds) -> str | None:
    """Like `exceeded`, for the percentage: to be asked once nothing is left to hand out."""
    percent = thresholds.failed_percent
    failed, total = tally.mini_batches_failed, tally.mini_batches_total
    if percent is None or percent < 0 or failed * 100 <= percent * total:
        return None
    share = 100 * failed / total
    return f"{share:.1f} % of the mini-batches failed; allowed_failed_percent is {percent:g}"


def final_verdict(
    tally: Tally, thresholds: Thresholds, elsewhere: Elsewhere = NOWHERE_ELSE
) -> tuple[Verdict, str]:
    """Verdict and reason once every mini-batch has ended."""
    reason = exceeded(tally, thresholds, elsewhere) or percent_exceeded(tally, thresholds)
    if reason is not None:
        return "too_many_errors", reason
    if thresholds.needs_success and tally.items_total and not tally.items_succeeded:
        return "failed", "there is not one item that succeeded"
    return "complete", ""
