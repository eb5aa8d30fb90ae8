"""What rank 0 does with a pipeline: it coordinates one step after the other, in one world.

The other ranks serve one session after another until they are dismissed; those that a step has no use for idle.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec

from mpibatch.core.pipeline import Pipeline, Step, in_step
from mpibatch.core.ranks import Place
from mpibatch.errors import (
    EXIT_BUG,
    EXIT_COMPLETE,
    EXIT_INTERRUPTED,
    MpibatchError,
    StoppedError,
    StorageError,
)
from mpibatch.monitor.pipeline_summary import of_step, pipeline_summary, step_line
from mpibatch.monitor.progress import Progress
from mpibatch.results import CauseGroup, JobResult, Verdict, plain
from mpibatch.runtime.begin import Reused
from mpibatch.runtime.coordinator_log import log_bindings, log_to
from mpibatch.runtime.local_folder import LOCAL_FOLDER, SESSION_FILE, tell_batch, tell_parent
from mpibatch.runtime.model_links import link_models
from mpibatch.runtime.pipeline_file import missing_words
from mpibatch.runtime.pipeline_home import Home, owned
from mpibatch.runtime.pipeline_record import FirstCause, PipelineResult, StepResult, outputs_of
from mpibatch.runtime.record import any_result
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.session import Ended
from mpibatch.runtime.side_outputs import make_side_outputs
from mpibatch.runtime.stops import Signals
from mpibatch.runtime.transport import Port
from mpibatch.runtime.wall_time import WallTime
from mpibatch.sessions import Sessions, continue_command, ports_of, print_words, roles_of

ProgressOf = Callable[[str], Progress]


def coordinate_pipeline(
    pipeline: Pipeline,
    *,
    places: list[Place],
    port: Port | None,
    fresh: bool,
    progress_of: ProgressOf,
    started_at: float,
    first_started_at: float,
) -> tuple[int, bool]:
    """Run the pipeline from rank 0: (exit code, whether the end was orderly). `progress_of` makes what shows a step;
    the times are as of `rank.coordinate`."""
    signals = Signals()
    signals.install()
    world = _World(places, port, signals, started_at, first_started_at)
    opening = progress_of(pipeline.name)
    try:
        with owned(pipeline, fresh=fresh, say=opening.say) as home:
            # What --fresh asks for is noted there: from now on the pipeline is to be continued.
            tell_parent(SESSION_FILE)
            tell_batch("session")
            for words in [*(f"warning: {one}" for one in pipeline.remarks), *missing_words(pipeline)]:
                opening.say(words)
            opening.close()
            return _Run(pipeline, home, world, progress_of).run(), world.orderly
    except StoppedError as error:
        tell_batch(f"{error.exit_code} {world.asked_by}")
        raise
    finally:
        opening.close()


class _World:
    """The ranks, over all steps."""

    def __init__(
        self,
        places: list[Place],
        port: Port | None,
        signals: Signals,
        started_at: float,
        first_started_at: float,
    ) -> None:
        self.places = places
        self.port = port
        self.signals = signals
        self.started_at = started_at
        self.first_started_at = first_started_at
        self.orderly = True
        self.lost: frozenset[int] = frozenset()
        """Ranks that will not come back."""
        self.asked_by = "other"

    def run_step(self, step: Step, home: Home, progress: Progress) -> Ended | JobResult:
        """How its session ended, or the result of the run that is reused."""
        job = step.job
        if LOCAL_FOLDER in os.environ and job.process_count_per_node is None:
            # The launcher here was started by us for the largest step: it says nothing about this one.
            job = msgspec.structs.replace(job, process_count_per_node=1)
        roles = roles_of(job, self.places, progress.say)
        port, local = ports_of(self.port, roles, self.places[0].host)
        wall_time = WallTime(
            margin_s=job.drain_margin, started_at=self.first_started_at, limit_s=job.time_limit
        )
        stop = RunFolder(job.output).stop
        sessions = Sessions(
            self.signals, stop, wall_time, roles, port, local, gone=self.lost, above=home.folder.stop
        )
        try:
            with self.signals.breaking_off():
                home.refuse_stop()
                begun = home.begin(
                    step,
                    say=progress.say,
                    no_return=self.signals.no_return,
                    run_round=sessions.round_of(progress.say),
                )
            if isinstance(begun, Reused):
                return begun.result
            make_side_outputs(job)
            link_models(job, begun.folder)
            log_to(begun, job.logging_level, progress.say)
            log_bindings(roles)
            try:
                ended = sessions.run(job, begun, progress, time.monotonic())
            finally:
                begun.plan.close()
                begun.lease.release()
        finally:
            self.asked_by = sessions.asked_by
            self.lost |= sessions.lost_ranks
            if local is not None and not local.over:
                local.abandon()
        self.orderly = self.orderly and ended.orderly
        return ended


class _Run:
    """One start of the pipeline."""

    def __init__(self, pipeline: Pipeline, home: Home, world: _World, progress_of: ProgressOf) -> None:
        self._pipeline = pipeline
        self._home = home
        self._world = world
        self._progress_of = progress_of
        self._causes: list[CauseGroup] = []

    def run(self) -> int:
        """All steps, or up to the first that does not complete; the exit code."""
        for number, step in enumerate(self._pipeline.steps, 1):
            try:
                result = self._step(step, number)
            except MpibatchError as error:
                raise self._break_off(step, error) from error
            except BaseException as error:
                code = EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else EXIT_BUG
                self._leave(step, "failed", code, f"{type(error).__name__}: {error}")
                raise
            if result.verdict != "complete":
                return self._end_at(step, result)
        return self._end()

    def _step(self, step: Step, number: int) -> JobResult:
        progress = self._progress_of(step.name)
        try:
            progress.say(f"step {step.name} ({number} of {len(self._pipeline.steps)}): {step.job.output}")
            self._home.set_state(step.name, "running")
            ended = self._world.run_step(step, self._home, progress)
            if not isinstance(ended, Ended):
                self._home.set_state(step.name, "reused")
                progress.say(step_line(step.name, "reused", ended))
                return ended
            if ended.result.verdict == "complete":
                self._home.set_state(step.name, "complete")
                progress.say(step_line(step.name, "complete", ended.result))
            else:
                self._causes = ended.causes
                why = "lost" if ended.all_lost else self._world.asked_by
                tell_batch(f"{ended.result.exit_code} {why}")
            return ended.result
        finally:
            progress.close()

    def _end(self) -> int:
        result = self._result("complete", EXIT_COMPLETE, "", None)
        self._home.leave(result)
        print_words(pipeline_summary(self._pipeline.name, result))
        return EXIT_COMPLETE

    def _end_at(self, step: Step, ended: JobResult) -> int:
        self._home.set_state(step.name, "failed")
        told, cause = of_step(step.name, ended), ended.first_cause
        if cause is not None:
            first = FirstCause(step=step.name, **msgspec.structs.asdict(cause))
        else:
            first = FirstCause(step=step.name, error=ended.reason)
        result = self._result(ended.verdict, ended.exit_code, told.reason, first)
        self._home.leave(result)
        again = continue_command()
        print_words(pipeline_summary(self._pipeline.name, result, told, self._causes, continue_command=again))
        return ended.exit_code

    def _break_off(self, step: Step, error: MpibatchError) -> MpibatchError:
        """The same error, with the step that it is of."""
        words = in_step(step.name, str(error))
        verdict: Verdict = "stopped" if isinstance(error, StoppedError) else "failed"
        self._leave(step, verdict, error.exit_code, str(error))
        return type(error)(words)

    def _leave(self, step: Step, verdict: Verdict, code: int, reason: str) -> None:
        first = FirstCause(step=step.name, error=plain(reason))
        try:
            self._home.set_state(step.name, "failed")
            result = self._result(verdict, code, plain(in_step(step.name, reason)), first)
            self._home.leave(result)
        except (StorageError, StoppedError):
            return  # What has broken the step off is told; and if another start owns the folder, it will write.
        if any(one.state in ("complete", "reused") for one in result.steps.values()):
            print_words(pipeline_summary(self._pipeline.name, result))

    def _result(self, verdict: Verdict, code: int, reason: str, first: FirstCause | None) -> PipelineResult:
        states = {one.name: one.state for one in self._home.record.steps}
        steps = self._pipeline.steps
        done = [step for step in steps if states[step.name] in ("complete", "reused")]
        return PipelineResult(
            verdict=verdict,
            exit_code=code,
            reason=reason,
            elapsed_s=round(time.monotonic() - self._world.started_at, 6),
            steps={
                step.name: StepResult(
                    state=states[step.name],
                    folder=plain(step.job.output),
                    result=None if states[step.name] == "waiting" else any_result(RunFolder(step.job.output)),
                )
                for step in steps
            },
            first_cause=first,
            outputs=outputs_of(done),
        )
