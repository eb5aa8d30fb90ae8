"""A pipeline file is read, and each of its steps checked against what is on disk, before any of them starts.

So a mistake in the last step costs no hours of the first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mpibatch.core.config import Job, apply_sets
from mpibatch.core.job_inputs import ArchiveInput, FilesInput, JobInput
from mpibatch.core.pipeline import (
    STEPS,
    Pipeline,
    PipelineDraft,
    Step,
    StepDraft,
    check_folders,
    in_step,
    read_pipeline,
)
from mpibatch.core.places import contains
from mpibatch.core.references import filled, values_of
from mpibatch.core.settings import Problems, did_you_mean, printable
from mpibatch.core.shares import find_element
from mpibatch.core.tables import TableInput
from mpibatch.errors import ConfigError, LaunchError, MpibatchError
from mpibatch.runtime.azure_files import translated
from mpibatch.runtime.job_yaml import read_set
from mpibatch.runtime.jobfile import check_side_inputs, checked_job, load_job, read_mapping
from mpibatch.runtime.planner import look_for_inputs

_OF_STEP = re.compile(rf"\s*({STEPS}\.[^.=]+)\.(.+)", re.DOTALL)

_OF_AZURE_STEP = re.compile(r"\s*(jobs\.[^.=]+)\.(.+)", re.DOTALL)


def load_any(
    path: str | os.PathLike[str], *, sets: Sequence[str] = (), output: str | None = None
) -> Job | Pipeline:
    """What the file at `path` describes, with each `key=value` of `sets` applied: see `load_job`. Keys of a step are
    set by `steps.NAME.key=value`."""
    job_file = os.path.abspath(os.path.expanduser(os.fspath(path)))
    given = translated(job_file, read_mapping(job_file), read_pairs(sets))
    if STEPS not in given.mapping:
        return load_job(path, sets=sets, output=output)
    if output == "":
        raise ConfigError("--output is empty: name the pipeline's folder")
    mapping = with_sets(given.mapping, given.pairs)
    draft = read_pipeline(
        mapping,
        file=job_file,
        output=os.path.abspath(os.path.expanduser(output)) if output else None,
        expand=os.path.expanduser,
        set_keys=[key for key, _ in given.pairs],
    )
    pipeline = Pipeline(
        file=job_file, name=draft.name, output=draft.output, steps=_steps(draft), remarks=given.remarks
    )
    check_folders(pipeline)
    return pipeline


def read_pairs(sets: Sequence[str]) -> list[tuple[str, Any]]:
    return [_read_set(option) for option in sets]


def _read_set(option: str) -> tuple[str, Any]:
    """A key below a step is read as if it stood in a job file."""
    found = _OF_STEP.fullmatch(option) or _OF_AZURE_STEP.fullmatch(option)
    if found is None:
        return read_set(option)
    try:
        key, value = read_set(found[2])
    except ConfigError as error:
        raise ConfigError(str(error).replace("--set ", f"--set {printable(found[1])}.", 1)) from None
    return f"{found[1]}.{key}", value


def with_sets(mapping: Mapping[Any, Any], pairs: Sequence[tuple[str, Any]]) -> dict[Any, Any]:
    changed = dict(mapping)
    for key, value in pairs:
        found = _OF_STEP.fullmatch(key)
        if found is None and key.partition(".")[0] != STEPS:
            changed = apply_sets(changed, [(key, value)])
            continue
        steps = changed[STEPS] if isinstance(changed[STEPS], Mapping) else {}
        name = key.split(".")[1] if "." in key else ""
        if name not in steps or found is None:
            near = did_you_mean(name, [one for one in steps if isinstance(one, str)])
            raise ConfigError(
                f"--set {printable(key)}: must be {STEPS}.NAME.key=value, with the name of a step{near};"
                f" there are {', '.join(map(str, steps))}"
            )
        own = steps[name] if isinstance(steps[name], Mapping) else {}
        changed[STEPS] = {**steps, name: apply_sets(own, [(found[2], value)])}
    return changed


def _steps(draft: PipelineDraft) -> list[Step]:
    """All steps, checked. Raises one `ConfigError` with all that is wrong in any."""
    steps: list[Step] = []
    wrong: list[MpibatchError] = []
    values: dict[str, str] = {}
    for one in draft.steps:
        if not {step.name for step in steps}.issuperset(one.needs):
            continue  # What is wrong in those comes first.
        try:
            job = _job(draft, one, values)
        except MpibatchError as error:
            wrong.append(type(error)(in_step(one.name, str(error))))
            continue
        steps.append(Step(name=one.name, job=job, needs=one.needs))
        values |= values_of(one.name, job)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise ConfigError("\n".join(map(str, wrong)))
    return steps


def _job(draft: PipelineDraft, step: StepDraft, values: Mapping[str, str]) -> Job:
    problems = Problems(printable(os.path.basename(draft.file)), step.set_keys)
    # Only of the steps that come before: of others it waits for nothing.
    mapping = filled(problems, step.mapping, values)
    problems.stop()
    return checked_job(mapping, job_file=draft.file, output=None, set_keys=step.set_keys)


def missing_words(pipeline: Pipeline) -> list[str]:
    """A warning for each step whose inputs, side inputs or models are not there, and are made by no other: perhaps a
    step before it makes them without saying so, perhaps they are mistyped."""
    warnings = []
    made = [path for step in pipeline.steps for path in _made_by(step.job)]
    for step in pipeline.steps[1:]:
        if step.job.prepare is not None:
            continue
        known = _without_made(step.job, made)
        try:
            check_side_inputs(known)
            if known.inputs:
                look_for_inputs(known)
        except MpibatchError as error:
            warnings.append(
                f"warning: {in_step(step.name, str(error))}; no step before it says that it makes that"
            )
    return warnings


def _made_by(job: Job) -> list[str]:
    copies = [job.copy_output_to] if job.copy_output_to is not None else []
    return [job.output, *job.side_outputs.values(), *copies]


def _without_made(job: Job, made: Sequence[str]) -> Job:
    """The job with that only which must be there from the start."""

    def is_made(path: str) -> bool:
        return any(contains(folder, path) for folder in made)

    def kept(paths: Mapping[str, str]) -> dict[str, str]:
        return {name: path for name, path in paths.items() if not is_made(path)}

    return msgspec.structs.replace(
        job,
        inputs=[one for one in job.inputs if not any(map(is_made, _paths(one)))],
        side_inputs=kept(job.side_inputs),
        models=kept(job.models),
    )


def _paths(one: JobInput) -> list[str]:
    match one:
        case FilesInput() | ArchiveInput() | TableInput():
            return one.files
        case _:
            return []


def refuse_options(pipeline: Pipeline, *, only_failed: bool, share: str | None) -> None:
    """Raises `LaunchError` for what only single jobs can do. Elements of a job array would all run all steps."""
    refuse_only_failed(pipeline, only_failed=only_failed)
    way_out = "Run a step that needs an array as a job of its own."
    if share is not None:
        raise LaunchError(
            f"--share divides a single job, and {_name(pipeline)} is a pipeline: leave it out. {way_out}"
        )
    element = find_element(os.environ, None, None)
    if element is not None:
        raise LaunchError(
            f"{element.told}, and each element would run the whole pipeline {_name(pipeline)}: submit it without an"
            f" array. {way_out}"
        )


def refuse_only_failed(pipeline: Pipeline, *, only_failed: bool) -> None:
    if only_failed:
        raise LaunchError(
            f"--only-failed is for a single job, and {_name(pipeline)} is a pipeline: what its steps have made of"
            " each other's rows would no longer fit. Repair the cause and start it with --fresh."
        )


def _name(pipeline: Pipeline) -> str:
    return printable(os.path.basename(pipeline.file))
