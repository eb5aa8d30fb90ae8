"""`PipelineRun`: a pipeline that was submitted. It goes on by itself; this only looks at its folder.

Source: Microsoft's public reference of azureml.pipeline.core.PipelineRun.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.api.launching import start
from mpibatch.api.plain import RunFailed
from mpibatch.api.refusals import ApiError, NotFoundError
from mpibatch.api.run_home import RunHome, find_home
from mpibatch.api.run_state import OVER, RunStatus, failure_words, pipeline_status, run_status
from mpibatch.api.step_outputs import StepRunOutput
from mpibatch.api.step_runs import StepRun, copy_out, files_below
from mpibatch.core.settings import did_you_mean, shown
from mpibatch.errors import EXIT_BUG, LaunchError, RunFolderError
from mpibatch.monitor.pipeline_status import pipeline_text
from mpibatch.monitor.stop import ask_to_stop
from mpibatch.runtime.files import write_whole

if TYPE_CHECKING:
    from mpibatch.api.experiment import Experiment
    from mpibatch.api.workspace import Workspace

_LOOK_S = 0.2
_AT_ONCE = 1 << 20
"""Bytes of the log that are read together."""


class PipelineRun:
    """`Experiment.submit(pipeline)` gives it; `PipelineRun.get(workspace, id)` finds it again, from anywhere."""

    def __init__(self, experiment: Experiment, run_id: str, **others: Any) -> None:
        self.experiment = experiment
        self.home: RunHome = find_home(experiment.workspace, run_id, experiment.name)

    @staticmethod
    def get(workspace: Workspace, run_id: str, **others: Any) -> PipelineRun:
        from mpibatch.api.experiment import Experiment

        home = find_home(workspace, run_id)
        return PipelineRun(Experiment(workspace, home.folder.parent.name), run_id)

    @property
    def id(self) -> str:
        return self.home.id

    @property
    def name(self) -> str:
        return self.home.id

    @property
    def status(self) -> RunStatus:
        return self.get_status()

    def get_status(self) -> RunStatus:
        """NotStarted, Queued (by Slurm), Running, CancelRequested, Finished, Failed or Canceled."""
        return run_status(self.home)

    def wait_for_completion(
        self, show_output: bool = True, timeout_seconds: float | None = None, raise_on_error: bool = True
    ) -> RunStatus:
        """Until it has ended, showing what it prints. RunFailed, whose text is the first cause, if it has failed.

        After `timeout_seconds`, and after Ctrl-C, the run goes on. The first raises TimeoutError.
        """
        end = time.monotonic() + timeout_seconds if timeout_seconds is not None else None
        keeper = self.home.submission().keeper
        shown_until = keeper.log_from if keeper is not None else 0
        try:
            while (status := self.get_status()) not in OVER:
                shown_until = self._show(shown_until) if show_output else shown_until
                if end is not None and time.monotonic() >= end:
                    raise TimeoutError(
                        f"the pipeline run {self.id} is {status} after {timeout_seconds} s; {_GOES_ON}"
                    )
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            print(
                f"Nobody waits for the pipeline run {self.id} any more; {_GOES_ON}",
                file=sys.stderr,
                flush=True,
            )
            raise
        if show_output:
            self._show(shown_until)
        if status == "Finished":
            self._register()
        elif raise_on_error:
            code = self.home.exit_code()
            raise RunFailed(failure_words(self.home, status), code or EXIT_BUG, str(self.home.folder))
        return status

    def _register(self) -> None:
        """Outputs that are to be datasets of the workspace. The same data once more are the same version."""
        from mpibatch.api.data import FileDataset

        workspace = self.experiment.workspace
        for step in self.get_steps():
            for output in step.get_outputs().values():
                if output.registered_as is not None:
                    data = FileDataset.from_files(f"{output.folder}/")
                    data.register(workspace, output.registered_as, create_new_version=True)

    def _show(self, start: int) -> int:
        """Print what is new in the log from the byte `start` on; up to where."""
        with contextlib.suppress(FileNotFoundError), open(self.home.log, "rb") as file:
            file.seek(start)
            while data := file.read(_AT_ONCE):
                sys.stdout.write(data.decode("utf-8", "backslashreplace"))
                start += len(data)
            sys.stdout.flush()
        return start

    def cancel(self) -> None:
        """Ask it to stop: what is running may finish. A second time: that is given up. A run that has ended stays."""
        if self.get_status() in OVER:
            return
        write_whole(self.home.cancelled, b"")
        status = pipeline_status(self.home)
        # Only where it has written its record: what is asked earlier, it takes for something of an earlier start.
        if status is not None and status.state == "running":
            with contextlib.suppress(RunFolderError):  # It has just ended.
                ask_to_stop(self.home.pipeline.root)
        else:
            self._cancel_before()

    def _cancel_before(self) -> None:
        submission = self.home.submission()
        if submission.slurm:
            from mpibatch.slurm.queue import cancel
            from mpibatch.slurm.submit import Beside

            last = Beside(str(self.home.pipeline.root)).last()
            if last is not None:
                cancel(last.job)
                return
        keeper = submission.keeper
        if keeper is not None and keeper.lives():
            # Not the keeper itself: it waits for the others of its group, to which it means a request to stop.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(keeper.pid, signal.SIGTERM)
        elif keeper is not None and keeper.lives() is None:
            raise ApiError(
                f"the run {self.id} is just starting on {keeper.host}: cancel it there, or in a moment"
            )

    def resume(self) -> None:
        """Go on with a run that has failed or was stopped: what is finished is kept. Not while it goes on."""
        status = self.get_status()
        if status not in OVER:
            raise LaunchError(
                f"the run {self.id} is {status}: wait_for_completion() waits for it, cancel() stops it"
            )
        submission = self.home.submission()
        keeper = start(self.home, slurm=submission.slurm)
        self.home.save(msgspec.structs.replace(submission, keeper=keeper))

    def get_steps(self) -> list[StepRun]:
        """In the order in which they run."""
        return [StepRun(self, place) for place in self.home.submission().steps]

    def get_children(self, recursive: bool = False, **others: Any) -> Iterator[StepRun]:
        return iter(self.get_steps())

    def find_step_run(self, name: str) -> list[StepRun]:
        """Those of this name: one, or none."""
        return [step for step in self.get_steps() if step.name == name]

    def get_pipeline_output(self, pipeline_output_name: str) -> StepRunOutput:
        """Of whatever step makes it."""
        there = {name: output for step in self.get_steps() for name, output in step.get_outputs().items()}
        if pipeline_output_name not in there:
            near = did_you_mean(pipeline_output_name, there)
            has = f"has {', '.join(there)}" if there else "has none"
            raise NotFoundError(f"the run {self.id} {has}, and no output {shown(pipeline_output_name)}{near}")
        return there[pipeline_output_name]

    get_output_data = get_output = get_pipeline_output

    def get_metrics(self, name: str | None = None) -> dict[str, Any]:
        """What the scripts of all steps have logged, by name: see `StepRun.get_metrics`."""
        return {key: value for step in self.get_steps() for key, value in step.get_metrics(name).items()}

    @property
    def tags(self) -> dict[str, str]:
        return self.home.submission().tags

    def get_tags(self) -> dict[str, str]:
        return self.tags

    def tag(self, key: str, value: str | None = None) -> None:
        submission = self.home.submission()
        self.home.save(msgspec.structs.replace(submission, tags={**submission.tags, key: value or ""}))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.tag(key, value)

    def get_file_names(self) -> list[str]:
        """Of its folder, and paths below it. Steps that may be reused have folders of their own."""
        return files_below(str(self.home.folder))

    def download_file(self, name: str, output_file_path: str | os.PathLike[str] | None = None) -> None:
        copy_out(str(self.home.folder), name, output_file_path)

    def get_portal_url(self) -> str:
        """Its folder: there is no portal."""
        return str(self.home.folder)

    def get_details(self) -> dict[str, Any]:
        submission = self.home.submission()
        return {
            "runId": self.id,
            "status": self.get_status(),
            "experiment": submission.experiment,
            "submittedAt": submission.submitted_at,
            "parameters": submission.parameters,
            "tags": submission.tags,
            "folder": str(self.home.folder),
            "logFiles": {"log.txt": str(self.home.log)},
            "steps": {
                step.name: {"status": step.get_status(), "folder": step.folder} for step in self.get_steps()
            },
        }

    def progress_text(self) -> str:
        """How it stands, in lines."""
        status = pipeline_status(self.home)
        told = pipeline_text(status) if status is not None else "it has not begun yet"
        return f"pipeline run {self.id}: {self.get_status()}\n{told}"

    def __repr__(self) -> str:
        return f"PipelineRun({self.experiment.name}, {self.id}, {self.get_status()}, {self.home.folder})"


Run = PipelineRun

_GOES_ON = "it goes on. wait_for_completion() waits again, cancel() stops it, PipelineRun.get(workspace, id) finds it"
