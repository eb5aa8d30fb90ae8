"""How a pipeline stands, step by step, from the files of its folder and of its steps' run folders alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from mpibatch.errors import RunFolderError
from mpibatch.monitor.figures import shown
from mpibatch.monitor.pipeline_summary import step_line
from mpibatch.monitor.progress import progress_line
from mpibatch.monitor.status import State, Status, lives, read_lease, read_status
from mpibatch.monitor.summary import verdict_words
from mpibatch.results import plain
from mpibatch.runtime.lease import LeaseRecord
from mpibatch.runtime.pipeline_record import (
    PipelineResult,
    StepRecord,
    read_pipeline_record,
    read_pipeline_result,
)
from mpibatch.runtime.run_folder import RunFolder

StepNow = Literal["waiting", "running", "complete", "reused", "failed", "dead"]


class StepStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One step. Keys are never renamed, only added."""

    name: str
    folder: str
    """Absolute path of its run folder."""
    state: StepNow
    """`complete` by the last start of the pipeline, or `reused` by it. `failed`: ended otherwise than complete.
    `dead`: the pipeline has gone without leaving a result."""
    run: Status | None
    """As of any run; None where it has not begun."""


class PipelineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `mpibatch status --json` prints of a pipeline; keys are never renamed, only added."""

    folder: str
    name: str
    state: State
    owner: LeaseRecord | None
    steps: list[StepStatus]
    """In the order in which they run."""
    result: PipelineResult | None
    """How the last start ended, if it has."""


def read_pipeline(folder: Path, *, clock: Callable[[], float] = time.time) -> PipelineStatus | None:
    """None where there is no pipeline. StorageError where a file cannot be read."""
    home = RunFolder(folder)
    record = read_pipeline_record(home)
    if record is None:
        return None
    # The lease first: a start leaves its result before it gives the lease back.
    owner = read_lease(home)
    result = read_pipeline_result(home)
    state: State = "running" if lives(owner, clock()) else "dead"
    if result is not None:
        state = "ended"
    steps = [_step(one, state, clock) for one in record.steps]
    return PipelineStatus(
        folder=plain(os.path.abspath(folder)),
        name=record.name,
        state=state,
        owner=owner,
        steps=steps,
        result=result,
    )


def _step(record: StepRecord, state: State, clock: Callable[[], float]) -> StepStatus:
    now: StepNow = record.state
    if now == "running" and state != "running":
        now = "dead"
    run = None
    if now != "waiting":
        try:
            run = read_status(Path(os.fsdecode(record.folder)), clock=clock)
        except RunFolderError:  # It is just about to begin.
            run = None
    return StepStatus(name=record.name, folder=plain(os.fsdecode(record.folder)), state=now, run=run)


def pipeline_text(status: PipelineStatus) -> str:
    """For people: a line a step."""
    lines = [
        f"{'pipeline':<14}{shown(status.name)} in {shown(status.folder)}",
        f"{'state':<14}{_state_words(status)}",
        *(f"{'':<14}{_step_words(step)}" for step in status.steps),
    ]
    result = status.result
    if result is not None and result.outputs:
        name, output = list(result.outputs.items())[-1]
        lines.append(f"{'output':<14}{shown(output)} (of step {shown(name)})")
    if status.state == "dead" or (result is not None and result.verdict != "complete"):
        lines.append(f"{'to go on':<14}start the same command again: what was finished is kept")
    if result is not None and result.first_cause is not None:
        cause = result.first_cause
        log = f", log {shown(cause.log)}" if cause.log is not None else ""
        lines.append(f"{'first cause':<14}step {shown(cause.step)}: {shown(cause.error)}{log}")
    return "\n".join(lines)


def running_words(status: PipelineStatus) -> str:
    """The step that is running, in one line; nothing where none is."""
    return next((_step_words(step) for step in status.steps if step.state == "running"), "")


def _state_words(status: PipelineStatus) -> str:
    match status.state:
        case "running":
            owner = status.owner
            return "running" + (f" (process {owner.pid} on {shown(owner.host)})" if owner is not None else "")
        case "dead":
            return "dead: it has left no result and is gone"
        case "ended":
            result = status.result
            assert result is not None, "an ended pipeline has a result"
            reason = f": {shown(result.reason)}" if result.reason else ""
            return f"ended: {result.verdict.replace('_', ' ')}{reason}, exit code {result.exit_code}"


def _step_words(step: StepStatus) -> str:
    run = step.run
    match step.state:
        case "running" if run is not None and run.progress is not None:
            return f"step {shown(step.name)}: running, {progress_line(run.progress)}"
        case "running" | "waiting" | "dead":
            return f"step {shown(step.name)}: {step.state}"
        case "complete" | "reused" | "failed":
            result = run.result if run is not None else None
            words = step_line(step.name, step.state, result)
            return f"{words}: {verdict_words(result)}" if result and step.state == "failed" else words
