"""`Pipeline`: steps that take each other's data, as a pipeline file of our own.

Source: Microsoft's public reference of azureml.pipeline.core.Pipeline.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibatch.api.compute import SlurmCompute
from mpibatch.api.outputs import OutputFileDatasetConfig
from mpibatch.api.parameters import PipelineParameter, check_parameters
from mpibatch.api.refusals import ApiError, need, refuse
from mpibatch.api.run_home import StepPlace
from mpibatch.api.step_jobs import Made, Surroundings, made_by, step_mapping
from mpibatch.api.steps import Output, ParallelRunStep, output_in
from mpibatch.errors import MpibatchError
from mpibatch.runtime.files import write_whole

if TYPE_CHECKING:
    from mpibatch.api.runs import PipelineRun
    from mpibatch.api.workspace import Workspace

_NO_OTHER_RUN = frozenset(
    (
        *(
            "process_count_per_node",
            "node_count",
            "logging_level",
            "allow_reuse",
            "run_max_try",
            "retry_backoff",
        ),
        *("error_threshold", "mini_batch_error_threshold", "allowed_failed_count", "allowed_failed_percent"),
        *("run_invocation_timeout", "init_timeout", "shutdown_timeout", "finalize_timeout", "term_grace_s"),
        *("progress_update_timeout", "heartbeat_timeout", "max_restarts", "time_limit", "drain_margin"),
    )
)
"""How a step is run, and when it is given up. Where only these are other ones, what succeeded is kept."""


class Pipeline:
    """`steps` run in the order of their data, and else as they are listed."""

    def __init__(
        self, workspace: Workspace, steps: Sequence[Any], description: str | None = None,
        default_datastore: Any = None, default_source_directory: Any = None, resolve_closure: bool = True,
        **others: Any,
    ) -> None:  # fmt: skip
        self.workspace = workspace
        self.steps = list(_flat(steps))
        self.description = description or ""
        need("Pipeline", bool(self.steps), "steps is empty: give at least one ParallelRunStep")
        names = [step.name for step in self.steps]
        for name in names:
            need(
                "Pipeline",
                names.count(name) == 1,
                f"two steps are named {name}: each needs a name of its own",
            )
        self._makers = self._find_makers()
        for step in self.steps:
            self._check_reads(step)
        self.compute()

    def compute(self, given: Mapping[str, Any] | None = None) -> SlurmCompute | None:
        """Where all of it runs; None: on this machine. ApiError where steps want different places."""
        first, *others = self.steps
        target = first.parallel_run_config.compute(given)
        for step in others:
            other = step.parallel_run_config.compute(given)
            if other != target:
                raise ApiError(
                    f"step {first.name} has compute_target {target or 'local'}, and step {step.name}"
                    f" {other or 'local'}: all steps of a pipeline run in one place. Give them one compute_target, or"
                    " submit two pipelines"
                )
        return target

    def parameters(self) -> Iterator[PipelineParameter]:
        for step in self.steps:
            yield from step.parameters()

    def submit(
        self, experiment_name: str, pipeline_parameters: Mapping[str, Any] | None = None,
        continue_on_step_failure: bool = False, regenerate_outputs: bool = False, **others: Any,
    ) -> PipelineRun:  # fmt: skip
        """As `Experiment(workspace, experiment_name).submit(pipeline)`."""
        from mpibatch.api.experiment import Experiment

        return Experiment(self.workspace, experiment_name).submit(
            self, pipeline_parameters=pipeline_parameters, continue_on_step_failure=continue_on_step_failure,
            regenerate_outputs=regenerate_outputs,
        )  # fmt: skip

    def validate(self) -> list[str]:
        """What is wrong, as far as can be seen before it runs; empty if nothing is."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.write(Path(folder) / "pipeline.yaml", {}, Path(folder) / "steps", anew=True)
            except MpibatchError as error:
                return [str(error)]
        return []

    def publish(self, *others: Any, **also: Any) -> None:
        refuse(
            "Pipeline.publish", "keep the code that makes the pipeline, or the pipeline.yaml of a run of it"
        )

    def write(
        self, file: Path, pipeline_parameters: Mapping[str, Any] | None, shared: Path, *, anew: bool
    ) -> list[StepPlace]:
        """Write the pipeline file, and check it. `shared`: where steps lie that may be reused; `anew`: none is.

        Raises an MpibatchError where something is wrong, before anything runs."""
        from mpibatch.runtime.pipeline_file import load_any

        given = check_parameters(self.parameters(), pipeline_parameters)
        mapping, places = self._mapping(file.parent, given, shared, anew=anew)
        write_whole(
            file, json.dumps(mapping, indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape")
        )
        load_any(file)
        return places

    def _mapping(
        self, folder: Path, given: Mapping[str, Any], shared: Path, *, anew: bool
    ) -> tuple[dict[str, Any], list[StepPlace]]:
        made = self._made(given, run_id=folder.name)
        around = Surroundings(made=made, given=given, models=self.workspace.job_models())
        slurm = self.compute(given)
        steps: dict[str, Any] = {}
        places: dict[str, StepPlace] = {}
        own = folder / "pipeline"
        for step in self._in_order():
            keys = step_mapping(step, around)
            if slurm is None:
                keys.pop("node_count", None)
            needs = sorted({self._makers[one.name].name for one, _ in step.reads()} - {step.name})
            lies = own / step.name
            if step.allow_reuse and not anew:
                lies = shared / f"{step.name}-{_identity(keys, [places[name].folder for name in needs])}"
            keys["output"] = str(lies)
            outputs = [one for one in made.values() if one.step == step.name]
            for one in outputs:
                if one.is_folder and one.rows_file is not None:
                    keys["copy_output_to"] = f"{one.destination or lies / one.output}/{one.rows_file}"
            steps[step.name] = keys
            places[step.name] = StepPlace(name=step.name, folder=str(lies), outputs=outputs)
        top = {"slurm": slurm.job_keys()} if slurm is not None else {}
        # Names of pipelines are as those of jobs, and the folder's would not be one.
        return {"name": self.steps[0].name, "output": str(own), **top, "steps": steps}, list(places.values())

    def _made(self, given: Mapping[str, Any], run_id: str) -> dict[str, Made]:
        as_path = {
            output.name
            for step in self.steps
            for output, is_path in step.reads()
            if is_path and self._makers[output.name] is not step
        }
        return {
            name: made_by(maker, self._outputs[name], given, as_path=name in as_path, run_id=run_id)
            for name, maker in self._makers.items()
        }

    def _find_makers(self) -> dict[str, ParallelRunStep]:
        """Which step makes each output, by its name."""
        makers: dict[str, ParallelRunStep] = {}
        self._outputs: dict[str, Output] = {}
        of_arguments = [
            (step, one)
            for step in self.steps
            for one in step.arguments
            if isinstance(one, OutputFileDatasetConfig) and one is not step.output
        ]
        # What no step has as its output is made by the first whose arguments have it.
        for step, output in [*((step, step.output) for step in self.steps if step.output), *of_arguments]:
            maker = makers.setdefault(output.name, step)
            if self._outputs.setdefault(output.name, output) is not output or (
                maker is not step and output is step.output
            ):
                raise ApiError(
                    f"steps {maker.name} and {step.name} both make an output {output.name}: each output needs a name"
                    " of its own, and a step that makes it"
                )
        return makers

    def _check_reads(self, step: ParallelRunStep) -> None:
        for output, _ in step.reads():
            if self._outputs.get(output.name) is not output:
                raise ApiError(
                    f"step {step.name} takes {output!r}, which no step of the pipeline makes: give it to a step as"
                    " its output, and list that step among steps"
                )
        for one in step.inputs:
            read = output_in(one)
            if read is not None and self._makers[read.name] is step:
                raise ApiError(
                    f"step {step.name} has its own output {read.name} among its inputs: take it out there"
                )

    def _in_order(self) -> list[ParallelRunStep]:
        """By their data; where that does not say, as they are listed."""
        ordered: list[ParallelRunStep] = []
        left = list(self.steps)
        while left:
            ready = next((step for step in left if not self._waits(step, left)), None)
            if ready is None:
                names = ", ".join(step.name for step in left)
                raise ApiError(f"the steps {names} wait for each other's data: none of them can be the first")
            ordered.append(ready)
            left.remove(ready)
        return ordered

    def _waits(self, step: ParallelRunStep, left: list[ParallelRunStep]) -> bool:
        makers = (self._makers[output.name] for output, _ in step.reads())
        return any(maker in left and maker is not step for maker in makers)

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(step.name for step in self.steps)})"


def _flat(steps: Any) -> Iterator[ParallelRunStep]:
    """Lists in lists are as good as one."""
    for step in steps if isinstance(steps, list | tuple) else [steps]:
        if isinstance(step, list | tuple):
            yield from _flat(step)
        elif isinstance(step, ParallelRunStep):
            yield step
        else:
            raise ApiError(f"Pipeline: steps has {step!r}, a {type(step).__name__}: must be ParallelRunSteps")


def _identity(keys: Mapping[str, Any], before: Sequence[str]) -> str:
    """A few characters, equal where a step would make the same results again. `before`: folders of what it needs."""
    same = {key: value for key, value in keys.items() if key not in _NO_OTHER_RUN}
    text = json.dumps([same, list(before)], sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
