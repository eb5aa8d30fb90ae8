"""What is said when a pipeline has ended: a line a step, the last output, and of a step that is not complete, how it
ended, with the first cause last."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpibatch.core.pipeline import in_step
from mpibatch.monitor.figures import duration, shown
from mpibatch.monitor.summary import items_words, output_words, summary
from mpibatch.results import CauseGroup, JobResult
from mpibatch.runtime.pipeline_record import PipelineResult, StepResult, StepState

LABEL = 13
"""Columns of what stands before each line's words, as in the summary of a run."""


def pipeline_summary(
    name: str,
    result: PipelineResult,
    ended: JobResult | None = None,
    causes: Sequence[CauseGroup] = (),
    *,
    continue_command: str = "",
) -> str:
    """The text, without a newline at its end. `ended`: the result of the step that is not complete, by `of_step`."""
    steps = list(result.steps.items())
    lines = [_line("pipeline", shown(name))]
    lines += [_line("", step_line(step, one.state, one.result)) for step, one in steps]
    if ended is not None:
        return "\n".join([*lines, summary(ended, list(causes), continue_command=continue_command)])
    if result.verdict == "complete":
        lines.append(_line("output", _last_output(steps)))
    lines.append(_line("time", duration(result.elapsed_s)))
    return "\n".join(lines)


def step_line(name: str, state: StepState, result: JobResult | None) -> str:
    """A step in one line: `step sums: complete, 6: 6 succeeded, ...`."""
    words = {"failed": "not complete", "reused": "complete, reused"}.get(state, state)
    counts = f", items {items_words(result)}" if result is not None else ""
    return f"step {shown(name)}: {words}{counts}"


def of_step(name: str, result: JobResult) -> JobResult:
    """The result of a step, whose reason and first cause say which step it was."""
    cause = result.first_cause
    if cause is not None:
        cause = msgspec.structs.replace(cause, error=in_step(name, cause.error))
    return msgspec.structs.replace(result, reason=in_step(name, result.reason), first_cause=cause)


def _last_output(steps: Sequence[tuple[str, StepResult]]) -> str:
    result = steps[-1][1].result
    return output_words(result) if result is not None else "none"


def _line(label: str, words: str) -> str:
    return f"{label:<{LABEL}}{words}"
