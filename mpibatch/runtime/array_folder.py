"""The folder of a run that a job array's elements share: which files it has, and what is written in them.

<output>/.mpibatch/            plan, run.json and survey, for all; shares.json, merging.json
<output>/shares/0003/          the run folder of element 3's share: journals, rows, lease, stop file, logs, result
<output>/...                   output, failed_items.jsonl and job_result.json, once they are merged
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mpibatch.core.accounting import Thresholds
from mpibatch.core.config import Job
from mpibatch.core.shares import Division, Element
from mpibatch.errors import RunFolderError, StorageError
from mpibatch.runtime.files import aside_of, storing, sync_folder, write_whole
from mpibatch.runtime.jobfile import row_settings
from mpibatch.runtime.merged_finalize import FinalizeBy, finalize_by
from mpibatch.runtime.run_folder import RunFolder

T = TypeVar("T")


class Merging(msgspec.Struct, frozen=True, kw_only=True):
    """`merging.json`: what the output is made of the shares by; from the job file of the last start."""

    name: str
    append_row: bool
    """Else the script stores its own output, and there is nothing to be made."""
    file_name: str
    row_format: str
    settings: dict[str, Any]
    in_order: bool
    thresholds: Thresholds
    copy_to: str | None = None
    finalize: FinalizeBy | None = None
    """None: the script has no `finalize()`."""


def share_folder(whole: RunFolder, number: int) -> RunFolder:
    """The run folder of the share of element `number`."""
    return RunFolder(whole.root / "shares" / f"{number:04d}")


def run_folder_of(job: Job, element: Element | None) -> RunFolder:
    """Where this start has its sessions: in the job's run folder, or in a share's."""
    whole = RunFolder(job.output)
    return whole if element is None else share_folder(whole, element.number)


def _division_file(whole: RunFolder) -> Path:
    return whole.private / "shares.json"


def _merging_file(whole: RunFolder) -> Path:
    return whole.private / "merging.json"


def read_division(whole: RunFolder) -> Division | None:
    """How the run is divided; None where no element has planned yet, or it is no array's. StorageError."""
    return _read(_division_file(whole), Division)


def read_merging(whole: RunFolder) -> Merging | None:
    return _read(_merging_file(whole), Merging)


def is_planned(whole: RunFolder) -> bool:
    """Whether an element has planned for all: `run.json` is the last that it writes."""
    return _division_file(whole).exists() and whole.run_file.exists()


def save_merging(whole: RunFolder, share: RunFolder, job: Job) -> None:
    """Written aside in the share's folder, which is this element's alone: process ids are a machine's."""
    append_row = job.output_action == "append_row"
    merging = Merging(
        name=job.name,
        append_row=append_row,
        file_name=job.append_row_file_name,
        row_format=job.append_row_format,
        settings=row_settings(job) if append_row else {},
        in_order=job.order == "input",
        copy_to=job.copy_output_to,
        finalize=finalize_by(job, whole, share),
        thresholds=Thresholds(
            failed_items=job.error_threshold,
            failed_mini_batches=job.mini_batch_error_threshold,
            failed_percent=job.allowed_failed_percent,
            needs_success=append_row,
        ),
    )
    aside = _merging_file(share)
    with storing(str(_merging_file(whole))):
        write_whole(aside, msgspec.json.encode(merging))
        os.replace(aside, _merging_file(whole))


def publish_division(whole: RunFolder, division: Division) -> None:
    """Write down how the run is divided; of several at a time the first one stands."""
    target = _division_file(whole)
    aside = aside_of(target)
    with storing(str(target)):
        try:
            write_whole(aside, msgspec.json.encode(division))
            publish(aside, target)
        finally:
            aside.unlink(missing_ok=True)


def publish(made: Path, target: Path) -> bool:
    """Let `made` appear as `target`, unless something is there: whether it did. Raises OSError."""
    try:
        os.link(made, target)
    except FileExistsError:
        return False
    except OSError:  # A file system without hard links; the lease of the folder is ours.
        if target.exists():
            return False
        os.rename(made, target)
    with contextlib.suppress(FileNotFoundError):
        made.unlink()
    sync_folder(target.parent)
    return True


def refuse_array(folder: RunFolder) -> None:
    """A start that is no element's has no business in an array's folder."""
    division = read_division(folder)
    if division is not None:
        raise RunFolderError(
            f"the run folder {folder.root} is that of a job array, divided into {division.words}, and this start is"
            " none of its elements. Choose another folder with --output DIR, start elements"
            " (sbatch --array, or --share K/N), or remove the folder if the array's work is not wanted."
        )


def refuse_plain(whole: RunFolder) -> None:
    """An element has no business in the folder of a run that is not divided.

    A sibling may plan meanwhile: it says how the run is divided first, so that is looked for last.
    """
    if (whole.run_file.exists() or whole.sessions()) and read_division(whole) is None:
        raise RunFolderError(
            f"the run folder {whole.root} holds a run that is not divided into shares, and this start is an element"
            " of a job array. Choose another folder with --output DIR, or set array: false, where each element is to"
            " run a whole job of its own."
        )


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise StorageError(
            f"{path} is damaged or cannot be read: {error}. Restore it from a backup, or remove the run folder and"
            " start the array anew."
        ) from error
