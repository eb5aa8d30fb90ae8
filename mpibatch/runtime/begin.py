"""What rank 0 does before any work: own the run folder, decide what a start means there, plan.

A start continues an unfinished run, reuses a finished one, or begins anew; another job's folder is refused.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mpibatch.core.config import Job
from mpibatch.errors import InputError, OtherRunError, RunFolderError, StoppedError, StorageError
from mpibatch.inputs.survey import Ask
from mpibatch.results import JobResult
from mpibatch.runtime.array_folder import refuse_array
from mpibatch.runtime.copied_output import copy_again
from mpibatch.runtime.files import aside_of, storing
from mpibatch.runtime.identity import describe_changes
from mpibatch.runtime.jobfile import check_side_inputs
from mpibatch.runtime.lease import Lease
from mpibatch.runtime.pipeline_record import refuse_pipeline
from mpibatch.runtime.plan_check import check_plan
from mpibatch.runtime.planner import PLAN_NAME, Plan, make_plan, open_plan, plan_to_compare, state_of_inputs
from mpibatch.runtime.programs import check_python, run_prepare
from mpibatch.runtime.record import (
    Begun,
    RunRecord,
    any_result,
    finished,
    make_record,
    read_record,
    save_record,
)
from mpibatch.runtime.refusals import (
    lie_in_files,
    not_complete,
    refuse_changed_files,
    refuse_foreign,
    refuse_just_finished,
    refuse_other_job,
    refuse_other_rows,
    refuse_unfinished,
)
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.surveying.rounds import Rounds, RunRound


class Reused(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run of the same job: nothing is to be done."""

    folder: RunFolder
    result: JobResult


Say = Callable[[str], None]


def begin(
    job: Job,
    *,
    fresh: bool,
    only_failed: bool = False,
    say: Say,
    no_return: Callable[[], None] = lambda: None,
    run_round: RunRound | None = None,
) -> Begun | Reused:
    """Decide and prepare. Raises errors of `errors`; then nothing new is left in the run folder, but for what a
    survey has found that was stopped or had no room.

    `only_failed`: the run is complete, and is to go on with what failed in it; its output stays until there is a new
    one. Where that was broken off, any start goes on with it.
    `no_return` is called before an old run is removed: from then on this must not be broken off. `run_round` has
    the workers answer questions of a survey; None: all are answered here.
    """
    folder = RunFolder(job.output)
    if only_failed:
        refuse_unfinished(folder)
    refuse_foreign(folder)
    refuse_array(folder)
    refuse_pipeline(folder)
    if not fresh:
        refuse_other_job(folder, job)
    made = make_folder(folder)
    lease = Lease(folder)
    was_complete = finished(folder) is not None
    waited = lease.acquire(say)
    try:
        made = [] if is_used(folder) else made
        if fresh and waited and not was_complete:
            refuse_just_finished(folder)
        with storing(str(folder.private)):
            folder.stop.unlink(missing_ok=True)
            remove_halves(folder)
            if fresh:
                shutil.rmtree(folder.survey, ignore_errors=True)
        run_prepare(job, say)
        check_side_inputs(job)
        ask = Rounds(job, folder.survey, lease, run_round, say, state=lambda: state_of_inputs(job)).ask
        if only_failed:
            return _failed_again(job, folder, lease, ask, say)
        return _decide(job, folder, lease, ask, fresh, say, no_return)
    except BaseException as error:
        if made and not (isinstance(error, StoppedError | StorageError) and folder.survey.exists()):
            # While the lease is ours: what another start makes there then is not ours to remove.
            shutil.rmtree(folder.private, ignore_errors=True)
        lease.release()
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


def is_used(folder: RunFolder) -> bool:
    """Whether another start, which made the folder at the same instant, has had its turn before: what is there then
    is its own. The lease is ours."""
    with storing(str(folder.private)):
        return any(
            not name.startswith((folder.lock.name, folder.lease.name)) for name in os.listdir(folder.private)
        )


def make_folder(folder: RunFolder) -> list[Path]:
    """Make the run folder; the folders that were not there, the innermost first."""
    missing = list(
        itertools.takewhile(lambda place: not place.exists(), (folder.private, *folder.private.parents))
    )
    with storing(f"the run folder {folder.root}"):
        folder.private.mkdir(parents=True, exist_ok=True)
    return missing


def remove_halves(folder: RunFolder) -> None:
    """What a start that was killed was about to write. The lease is ours, and so is nobody at it but its thread."""
    for file in (folder.result, folder.run_file, folder.progress, folder.lease):
        for half in file.parent.glob(f"{file.name}.*.partial"):
            if half != aside_of(file):
                half.unlink(missing_ok=True)


def _decide(
    job: Job, folder: RunFolder, lease: Lease, ask: Ask, fresh: bool, say: Say, no_return: Callable[[], None]
) -> Begun | Reused:
    record = None if fresh else read_record(folder)
    result = finished(folder) if record is not None else None
    if record is not None and result is not None:
        if job.allow_reuse:
            reused = _reuse(job, folder, record, result, say)
            lease.release()
            return reused
        say("the run is complete and allow_reuse is false: starting anew")
        record = None
    check_python(job)
    if record is None:
        plan = _plan_anew(job, folder, ask, no_return)
        for remark in plan.remarks:
            say(f"warning: {remark}")
        record = make_record(job, plan, inputs=lie_in_files(plan))
        save_record(folder, record)
        return Begun(folder=folder, lease=lease, plan=plan, record=record)
    return _continue(job, folder, lease, record, ask, say, only_failed=folder.only_failed.exists())


def _continue(
    job: Job, folder: RunFolder, lease: Lease, record: RunRecord, ask: Ask, say: Say, *, only_failed: bool
) -> Begun:
    check_plan(folder.private / PLAN_NAME)
    plan = open_plan(folder.private)
    now = make_record(job, plan, inputs=lie_in_files(plan))
    refuse_other_rows(folder, record, now)
    refuse_changed_files(folder, record, now)
    changes = describe_changes(without_inputs(record.fingerprint), without_inputs(now.fingerprint))
    if changes:
        say(f"continuing, although since the last start these have changed: {'; '.join(changes)}")
    if folder.copies_removed.exists():
        make_copies_again(job, folder, plan, ask)
    if only_failed:
        # Before anything of it changes: a start after this one is lost must not take the run for complete.
        with storing(str(folder.only_failed)):
            folder.only_failed.touch()
    save_record(folder, now)
    return Begun(folder=folder, lease=lease, plan=plan, record=now, only_failed=only_failed)


def _failed_again(job: Job, folder: RunFolder, lease: Lease, ask: Ask, say: Say) -> Begun | Reused:
    """Go on with a run that is complete, where items failed in it; or with such a start that was broken off."""
    record, result = read_record(folder), finished(folder)
    if record is None or (result is None and not folder.only_failed.exists()):
        raise not_complete(folder)  # Somebody else has begun it anew since we looked.
    if result is not None and not result.items.failed:
        lease.release()
        return Reused(folder=folder, result=result)
    check_python(job)
    return _continue(job, folder, lease, record, ask, say, only_failed=True)


def make_copies_again(job: Job, folder: RunFolder, plan: Plan, ask: Ask) -> None:
    """Unpack and sort anew what the plan reads, as it was removed when the run was complete."""
    aside = folder.private / "again"
    try:
        with storing(str(aside)):
            aside.mkdir(exist_ok=True)
        with make_plan(job, aside, ask=ask, unpacked=folder.unpacked) as again:
            if again.fingerprint != plan.fingerprint:
                raise RunFolderError(
                    f"the inputs of the run in {folder.root} give another plan now: what failed in it cannot be tried"
                    " again. Choose another folder with --output DIR, or throw the run away with --fresh."
                )
        with storing(str(folder.copies_removed)):
            folder.copies_removed.unlink(missing_ok=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _plan_anew(job: Job, folder: RunFolder, ask: Ask, no_return: Callable[[], None]) -> Plan:
    """Plan, then remove the old run, if there is one: what is wrong with the input must not cost it."""
    aside = folder.private / "new"
    try:
        with storing(str(aside)):
            aside.mkdir(exist_ok=True)
        with planning(job):
            make_plan(job, aside, ask=ask, unpacked=folder.unpacked).close()
        no_return()
        clear(folder, job, keep=(aside, folder.unpacked))
        with storing(str(folder.private / PLAN_NAME)):
            os.replace(aside / PLAN_NAME, folder.private / PLAN_NAME)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return open_plan(folder.private)


def without_inputs(fingerprint: dict[str, str]) -> dict[str, str]:
    return {part: digest for part, digest in fingerprint.items() if part != "inputs"}


@contextlib.contextmanager
def planning(job: Job) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if job.prepare is None:
            raise
        raise InputError(f"{error}\n(prepare: {job.prepare} has been run and has not made them)") from error


# What is in the folder already


def _reuse(job: Job, folder: RunFolder, record: RunRecord, result: JobResult, say: Say) -> Reused:
    """The finished run, if it is of this very job."""
    changes = changes_since(job, folder, record)
    if changes:
        failed = result.items.failed
        again = f" try its {failed:,} failed items again with --only-failed," if failed else ""
        raise OtherRunError(
            f"the run in {folder.root} is complete, and since then these have changed: {'; '.join(changes)}. What to"
            f" do:{again} choose another folder with --output DIR, or throw the old run away with --fresh.",
            "; ".join(changes),
        )
    copy_again(job.copy_output_to, None if result.output is None else Path(result.output), say)
    return Reused(folder=folder, result=result)


def changes_since(
    job: Job, folder: RunFolder, record: RunRecord, *, planned_in: Path | None = None
) -> list[str]:
    """What has changed since the run was complete, in words; plans anew to see whether the inputs are the same.
    `planned_in`: where its plan lies, if not beside all else."""
    aside = folder.private / "compare"
    try:
        with storing(str(aside)):
            aside.mkdir(exist_ok=True)
        with planning(job):
            plan = plan_to_compare(job, planned_in or folder.private, aside)
        if plan is None:
            return ["the input files, or the size or time of one of them"]
        with plan:
            return describe_changes(record.fingerprint, make_record(job, plan, inputs=True).fingerprint)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def clear(folder: RunFolder, job: Job, *, keep: tuple[Path, ...]) -> None:
    """Remove an old run, and only what a run makes; `keep`: what of `.mpibatch` stays, beside the lease."""
    result = any_result(folder)
    outputs = {folder.root / job.append_row_file_name}
    if result is not None and result.output is not None:
        outputs.add(folder.root / Path(result.output).name)
    with storing(f"the old run in {folder.root}"):
        for file in (folder.result, folder.failed_items, folder.metrics, *outputs):
            file.unlink(missing_ok=True)
        shutil.rmtree(folder.logs, ignore_errors=True)
        # First the record of whose they are: if this is broken off, nothing goes on with what is left.
        for entry in sorted(folder.private.iterdir(), key=lambda entry: entry != folder.run_file):
            if entry not in (folder.lease, folder.lock, *keep):
                entry.unlink() if not entry.is_dir() else shutil.rmtree(entry)
