"""What is said when a session has ended: verdict, items, failures, output, time; last of all the first cause.

Plain text: the same words go to the terminal and into `logs/job_result.txt`.
"""

from __future__ import annotations

import msgspec

from mpibatch.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_STORAGE, EXIT_USAGE
from mpibatch.monitor.figures import counted, duration, mini_batches, one_line, rate, shown
from mpibatch.results import CauseGroup, JobResult

CAUSES_SHOWN = 3
LONG = 1000
"""Characters of the text that ends a run: what to do stands at the end of our own errors."""
_LABEL = 13
"""Columns of what stands before each line's words."""


def summary(
    result: JobResult, causes: list[CauseGroup], *, continue_command: str, going_on: str | None = None
) -> str:
    """The text, without a newline at its end.

    `causes`: all groups of failed items, in the order of their first failures. Where the verdict is not
    `complete` two more lines follow: how to go on (`going_on`: said in its place), and the first cause, which is
    the last thing printed.
    """
    lines = [
        _line("verdict", verdict_words(result)),
        _line("items", items_words(result)),
        _line("failures", _failures_words(result, causes)),
        *_cause_lines(causes),
        _line("output", output_words(result)),
        _line("time", time_words(result)),
    ]
    if result.verdict != "complete":
        lines += [_line("to go on", going_on or going_on_words(result, continue_command))]
        cause = first_cause_words(result)
        lines += [_line("first cause", cause)] if cause else []
    return "\n".join(lines)


def verdict_words(result: JobResult) -> str:
    """The verdict, its reason in brackets, and the exit code."""
    reason = f" ({one_line(result.reason, LONG)})" if result.reason else ""
    return f"{_verdict(result)}{reason}, exit code {result.exit_code}"


def _verdict(result: JobResult) -> str:
    match result.verdict:
        case "complete":
            return "complete"
        case "too_many_errors":
            return "stopped: too many errors"
        case "no_workers":
            return "stopped: no worker could work"
        case "stopped":
            return "interrupted" if result.exit_code == EXIT_INTERRUPTED else "stopped before the end"
        case "failed":
            causes = {
                EXIT_BUG: ": an error inside mpibatch",
                EXIT_USAGE: ": the job cannot run as it is",
                EXIT_STORAGE: ": storage",
            }
            return "failed" + causes.get(result.exit_code, "")


def items_words(result: JobResult) -> str:
    items, batches = result.items, result.mini_batches
    words = f"{items.total:,}: {items.succeeded:,} succeeded, {items.failed:,} failed"
    left = items.total - items.succeeded - items.failed
    if left > 0:
        words += f", {left:,} not done"
    return f"{words}, in {mini_batches(batches.total)} ({counted(batches.attempts, 'attempt')})"


def _failures_words(result: JobResult, causes: list[CauseGroup]) -> str:
    if not result.items.failed:
        return "none"
    if not causes:
        return f"{counted(result.items.failed, 'item')}, each in failed_items.jsonl"
    repairable = result.verdict == "complete" and result.share is msgspec.UNSET
    again = "; to try them again: --only-failed" if repairable else ""
    items, kinds = counted(result.items.failed, "item"), counted(len(causes), "cause")
    return f"{items}, {kinds}; each in failed_items.jsonl{again}"


def _cause_lines(causes: list[CauseGroup]) -> list[str]:
    """The most frequent causes; of two that are as frequent the earlier first."""
    often = sorted(causes, key=lambda cause: -cause.count)
    lines = [" " * _LABEL + cause_words(cause, example="for example ") for cause in often[:CAUSES_SHOWN]]
    if len(often) > CAUSES_SHOWN:
        lines.append(" " * _LABEL + f"... and {counted(len(often) - CAUSES_SHOWN, 'other cause')}")
    return lines


def cause_words(cause: CauseGroup, *, example: str = "") -> str:
    """Which error, how often, which item, which log; the last two where they are known."""
    words = [f"{one_line(cause.error)}: {counted(cause.count, 'item')}"]
    if cause.item is not None:
        words.append(example + shown(cause.item))
    if cause.log is not None:
        words.append(f"log {shown(cause.log)}")
    return ", ".join(words)


def first_cause_words(result: JobResult) -> str:
    """The first cause; where no item is to blame, the reason."""
    cause = result.first_cause
    if cause is None:
        return one_line(result.reason, LONG)
    if cause.item is None and not cause.count:  # A disk or a launcher, no item: "0 items" would puzzle.
        return one_line(cause.error, LONG) + (f", log {shown(cause.log)}" if cause.log is not None else "")
    return cause_words(cause)


def output_words(result: JobResult) -> str:
    if result.output is not None:
        return f"{shown(result.output)} ({counted(result.rows, 'row')})"
    if result.verdict == "complete" and result.share is not msgspec.UNSET:
        return f"none by itself: it is a share of a job array ({counted(result.rows, 'row')} kept)"
    if result.verdict == "complete" and result.rows:
        return (
            f"none: finalize() of the entry script has removed the file of its {counted(result.rows, 'row')}"
        )
    if result.verdict == "complete":
        return "none: the entry script stores its own (output_action: summary_only)"
    kept = f" ({counted(result.rows, 'row')} kept so far)" if result.rows else ""
    return f"none until the run is complete{kept}"


def time_words(result: JobResult) -> str:
    speed = rate(result.mini_batches_per_s, "mini-batches")
    return f"{duration(result.elapsed_s)}, {speed}, {counted(result.sessions, 'session')}"


def going_on_words(result: JobResult, command: str = "") -> str:
    """What to do after a verdict other than `complete`: a start keeps the successes, tries the rest again."""
    again = "start the same command again" + (f": {shown(command)}" if command else "")
    if result.exit_code == EXIT_STORAGE:
        return f"repair the storage, then {again}"
    if result.verdict == "stopped":
        return again
    if result.exit_code == EXIT_BUG:
        return f"{again} (what succeeded is kept), and report the error"
    return f"repair the cause, then {again} (what succeeded is kept)"


def _line(label: str, words: str) -> str:
    return f"{label:<{_LABEL}}{words}"
