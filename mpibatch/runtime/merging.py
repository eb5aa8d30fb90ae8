"""The shares of an array become one output, in plan order, once all of them are complete.

It is made from the shares' journals and row segments as that of a plain run is: aside, and it appears whole. So it
may be broken off and done again at any time, and done again where it has been done it changes nothing.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from mpibatch.core import history
from mpibatch.core.accounting import Tally, Verdict, final_verdict
from mpibatch.core.forms import Unmergeable
from mpibatch.core.parts import IN_PARTS
from mpibatch.core.row_keys import RESERVED_NAMES
from mpibatch.core.shares import Division
from mpibatch.errors import (
    EXIT_COMPLETE,
    EXIT_TOO_MANY_ERRORS,
    RunFolderError,
    ScriptError,
    StorageError,
)
from mpibatch.outputs.assemble import Assembly, DamagedFragments
from mpibatch.outputs.held import HeldOutput
from mpibatch.outputs.sinks import make_sink
from mpibatch.results import CauseGroup, ItemCounts, JobResult, MiniBatchCounts, plain
from mpibatch.runtime.array_folder import Merging, read_division, read_merging, share_folder
from mpibatch.runtime.begin import remove_halves
from mpibatch.runtime.copied_output import copy_again
from mpibatch.runtime.files import storage_error, storing, write_whole
from mpibatch.runtime.finalizer import FinalizeFailed
from mpibatch.runtime.forms import FORMATS_WITH_FORMS, Forms, recorded_forms
from mpibatch.runtime.journal import add_journal
from mpibatch.runtime.lease import Lease
from mpibatch.runtime.merged_failures import merge_failed_items
from mpibatch.runtime.merged_finalize import call_finalize, complete_finalized
from mpibatch.runtime.metrics import gather_metrics
from mpibatch.runtime.plan_check import check_plan
from mpibatch.runtime.planner import PLAN_NAME, Plan, open_plan
from mpibatch.runtime.record import any_result, finished, read_record
from mpibatch.runtime.reopening import damaged_error, open_again
from mpibatch.runtime.run_folder import RunFolder

if TYPE_CHECKING:
    from mpibatch.core.history import Facts

Say = Callable[[str], None]


def complete_shares(whole: RunFolder, division: Division) -> list[int]:
    """Numbers of the elements whose shares are complete. Such a share stays so, unless a merge finds damage."""
    found = ((number, any_result(share_folder(whole, number))) for number in division.numbers)
    return [number for number, result in found if result is not None and result.verdict == "complete"]


def merge_shares(
    whole: RunFolder,
    division: Division,
    say: Say,
    *,
    wait: bool = False,
    asked: Callable[[], None] = lambda: None,
) -> JobResult:
    """Make the output of the shares, all of which are complete; the result of the whole, which is written too.

    What has been made already is only told of. `wait`: for as long as somebody else is at it; else RunFolderError
    after some seconds. `asked` raises where somebody asks to stop. StorageError where rows or records are damaged:
    then those shares are open again.
    """
    lease = _acquire(whole, say, wait=wait)
    try:
        results = [_result(share_folder(whole, number)) for number in division.numbers]
        with storing(str(whole.private)):
            remove_halves(whole)
        made, merging = finished(whole), read_merging(whole)
        if made is not None and made.sessions == sum(one.sessions for one in results):
            _remove_copies(whole)  # Perhaps who has made it was killed before that.
            if merging is not None and made.output is not None:
                copy_again(merging.copy_to, whole.root / merging.file_name, say)
            return made
        if merging is None:
            raise StorageError(
                f"{whole.private / 'merging.json'} is missing. Start any element of the array again:"
                " it writes it."
            )
        check_plan(whole.private / PLAN_NAME)
        with open_plan(whole.private) as plan:
            return _Merge(whole, division, plan, merging, results, lease, say, asked).run()
    except OSError as error:
        raise storage_error(error, str(error.filename or whole.root)) from error
    finally:
        lease.release()


def _acquire(whole: RunFolder, say: Say, *, wait: bool) -> Lease:
    told = False
    while True:
        lease = Lease(whole)
        try:
            lease.acquire(lambda _: None)
            return lease
        except RunFolderError:
            if not wait:
                raise
        if not told:
            told = True
            say(f"the shares in {whole.root} are being merged by somebody else: waiting for that")


def _result(folder: RunFolder) -> JobResult:
    result = any_result(folder)
    if result is None or result.verdict != "complete":
        raise RunFolderError(
            f"the share in {folder.root} is not complete any more: its element has to be started again."
        )
    return result


class _Merge:
    """`run` it once, under the lease of the whole."""

    def __init__(
        self,
        whole: RunFolder,
        division: Division,
        plan: Plan,
        merging: Merging,
        results: list[JobResult],
        lease: Lease,
        say: Say,
        asked: Callable[[], None],
    ) -> None:
        self._whole = whole
        self._plan = plan
        self._merging = merging
        self._results = results
        self._lease = lease
        self._say = say
        self._asked = asked
        self._division = division
        self._folders = [share_folder(whole, number) for number in division.numbers]
        self._segments: dict[int, Path] = {}
        """By the numbers that sessions have in the facts of all shares together."""

    def run(self) -> JobResult:
        self._say(f"merging the {self._division.words}, in {self._whole.root}")
        self._refuse_strangers()
        facts = self._read_facts()
        tally = self._tally(facts)
        verdict, reason = final_verdict(tally, self._merging.thresholds)
        failed: FinalizeFailed | None = None
        if verdict == "complete":
            failed = self._make_output(facts) if self._merging.append_row else self._finalize_without_rows()
        if failed is not None:
            verdict, reason = "failed", failed.words
        merge_failed_items(self._whole, self._folders)
        with storing(str(self._whole.metrics)):
            gather_metrics([*self._folders, self._whole], self._whole.metrics)
        has_output = verdict == "complete" and self._merging.append_row and self._final.exists()
        result = self._result(tally, verdict, reason, has_output=has_output)
        if failed is not None:
            cause = CauseGroup(error=plain(failed.words), item=None, count=0, log=plain(failed.log))
            result = msgspec.structs.replace(result, first_cause=cause)
        with storing(str(self._whole.result)):
            write_whole(
                self._whole.result, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
            )
        if verdict == "complete":
            _remove_copies(self._whole)
        return result

    def _result(self, tally: Tally, verdict: Verdict, reason: str, *, has_output: bool) -> JobResult:
        longest = max(one.processing_s for one in self._results)
        return JobResult(
            verdict=verdict,
            exit_code=EXIT_COMPLETE if verdict == "complete" else EXIT_TOO_MANY_ERRORS,
            reason=reason,
            items=ItemCounts(
                total=tally.items_total, succeeded=tally.items_succeeded, failed=tally.items_failed
            ),
            mini_batches=MiniBatchCounts(
                total=tally.mini_batches_total, succeeded=tally.mini_batches_succeeded,
                failed=tally.mini_batches_failed, attempts=tally.attempts,
            ),
            rows=tally.rows,
            # As if all had run at a time: of elements one after the other no time says much.
            elapsed_s=max(one.elapsed_s for one in self._results),
            processing_s=longest,
            mini_batches_per_s=round(tally.mini_batches_total / longest, 3) if longest > 0 else 0.0,
            sessions=sum(one.sessions for one in self._results),
            output=plain(str(self._final.absolute())) if has_output else None,
            first_cause=next((one.first_cause for one in self._results if one.first_cause is not None), None),
        )  # fmt: skip

    @property
    def _final(self) -> Path:
        return self._whole.root / self._merging.file_name

    def _refuse_strangers(self) -> None:
        """Shares of another plan, or with rows of another form."""
        of_all = read_record(self._whole)
        for folder in self._folders:
            record = read_record(folder)
            if of_all is None or record is None:
                raise StorageError(
                    f"the run record of {self._whole.root} or {folder.root} is missing: restore it."
                )
            if (record.plan_request, record.rows) != (of_all.plan_request, of_all.rows):
                raise RunFolderError(
                    f"the share in {folder.root} is of another plan, or has rows of another form, than the array"
                    f" in {self._whole.root} has: it was put there from elsewhere. Remove it, and start its element"
                    " again."
                )

    def _read_facts(self) -> Facts:
        plan = self._plan
        facts = history.no_facts(plan.mini_batches, plan.item_counts)
        known_as = 0
        for place, (folder, result) in enumerate(zip(self._folders, self._results, strict=True)):
            for session in folder.sessions():
                known_as += 1
                if known_as >= IN_PARTS:
                    raise RunFolderError(
                        f"the shares in {self._whole.root} have more than {IN_PARTS - 1:,} sessions together, which"
                        " cannot be merged."
                    )
                add_journal(facts, folder, session, plan.fingerprint, known_as=known_as)
                self._segments[known_as] = folder.rows(session)
            done = int(facts.done[place :: self._division.count].sum())
            if done != result.mini_batches.succeeded:
                self._open_again(
                    place,
                    f"{result.mini_batches.succeeded - done} of its mini-batches have no valid record",
                )
        return facts

    def _tally(self, facts: Facts) -> Tally:
        return Tally(
            items_total=self._plan.items,
            mini_batches_total=self._plan.mini_batches,
            items_succeeded=facts.succeeded,
            items_failed=sum(one.items.failed for one in self._results),
            mini_batches_succeeded=int(facts.done.sum()),
            mini_batches_failed=sum(one.mini_batches.failed for one in self._results),
            attempts=sum(one.mini_batches.attempts for one in self._results),
            rows=facts.rows,
        )

    def _make_output(self, facts: Facts) -> FinalizeFailed | None:
        """None: it is in its place, or `finalize()` has removed it."""
        import numpy as np

        merging = self._merging
        partial = self._whole.partial_output(0)
        partial.unlink(missing_ok=True)
        assembly = Assembly(
            partial=partial,
            final=self._final,
            copy_to=None if merging.copy_to is None else Path(merging.copy_to),
            facts=facts,
            segment=lambda session: self._segments[session],
            in_order=merging.in_order,
            sink=make_sink(merging.row_format, partial, merging.settings),
        )
        try:
            form = self._form()
            if form is not None:
                assembly.set_form(form)
            assembly.skip(np.flatnonzero(~facts.done))
            assembly.advance()
            self._lease.check()
            if merging.finalize is None:
                assembly.complete()
                return None
            held = HeldOutput(self._whole.finalize / "merge", merging.file_name, RESERVED_NAMES)
            return complete_finalized(merging.finalize, assembly, held, self._fence, self._say)
        except BaseException as error:
            assembly.discard()
            if isinstance(error, DamagedFragments):
                self._open_damaged(error)
            if isinstance(error, Unmergeable):
                raise ScriptError(f"the rows of the shares cannot stand in one output: {error}") from error
            raise

    def _finalize_without_rows(self) -> FinalizeFailed | None:
        by = self._merging.finalize
        return None if by is None else call_finalize(by, None, self._whole.root, self._fence, self._say)

    def _fence(self) -> None:
        self._lease.check()
        self._asked()

    def _form(self) -> bytes | None:
        """The form that the rows of all shares have together."""
        if self._merging.row_format not in FORMATS_WITH_FORMS:
            return None
        forms = Forms([])
        for folder in self._folders:
            for own in recorded_forms(folder, self._plan.fingerprint):
                try:
                    forms.add(own)
                except Unmergeable as error:
                    raise Unmergeable(
                        f"those in {folder.root} do not go together with those of the shares before it: {error}"
                    ) from error
        return forms.merged

    def _open_damaged(self, error: DamagedFragments) -> None:
        by_share: dict[int, list[int]] = {}
        for number in error.mini_batches:
            by_share.setdefault(number % self._division.count, []).append(number)
        numbers = [self._division.numbers[place] for place in by_share]
        for place, damaged in by_share.items():
            what = f"the rows of {len(damaged)} mini-batches are damaged"
            open_again(self._folders[place], self._plan.fingerprint, damaged, what)
        raise damaged_error(
            numbers, f"{error} (checksums differ; the first is in {error.segment})"
        ) from error

    def _open_again(self, place: int, what: str) -> NoReturn:
        open_again(self._folders[place], self._plan.fingerprint, [], what)
        number = self._division.numbers[place]
        raise damaged_error([number], f"the share in {self._folders[place].root} is damaged: {what}")


def _remove_copies(whole: RunFolder) -> None:
    """Of compressed or sorted tables, which the plan still names."""
    if whole.unpacked.is_dir():
        with contextlib.suppress(OSError):  # Then they stay, and nothing is missing.
            whole.copies_removed.touch()
            shutil.rmtree(whole.unpacked, ignore_errors=True)


def recorded_division(whole: RunFolder) -> Division:
    """How the array in this folder is divided. RunFolderError where there is none."""
    division = read_division(whole)
    if division is None:
        raise RunFolderError(
            f"there is no job array in {whole.root}: none of its elements has planned there. Name the run folder:"
            " `output` of the job file, or what was given as --output."
        )
    return division
