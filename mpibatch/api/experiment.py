"""`Experiment`: a name in the workspace under which runs of pipelines are kept.

Source: Microsoft's public reference of azureml.core.Experiment.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.api.launching import start
from mpibatch.api.pipeline import Pipeline
from mpibatch.api.refusals import ApiError, refuse, tell_once
from mpibatch.api.run_home import FORMAT, STEPS, RunHome, Submission, experiment_folder, homes, new_home
from mpibatch.core.settings import shown

if TYPE_CHECKING:
    from mpibatch.api.runs import PipelineRun
    from mpibatch.api.workspace import Workspace

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{1,254}")


class Experiment:
    """`Experiment(workspace, "digits").submit(pipeline)`."""

    def __init__(self, workspace: Workspace, name: str, **others: Any) -> None:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ApiError(
                f"Experiment: name is {shown(name)}:"
                " must be 2 to 255 letters, digits, _, . and -, not beginning with . or -"
            )
        self.workspace = workspace
        self.name = name

    def submit(
        self, config: Pipeline, tags: Mapping[str, str] | None = None, *,
        pipeline_parameters: Mapping[str, Any] | None = None, continue_on_step_failure: bool = False,
        regenerate_outputs: bool = False, **others: Any,
    ) -> PipelineRun:  # fmt: skip
        """Start a run of the pipeline, and give it back while it goes on; it does not end with this process.

        What is wrong with the pipeline is raised here, before anything runs. A step with `allow_reuse` whose inputs,
        script and settings are as in an earlier submission is not run again, or continued where it was left;
        `regenerate_outputs` runs all of them.
        """
        from mpibatch.api.runs import PipelineRun

        if not isinstance(config, Pipeline):
            refuse(
                f"Experiment.submit({type(config).__name__})",
                "make a Pipeline(workspace, steps=[ParallelRunStep(...)]), and submit that",
            )
        if continue_on_step_failure:
            raise ApiError(
                "continue_on_step_failure: a pipeline ends at the first step that is not complete; submit it again"
                " to go on there, or submit steps that do not need each other as pipelines of their own"
            )
        home = new_home(self.workspace, self.name)
        try:
            submission = self._written(home, config, tags, pipeline_parameters, anew=regenerate_outputs)
            keeper = start(home, slurm=submission.slurm)
        except BaseException:
            # What runs already, though a Ctrl-C has come, is found by get_runs().
            if not home.log.exists():
                shutil.rmtree(home.folder, ignore_errors=True)
            raise
        home.save(msgspec.structs.replace(submission, keeper=keeper))
        return PipelineRun(self, home.id)

    def _written(
        self, home: RunHome, pipeline: Pipeline, tags: Mapping[str, str] | None,
        parameters: Mapping[str, Any] | None, *, anew: bool,
    ) -> Submission:  # fmt: skip
        shared = experiment_folder(self.workspace, self.name) / STEPS
        places = pipeline.write(home.pipeline_file, parameters, shared, anew=anew)
        slurm = pipeline.compute(parameters) is not None
        if not slurm:
            _tell_of_nodes(pipeline)
        submission = Submission(
            format=FORMAT,
            experiment=self.name,
            id=home.id,
            description=pipeline.description,
            tags={str(key): str(value) for key, value in (tags or {}).items()},
            submitted_at=time.time(),
            parameters={key: repr(value) for key, value in (parameters or {}).items()},
            steps=places,
            slurm=slurm,
        )
        home.save(submission)
        return submission

    def get_runs(
        self, type: Any = None, tags: Mapping[str, str] | str | None = None, properties: Any = None,
        include_children: bool = False,
    ) -> Iterator[PipelineRun]:  # fmt: skip
        """All that were submitted, the latest first; with `tags`, those that have them."""
        from mpibatch.api.runs import PipelineRun

        wanted = {tags: None} if isinstance(tags, str) else dict(tags or {})
        for home in homes(self.workspace, self.name):
            has = home.submission().tags
            if all(name in has and value in (None, has[name]) for name, value in wanted.items()):
                yield PipelineRun(self, home.id)

    @staticmethod
    def list(workspace: Workspace, experiment_name: str | None = None, **others: Any) -> list[Experiment]:
        """Those that have runs."""
        runs = Path(workspace.folder) / "runs"
        names = sorted(entry.name for entry in runs.iterdir() if entry.is_dir()) if runs.is_dir() else []
        return [Experiment(workspace, name) for name in names if experiment_name in (None, name)]

    def start_logging(self, *others: Any, **also: Any) -> None:
        refuse(
            "Experiment.start_logging",
            "a script logs by Run.get_context().log(...), and run.get_metrics() reads it",
        )

    def __repr__(self) -> str:
        return f"Experiment({self.name}, {self.workspace!r})"


def _tell_of_nodes(pipeline: Pipeline) -> None:
    """On this machine there is one node, whatever the configuration for a cluster asks for."""
    for step in pipeline.steps:
        if step.parallel_run_config.mapping({}).get("node_count", 1) != 1:
            tell_once(
                "node_count is for clusters: without compute_target=SlurmCompute(...) a pipeline runs on this"
                " machine, with process_count_per_node processes"
            )
