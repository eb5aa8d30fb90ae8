"""How a submitted run stands, from its folder: any process, on any machine that sees it, can ask.

Slurm's queue is asked only where the process that waits for the end of the job is gone.
"""

from __future__ import annotations

import contextlib
from typing import Literal, assert_never

from mpibatch.api.run_home import RunHome
from mpibatch.errors import EXIT_COMPLETE, MpibatchError
from mpibatch.monitor.pipeline_status import PipelineStatus, StepNow, read_pipeline

RunStatus = Literal["NotStarted", "Queued", "Running", "CancelRequested", "Finished", "Failed", "Canceled"]
"""As the reference's PipelineRun.get_status."""
OVER: tuple[RunStatus, ...] = ("Finished", "Failed", "Canceled")
_LINES = 25
"""Of the log, where there is no result to go by."""


def pipeline_status(home: RunHome) -> PipelineStatus | None:
    """None where it has not begun."""
    with contextlib.suppress(MpibatchError):  # Its files are just being replaced.
        return read_pipeline(home.pipeline.root)
    return None


def run_status(home: RunHome) -> RunStatus:
    asked = home.cancelled.exists() or home.pipeline.stop.exists()
    submission = home.submission()
    lives = submission.keeper.lives() if submission.keeper is not None else True
    code = home.exit_code()  # After the keeper was looked at, which leaves it before it ends.
    if code is not None:
        return "Finished" if code == EXIT_COMPLETE else "Canceled" if asked else "Failed"
    status = pipeline_status(home)
    if lives is False or (lives is None and status is not None and status.state != "running"):
        return _without_keeper(home, status, asked=asked, slurm=submission.slurm)
    if status is None:
        return "Queued" if submission.slurm else "NotStarted"
    return "CancelRequested" if asked else "Running"


def _without_keeper(home: RunHome, status: PipelineStatus | None, *, asked: bool, slurm: bool) -> RunStatus:
    """The machine it was on was started anew perhaps, or its user's processes were ended: a job of Slurm goes on."""
    result = status.result if status is not None else None
    if result is not None and result.verdict == "complete":
        return "Finished"
    goes_on: RunStatus | None = "Running"
    if status is None or status.state != "running":
        # Between two of its starts, when it was put back into the queue, the job looks dead or ended.
        goes_on = _in_queue(home) if slurm else None
    if goes_on is None:
        return "Canceled" if asked else "Failed"
    return "CancelRequested" if asked else goes_on


def _in_queue(home: RunHome) -> RunStatus | None:
    """Of its job; None where that has ended, or never was."""
    from mpibatch.slurm.queue import look
    from mpibatch.slurm.submit import Beside

    last = Beside(str(home.pipeline.root)).last()
    if last is None:
        return None
    seen = look([last.job])
    if seen is None:
        return "Queued"  # Slurm does not answer: of that nothing ends.
    there = [one.state for one in seen if not one.ended]
    if not there:
        return None
    return "Queued" if there == ["PENDING"] else "Running"


def step_status(now: StepNow | None, run: RunStatus) -> RunStatus:
    """Of a step, in a run with this status. None: the pipeline has not begun."""
    match now:
        case None | "waiting":
            return "Canceled" if run in OVER else "NotStarted"
        case "running":
            return run if run in OVER else "Running"
        case "complete" | "reused":
            return "Finished"
        case "failed" | "dead":
            return "Canceled" if run == "Canceled" else "Failed"
        case _:
            assert_never(now)


def failure_words(home: RunHome, status: RunStatus) -> str:
    """Why a run has not come to its end: its first cause, and where to look."""
    told = pipeline_status(home)
    result = told.result if told is not None else None
    ended = "was stopped" if status == "Canceled" else "has failed"
    again = "What is finished is kept: run.resume() goes on with it."
    log = f"All that it printed is in {home.log}"
    if result is None or result.first_cause is None:
        return f"the pipeline run {home.id} {ended}. {again}\n{log}, at its end:\n{log_end(home)}"
    cause = result.first_cause
    words = f"step {cause.step}: {cause.error}"
    if cause.item is not None:
        words += f" (item {cause.item})"
    of_log = f"\nIts traceback or output: {cause.log}" if cause.log is not None else ""
    reason = f" ({result.reason})" if result.reason and cause.error not in result.reason else ""
    return f"the pipeline run {home.id} {ended}{reason}. {again}{of_log}\n{log}\nFirst cause: {words}"


def log_end(home: RunHome) -> str:
    """The last lines of what it has printed."""
    try:
        lines = home.log.read_text(errors="backslashreplace").splitlines()
    except OSError:
        return "(nothing)"
    return "\n".join(lines[-_LINES:]) or "(nothing)"
