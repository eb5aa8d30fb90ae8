"""What a pipeline's folder holds beside the run folders of its steps, and how a step knows whose data it has read.

<output>/pipeline_result.json     how the pipeline stands after its last start
<output>/.mpibatch/pipeline.json  which steps there are, where, and how each stands; lease and stop file as of a run
<step>/.mpibatch/made_from.json   which results of other steps its run began with
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from mpibatch.core.pipeline import Pipeline, Step
from mpibatch.core.places import contains
from mpibatch.errors import RunFolderError, StorageError
from mpibatch.results import JobResult, Verdict, plain
from mpibatch.runtime.array_folder import read_division
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.record import finished, read_record
from mpibatch.runtime.run_folder import RunFolder

FORMAT = 1
RESULT_NAME = "pipeline_result.json"

StepState = Literal["waiting", "running", "complete", "reused", "failed"]
"""`complete` by this start, `reused` from an earlier one; `failed`: ended otherwise, and may go on later."""

T = TypeVar("T")


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    folder: bytes
    """Absolute path of its run folder."""
    state: StepState = "waiting"


class PipelineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`pipeline.json`."""

    format: int
    name: str
    steps: list[StepRecord]
    anew: list[str]
    """Steps that are to be begun anew, and have not been yet: whatever is in their folders is not theirs to keep."""
    over: bool = False
    """All have been complete: the next start is a new round."""

    def with_state(self, name: str, state: StepState) -> PipelineRecord:
        steps = [msgspec.structs.replace(one, state=state) if one.name == name else one for one in self.steps]
        return msgspec.structs.replace(self, steps=steps)


class FirstCause(msgspec.Struct, frozen=True, kw_only=True):
    """As of a run, and of which step."""

    step: str
    error: str
    item: str | None = None
    count: int = 0
    log: str | None = None


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    state: StepState
    folder: str
    result: JobResult | None
    """None where none of this job is there (yet)."""


class PipelineResult(msgspec.Struct, frozen=True, kw_only=True):
    """`pipeline_result.json`; keys are never renamed, only added."""

    verdict: Verdict
    exit_code: int
    reason: str
    """The verdict in words; empty where it is `complete`."""
    elapsed_s: float
    steps: dict[str, StepResult]
    first_cause: FirstCause | None
    outputs: dict[str, str]
    """The rows file of each step that is complete and has one."""


def record_file(folder: RunFolder) -> Path:
    return folder.private / "pipeline.json"


def result_file(folder: RunFolder) -> Path:
    return folder.root / RESULT_NAME


def read_pipeline_record(folder: RunFolder) -> PipelineRecord | None:
    """None where it is no pipeline's folder. StorageError, or RunFolderError where another version has written it."""
    record = _read(record_file(folder), PipelineRecord)
    if record is not None and record.format != FORMAT:
        raise RunFolderError(
            f"the pipeline in {folder.root} was written by another version of mpibatch (format {record.format}; this"
            f" one knows {FORMAT}). Continue it with that version, or choose another folder with --output DIR."
        )
    return record


def save_pipeline_record(folder: RunFolder, record: PipelineRecord) -> None:
    with storing(str(record_file(folder))):
        write_whole(record_file(folder), msgspec.json.encode(record))


def read_pipeline_result(folder: RunFolder) -> PipelineResult | None:
    try:
        return _read(result_file(folder), PipelineResult)
    except StorageError:  # As with a run: a later start writes another.
        return None


def save_pipeline_result(folder: RunFolder, result: PipelineResult) -> None:
    with storing(str(result_file(folder))):
        write_whole(result_file(folder), msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def refuse_pipeline(folder: RunFolder) -> None:
    """A job has no business in the folder of a pipeline."""
    if record_file(folder).exists():
        raise RunFolderError(
            f"the run folder {folder.root} is that of a pipeline, whose steps have their runs below it. Choose"
            " another folder with --output DIR."
        )


def refuse_run(folder: RunFolder) -> None:
    """A pipeline has no business in the run folder of a job."""
    if folder.run_file.exists() or folder.sessions() or read_division(folder) is not None:
        raise RunFolderError(
            f"the folder {folder.root} is the run folder of a single job, and this is a pipeline, whose steps have"
            " folders of their own. Choose another folder with --output DIR."
        )


def begin_record(old: PipelineRecord | None, pipeline: Pipeline, *, fresh: bool) -> PipelineRecord:
    """What stands there when a start begins. A round lasts until all steps have been complete: what was complete in
    it is not done again, whatever `allow_reuse` says; `fresh` and a new round begin steps anew."""
    names = [step.name for step in pipeline.steps]
    if fresh:
        anew = names
    elif old is None or old.over:
        anew = [step.name for step in pipeline.steps if not step.job.allow_reuse]
    else:
        anew = [name for name in old.anew if name in names]
    steps = [StepRecord(name=step.name, folder=os.fsencode(step.job.output)) for step in pipeline.steps]
    return PipelineRecord(format=FORMAT, name=pipeline.name, steps=steps, anew=anew)


# Whose data a step has read


def _made_from_file(folder: RunFolder) -> Path:
    return folder.private / "made_from.json"


def versions(steps: Iterable[Step]) -> dict[str, str]:
    """Of each step, which of its results there is: a digest of it, as two never are the same to the microsecond."""
    return {step.name: _version(RunFolder(step.job.output)) for step in steps}


def _version(folder: RunFolder) -> str:
    try:
        return blake2b(folder.result.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""


def note_made_from(folder: RunFolder, made_from: dict[str, str]) -> None:
    """To be written as soon as the run begins anew: a run that has none is of data that nobody knows."""
    with storing(str(_made_from_file(folder))):
        write_whole(_made_from_file(folder), msgspec.json.encode(made_from))


def is_stale(step: Step, needed: Sequence[Step]) -> bool:
    """Whether what is in the step's folder was made from other results than there are now of the steps it `needs`."""
    folder = RunFolder(step.job.output)
    if not needed or not folder.run_file.exists():
        return False
    try:
        made_from = _read(_made_from_file(folder), dict[str, str])
    except StorageError:
        return True
    return made_from != versions(needed)


def is_ours(step: Step, pipeline: Pipeline) -> bool:
    """Whether what is in the step's folder may be made anew without being asked: it is that of this step."""
    if contains(pipeline.output, step.job.output):
        return True
    record = read_record(RunFolder(step.job.output))
    return record is None or record.name == step.job.name


def outputs_of(steps: Iterable[Step]) -> dict[str, str]:
    """The rows files of steps that are complete."""
    found = {}
    for step in steps:
        result = finished(RunFolder(step.job.output))
        if result is not None and result.output is not None:
            found[step.name] = plain(result.output)
    return found


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise StorageError(
            f"{path} is damaged or cannot be read: {error}. Restore it from a backup, or remove it and start the"
            " pipeline again: steps that are complete are reused all the same."
        ) from error
