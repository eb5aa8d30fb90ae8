"""What an element of a job array does before any work: see that there is a plan for all, then begin its own share.

The first element plans, under the lease of the whole folder; the others wait for it and use its plan. If it dies,
its lease ends, and one of them plans. After that an element needs its own share's lease only.
"""

from __future__ import annotations

import os
import shutil

from mpibatch.core.config import Job
from mpibatch.core.shares import Element, Share, share_of
from mpibatch.errors import LaunchError, RunFolderError
from mpibatch.inputs.survey import Ask
from mpibatch.runtime.array_folder import (
    is_planned,
    publish,
    publish_division,
    read_division,
    refuse_plain,
    save_merging,
    share_folder,
)
from mpibatch.runtime.begin import (
    Reused,
    Say,
    changes_since,
    make_copies_again,
    planning,
    remove_halves,
    without_inputs,
)
from mpibatch.runtime.files import storing
from mpibatch.runtime.identity import ARGUMENTS, describe_changes
from mpibatch.runtime.jobfile import check_side_inputs
from mpibatch.runtime.lease import Lease
from mpibatch.runtime.pipeline_record import refuse_pipeline
from mpibatch.runtime.plan_check import check_plan
from mpibatch.runtime.planner import PLAN_NAME, Plan, make_plan, open_plan, state_of_inputs
from mpibatch.runtime.programs import check_python, run_prepare
from mpibatch.runtime.record import Begun, RunRecord, finished, make_record, read_record, save_record
from mpibatch.runtime.refusals import lie_in_files, refuse_changed_files, refuse_foreign, refuse_other_job
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.surveying.rounds import Rounds, RunRound


def begin_share(
    job: Job,
    element: Element,
    *,
    fresh: bool = False,
    only_failed: bool = False,
    say: Say,
    run_round: RunRound | None = None,
) -> Begun | Reused:
    """Decide and prepare, like `begin.begin`. Raises errors of `errors`."""
    _refuse_words(job, element, fresh=fresh, only_failed=only_failed)
    whole = RunFolder(job.output)
    refuse_foreign(whole)
    refuse_pipeline(whole)
    refuse_plain(whole)
    share_of(element, read_division(whole), str(whole.root))  # Before anything is made.
    _see_planned(job, whole, element, say, run_round)
    _refuse_other_job(whole, job)
    share = share_of(element, read_division(whole), str(whole.root))
    folder = share_folder(whole, share.number)
    with storing(str(folder.private)):
        folder.private.mkdir(parents=True, exist_ok=True)
    lease = Lease(folder)
    lease.acquire(say)
    try:
        with storing(str(folder.private)):
            folder.stop.unlink(missing_ok=True)
            remove_halves(folder)
        check_side_inputs(job)
        return _go_on(job, whole, folder, lease, share, element, say, run_round)
    except BaseException:
        lease.release()
        raise


def _refuse_words(job: Job, element: Element, *, fresh: bool, only_failed: bool) -> None:
    if fresh:
        raise LaunchError(
            f"--fresh: {element.told}, and one element cannot throw away what its siblings have done. Remove"
            f" {job.output} before the array is submitted, or choose another --output."
        )
    if only_failed:
        raise LaunchError(
            f"--only-failed: {element.told}. Shares of an array that are complete stay as they are: run the failed"
            " items as a job of their own, with another --output."
        )


def _see_planned(job: Job, whole: RunFolder, element: Element, say: Say, run_round: RunRound | None) -> None:
    """Until there is a plan for all elements, made here if nobody else is at it."""
    told = False
    while not is_planned(whole):
        refuse_plain(whole)
        with storing(f"the run folder {whole.root}"):
            whole.private.mkdir(parents=True, exist_ok=True)
        lease = Lease(whole)
        try:
            lease.acquire(lambda _: None)
        except RunFolderError:  # It is alive; it, or time, will tell.
            if not told:
                told = True
                say(f"another element makes the plan in {whole.root}: waiting for it")
            continue
        try:
            if not is_planned(whole):
                refuse_plain(whole)
                _plan_for_all(job, whole, element, lease, say, run_round)
        finally:
            lease.release()


def _plan_for_all(
    job: Job, whole: RunFolder, element: Element, lease: Lease, say: Say, run_round: RunRound | None
) -> None:
    division = share_of(element, read_division(whole), str(whole.root)).division
    run_prepare(job, say)
    check_side_inputs(job)
    check_python(job)
    aside = whole.private / "new"
    try:
        with storing(str(aside)):
            aside.mkdir(exist_ok=True)
        with planning(job):
            make_plan(
                job, aside, ask=_ask(job, whole, lease, say, run_round), unpacked=whole.unpacked
            ).close()
        _publish_plan(whole)
        shutil.rmtree(whole.survey, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    with open_plan(whole.private) as plan:
        for remark in plan.remarks:
            say(f"warning: {remark}")
        record = make_record(job, plan, inputs=lie_in_files(plan))
    lease.check()
    publish_division(whole, division)
    save_record(whole, record)


def _publish_plan(whole: RunFolder) -> None:
    """What another one has published is used if it is the same. Else that one was killed before anybody could use
    it, and the inputs have changed since."""
    made, target = whole.private / "new" / PLAN_NAME, whole.private / PLAN_NAME
    with storing(str(target)):
        if publish(made, target):
            return
        with open_plan(made.parent) as ours, open_plan(target.parent) as theirs:
            same = ours.fingerprint == theirs.fingerprint
        if not same:
            os.replace(made, target)


def _ask(job: Job, whole: RunFolder, lease: Lease, say: Say, run_round: RunRound | None) -> Ask:
    return Rounds(job, whole.survey, lease, run_round, say, state=lambda: state_of_inputs(job)).ask


def _refuse_other_job(whole: RunFolder, job: Job) -> None:
    try:
        refuse_other_job(whole, job)
    except RunFolderError as error:
        raise RunFolderError(
            f"{error} (It is an array's: for --fresh, remove the folder before the array is submitted.)"
        ) from error


def _go_on(
    job: Job,
    whole: RunFolder,
    folder: RunFolder,
    lease: Lease,
    share: Share,
    element: Element,
    say: Say,
    run_round: RunRound | None,
) -> Begun | Reused:
    of_all, record, result = read_record(whole), read_record(folder), finished(folder)
    assert of_all is not None, "it is planned"
    if record is not None and result is not None:
        changes: list[str] = []
        if job.allow_reuse:
            changes = changes_since(job, folder, record, planned_in=whole.private)
            if ARGUMENTS in changes:  # No reason to refuse: siblings may have written to what they name.
                changes.remove(ARGUMENTS)
                say(
                    f"since the share in {folder.root} was complete these have changed: {ARGUMENTS}; it is kept"
                )
        else:
            say(
                "allow_reuse is false, but shares that are complete are kept: they are not one element's alone"
            )
        _refuse_changes(folder, whole, changes)
        lease.release()
        return Reused(folder=folder, result=result)
    check_python(job)
    check_plan(whole.private / PLAN_NAME)
    plan = open_plan(whole.private)
    now = make_record(job, plan, inputs=lie_in_files(plan))
    _refuse_other_rows(whole, of_all, now)
    refuse_changed_files(whole, of_all, now)
    _tell_changes(record or of_all, now, say)
    if whole.copies_removed.exists():
        _make_copies_again(job, whole, plan, say, run_round)
    save_merging(whole, folder, job)
    save_record(folder, now)
    begun = Begun(folder=folder, lease=lease, plan=plan, record=now, share=share, whole=whole)
    say(
        f"{element.told}: it takes {begun.mini_batches:,} of {plan.mini_batches:,} mini-batches, as one of"
        f" {share.division.words}, in {folder.root}"
    )
    return begun


def _refuse_changes(folder: RunFolder, whole: RunFolder, changes: list[str]) -> None:
    if changes:
        raise RunFolderError(
            f"the share in {folder.root} is complete, and since then these have changed: {'; '.join(changes)}. Choose"
            f" another folder with --output DIR for the array as it is now, or remove {whole.root} before it is"
            " submitted."
        )


def _refuse_other_rows(whole: RunFolder, old: RunRecord, new: RunRecord) -> None:
    if old.rows != new.rows:
        raise RunFolderError(
            f"the array in {whole.root} has rows of another form: output_action, append_row_format, append_row or"
            " add_input_key has changed since its first start. Set them back, or choose another folder with"
            " --output DIR."
        )


def _tell_changes(old: RunRecord, new: RunRecord, say: Say) -> None:
    changes = describe_changes(without_inputs(old.fingerprint), without_inputs(new.fingerprint))
    if changes:
        say(f"continuing, although since the last start these have changed: {'; '.join(changes)}")


def _make_copies_again(job: Job, whole: RunFolder, plan: Plan, say: Say, run_round: RunRound | None) -> None:
    """They were removed as all shares were complete, and one is not any more."""
    lease = Lease(whole)
    lease.acquire(say)
    try:
        if whole.copies_removed.exists():
            make_copies_again(job, whole, plan, _ask(job, whole, lease, say, run_round))
            shutil.rmtree(whole.survey, ignore_errors=True)
    finally:
        lease.release()
