"""What a start refuses to do with a run folder, in words that say what to do instead."""

from __future__ import annotations

import os

from mpibatch.core.config import Job
from mpibatch.errors import OtherRunError, RunFolderError
from mpibatch.runtime.planner import Plan
from mpibatch.runtime.record import RunRecord, finished, plan_request, read_record
from mpibatch.runtime.run_folder import RunFolder


def refuse_foreign(folder: RunFolder) -> None:
    """A folder that holds something, but no run, is not ours to write into.

    Starts of several elements, or of one job twice, may make it meanwhile. As `.mpibatch` is the first that any
    makes in it, it is looked for after what else there is.
    """
    root = folder.root
    if root.exists() and not root.is_dir():
        raise RunFolderError(
            f"the run folder {root} is a file. Name another folder: key output, or --output DIR."
        )
    try:
        others = any(name != folder.private.name for name in os.listdir(root))
    except FileNotFoundError:
        others = False
    if others and not folder.private.is_dir():
        raise RunFolderError(
            f"the run folder {root} exists, is not empty and is not a run of mpibatch."
            " Name another folder: key output in the job file, or --output DIR."
        )


def not_complete(folder: RunFolder) -> RunFolderError:
    return RunFolderError(
        f"--only-failed tries the failed items of a complete run again, and the run in {folder.root} is not complete."
        " Start it without --only-failed: that goes on with it, failed items included."
    )


def refuse_unfinished(folder: RunFolder) -> None:
    if read_record(folder) is None:
        raise RunFolderError(
            f"--only-failed tries the failed items of a complete run again, and there is no run in {folder.root}."
            " Start it without --only-failed."
        )
    if finished(folder) is None and not folder.only_failed.exists():
        raise not_complete(folder)


def refuse_just_finished(folder: RunFolder) -> None:
    """For a start with --fresh that has waited for the run's owner: nobody meant to throw away what came of it."""
    if finished(folder) is not None:
        raise RunFolderError(
            f"the run that was going on in {folder.root} has just been completed, and is not thrown away by a --fresh"
            " that was given before. If it is to be, start the same command again."
        )


def refuse_other_job(folder: RunFolder, job: Job) -> None:
    record = read_record(folder)
    if record is None or record.plan_request == plan_request(job):
        return
    what = "inputs or mini_batch_size" if record.name == job.name else f"another job: {record.name}"
    raise OtherRunError(
        f"the run folder {folder.root} belongs to a run with other settings ({what}). Choose another folder with"
        " --output DIR, or throw the old run away with --fresh.",
        what,
    )


def refuse_other_rows(folder: RunFolder, old: RunRecord, new: RunRecord) -> None:
    if old.rows != new.rows and folder.sessions():
        raise OtherRunError(
            f"the unfinished run in {folder.root} has rows of another form: output_action, append_row_format,"
            " append_row or add_input_key has changed since. Set them back to continue it, choose another folder with"
            " --output DIR, or throw it away with --fresh.",
            "the form of the rows",
        )


def lie_in_files(plan: Plan) -> bool:
    """Whether items lie within files, of tables or archives: such a plan says where, and holds as long as these
    stay as they are."""
    return "state" in plan.header


def refuse_changed_files(folder: RunFolder, old: RunRecord, new: RunRecord) -> None:
    """What lies elsewhere now would be read in part, or not at all, without a word."""
    files = new.fingerprint.get("inputs")
    if files is not None and files != old.fingerprint.get("inputs"):
        raise OtherRunError(
            f"the unfinished run in {folder.root} knows where in its tables or archives each item lies, and since it"
            " was planned the size or time of one of these files has changed. Put it back to continue, choose another"
            " folder with --output DIR, or throw the run away with --fresh.",
            "the size or time of an input file",
        )
