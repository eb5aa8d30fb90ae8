"""`StepRun`: a step of a submitted pipeline.

Source: Microsoft's public reference of azureml.pipeline.core.StepRun.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibatch.api.refusals import NotFoundError
from mpibatch.api.run_home import StepPlace
from mpibatch.api.run_state import RunStatus, pipeline_status, step_status
from mpibatch.api.step_outputs import StepRunOutput
from mpibatch.core.settings import did_you_mean, shown
from mpibatch.monitor.pipeline_status import StepStatus
from mpibatch.monitor.summary import summary
from mpibatch.runtime.pipeline_record import read_pipeline_result
from mpibatch.runtime.record import any_result
from mpibatch.runtime.run_folder import RunFolder

if TYPE_CHECKING:
    from mpibatch.api.runs import PipelineRun


class StepRun:
    """What `pipeline_run.find_step_run(name)` gives."""

    def __init__(self, run: PipelineRun, place: StepPlace) -> None:
        self.parent = run
        self.name = place.name
        self.folder = place.folder
        """Its run folder: rows, logs, failed items."""
        self._place = place

    @property
    def id(self) -> str:
        return f"{self.parent.id}-{self.name}"

    @property
    def pipeline_run_id(self) -> str:
        return self.parent.id

    @property
    def status(self) -> RunStatus:
        return self.get_status()

    def get_status(self) -> RunStatus:
        """NotStarted, Running, Finished, Failed or Canceled. A step that was reused is Finished."""
        run = self.parent.get_status()  # Before the step is looked at, which ends before the run.
        now = self._now()
        return step_status(now.state if now is not None else None, run)

    @property
    def is_reused(self) -> bool:
        """Whether this run had nothing to do for it, as an earlier one had done it."""
        now = self._now()
        return now is not None and now.state == "reused"

    def _now(self) -> StepStatus | None:
        status = pipeline_status(self.parent.home)
        steps = status.steps if status is not None else []
        return next((one for one in steps if one.name == self.name), None)

    def wait_for_completion(
        self, show_output: bool = True, timeout_seconds: float | None = None, raise_on_error: bool = True
    ) -> RunStatus:
        """As of the pipeline's run, of which this is a part."""
        self.parent.wait_for_completion(show_output, timeout_seconds, raise_on_error)
        return self.get_status()

    def get_output_data(self, name: str | None = None) -> StepRunOutput:
        """What the step makes under this name; without one, its only output."""
        there = self.get_outputs()
        if name is None and len(there) == 1:
            return next(iter(there.values()))
        if name not in there:
            has = f"it has {', '.join(there)}" if there else "it has none: give it output=PipelineData(...)"
            raise NotFoundError(
                f"step {self.name} has no output {shown(name)}{did_you_mean(str(name), there)}; {has}"
            )
        return there[str(name)]

    get_output = get_output_data

    def get_outputs(self) -> dict[str, StepRunOutput]:
        """By name."""
        return {
            one.output: StepRunOutput(one, self.folder, self.id, self._check_own)
            for one in self._place.outputs
        }

    def _check_own(self) -> None:
        """Raises NotFoundError where a later submission has run the step again, in the same folder."""
        told = read_pipeline_result(self.parent.home.pipeline)
        step = told.steps.get(self.name) if told is not None else None
        if step is not None and step.result is not None and any_result(RunFolder(self.folder)) != step.result:
            raise NotFoundError(
                f"step {self.name} of run {self.parent.id} has been run again since, by a later submission, and what"
                f" is in {self.folder} is that one's. Take the later run's output; a ParallelRunStep with"
                " allow_reuse=False has a folder of its own in each submission"
            )

    def get_metrics(self, name: str | None = None) -> dict[str, Any]:
        """What its script has logged by `Run.log` and the like: by name, the value, or a list of all of them in the
        order of time. Whole once the step has ended."""
        found: dict[str, list[Any]] = {}
        for line in self._metrics():
            values = found.setdefault(line["name"], [])
            values += line["list"] if "list" in line else [line[kind] for kind in _KINDS if kind in line]
        return {
            one: values[0] if len(values) == 1 else values
            for one, values in found.items()
            if values and name in (None, one)
        }

    def _metrics(self) -> Iterator[dict[str, Any]]:
        self._check_own()
        try:
            with open(RunFolder(self.folder).metrics, encoding="utf-8") as file:
                yield from map(json.loads, file)
        except FileNotFoundError:
            return

    def get_file_names(self) -> list[str]:
        """Of its run folder, and paths below it."""
        return files_below(self.folder)

    def download_file(self, name: str, output_file_path: str | os.PathLike[str] | None = None) -> None:
        """One of `get_file_names()`, to a path or into a folder; without one, here."""
        copy_out(self.folder, name, output_file_path)

    def get_portal_url(self) -> str:
        """The run folder: there is no portal."""
        return self.folder

    def get_details(self) -> dict[str, Any]:
        return {
            "runId": self.id,
            "status": self.get_status(),
            "folder": self.folder,
            "logs": f"{self.folder}/logs",
        }

    def get_job_log(self, *others: Any, **also: Any) -> str:
        """The summary of its run, whose last line is the first cause where it has failed; empty before its end."""
        result = any_result(RunFolder(self.folder))
        if result is None:
            return ""
        return summary(result, [], continue_command="", going_on="submit the pipeline again, or run.resume()")

    def get_stdout_log(self) -> str:
        """What its processors have printed, one after another."""
        return self._streams("stdout")

    def get_stderr_log(self) -> str:
        return self._streams("stderr")

    def _streams(self, which: str) -> str:
        files = sorted((Path(self.folder) / "logs" / "user" / which).glob("*/*"))
        return "".join(map(_text, files))

    def __repr__(self) -> str:
        return f"StepRun({self.name}, {self.get_status()}, {self.folder})"


_KINDS = ("value", "row", "table", "image")


def files_below(folder: str) -> list[str]:
    """All that people have use for: what is hidden is ours."""
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        found += [
            os.path.relpath(os.path.join(place, name), folder) for name in names if not name.startswith(".")
        ]
    return sorted(found)


def copy_out(folder: str, name: str, target: str | os.PathLike[str] | None) -> None:
    """Copy the file `name` of a folder to a path, or into a folder."""
    from mpibatch.api.datastores import copy_file

    names = files_below(folder)
    if name not in names:
        raise NotFoundError(f"{folder} has no file {shown(name)}{did_you_mean(name, names)}")
    base = os.path.basename(name)
    to = os.path.abspath(os.path.expanduser(target)) if target is not None else os.path.abspath(base)
    copy_file(os.path.join(folder, name), os.path.join(to, base) if os.path.isdir(to) else to, overwrite=True)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="backslashreplace")
    except OSError:
        return ""
