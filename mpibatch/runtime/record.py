"""Whose run a folder holds, and how it ended: what is written beside the plan, and read by a later start."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import msgspec

import mpibatch
from mpibatch.core.config import Job
from mpibatch.core.shares import Share
from mpibatch.errors import RunFolderError, StorageError
from mpibatch.results import JobResult
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.identity import job_fingerprint
from mpibatch.runtime.jobfile import row_settings
from mpibatch.runtime.planner import Plan
from mpibatch.runtime.run_folder import RunFolder

FORMAT = 1
_AT_ONCE = 1 << 20
"""Mini-batches looked at together."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`run.json`: whose run this is."""

    format: int
    name: str
    plan_request: str
    """Digest of what the plan is made from: inputs as the job file has them, and mini_batch_size."""
    rows: str
    """Digest of the form of the rows: fragments of different form must not meet in one output."""
    fingerprint: dict[str, str]
    """`identity.job_fingerprint`; with its part "inputs" only once the run is complete, but for tables
    and archives, whose plan holds only as long as they stay as they are."""


class Hold(Protocol):
    """What a session has of the run's lease."""

    def set_session(self, number: int) -> None: ...

    def check(self) -> None:
        """Raises StoppedError when the run is another start's now."""

    def release(self) -> None: ...


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is to go on now."""

    folder: RunFolder
    lease: Hold
    plan: Plan
    record: RunRecord
    only_failed: bool = False
    """The run is complete, and what has failed in it is tried again."""
    share: Share | None = None
    """What is done here of the plan; None: all of it."""
    whole: RunFolder | None = None
    """The folder of the array of which this is a share; None: it is none."""

    @property
    def mini_batches(self) -> int:
        """How many are to be done here."""
        total = self.plan.mini_batches
        return total if self.share is None else len(self.share.mini_batches(total))

    @property
    def items(self) -> int:
        """How many are in these."""
        if self.share is None:
            return self.plan.items
        import numpy as np

        part = self.share.mini_batches(self.plan.mini_batches)
        blocks = range(part.start, part.stop, part.step * _AT_ONCE)
        numbers = (
            np.arange(first, min(part.stop, first + part.step * _AT_ONCE), part.step) for first in blocks
        )
        return sum(int(self.plan.item_counts(some).sum()) for some in numbers)


def finished(folder: RunFolder) -> JobResult | None:
    """The result of a run that is complete, with its output in its place, and with nothing of it under way again."""
    if folder.only_failed.exists():
        return None
    try:
        result = msgspec.json.decode(folder.result.read_bytes(), type=JobResult)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    if result.verdict != "complete":
        return None
    if result.output is None:
        return result
    output = folder.root / Path(result.output).name  # The folder may have been moved since.
    return msgspec.structs.replace(result, output=str(output)) if output.is_file() else None


def any_result(folder: RunFolder) -> JobResult | None:
    try:
        return msgspec.json.decode(folder.result.read_bytes(), type=JobResult)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_record(folder: RunFolder) -> RunRecord | None:
    """Whose run the folder holds; None if none has been planned there."""
    try:
        record = msgspec.json.decode(folder.run_file.read_bytes(), type=RunRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{folder.run_file} cannot be read: {error}. Restore it, or throw the run away with --fresh."
        ) from error
    if record.format != FORMAT:
        raise RunFolderError(
            f"the run in {folder.root} was written by another version of mpibatch (format {record.format}; this"
            f" one, {mpibatch.__version__}, knows {FORMAT}). Continue it with that version, or use --fresh."
        )
    return record


def make_record(job: Job, plan: Plan, *, inputs: bool) -> RunRecord:
    """`inputs`: with the size and time of every input file, which takes a look at each."""
    return RunRecord(
        format=FORMAT,
        name=job.name,
        plan_request=plan_request(job),
        rows=_digest(
            [
                job.output_action,
                row_settings(job) if job.output_action == "append_row" else {},
                job.append_row_format,
                job.add_input_key,
            ]
        ),
        fingerprint=job_fingerprint(job, plan, inputs=inputs),
    )


def save_record(folder: RunFolder, record: RunRecord) -> None:
    with storing(str(folder.run_file)):
        write_whole(folder.run_file, msgspec.json.encode(record))


def plan_request(job: Job) -> str:
    """Digest of what the plan is made from."""
    return _digest(
        [
            job.mini_batch_size,
            msgspec.to_builtins(job.table_size),
            [msgspec.to_builtins(one) for one in job.inputs],
            job.partition_keys,
            job.shuffle,
        ]
    )


def _digest(what: object) -> str:
    return blake2b(repr(what).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
