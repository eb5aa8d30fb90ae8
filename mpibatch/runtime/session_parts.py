"""What a session is made of, from its job and from what earlier sessions have left."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpibatch.core.accounting import NOWHERE_ELSE, Elsewhere, Thresholds
from mpibatch.core.config import Job
from mpibatch.core.dispatch import Dispatcher
from mpibatch.core.ranks import WorkerPlace
from mpibatch.errors import RunFolderError
from mpibatch.outputs.assemble import Assembly
from mpibatch.outputs.sinks import make_sink
from mpibatch.runtime import failed_items
from mpibatch.runtime.causes import Causes
from mpibatch.runtime.files import storing
from mpibatch.runtime.jobfile import row_settings
from mpibatch.runtime.journal import Journal, write_about
from mpibatch.runtime.past import Past
from mpibatch.runtime.record import Begun
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.siblings import Siblings


def claim(begun: Begun, number: int, logs: list[dict[str, Any]]) -> Journal:
    """Become the writer of this session's files; another start that came as far fails here: RunFolderError."""
    folder = begun.folder
    begun.lease.set_session(number)
    write_about(folder, number, logs)
    with storing(f"the journal in {folder.private}"):
        try:
            return Journal(folder, number, begun.plan.fingerprint)
        except FileExistsError as error:
            raise RunFolderError(
                f"another start of this run has just begun session {number} in {folder.root}"
            ) from error


def make_notices(folder: RunFolder, number: int) -> Path:
    """Make the folder in which guardians tell of workers that have died in this session."""
    notices = folder.lost / f"{number:04d}"
    with storing(str(notices)):
        notices.mkdir(parents=True, exist_ok=True)
    return notices


def meet_siblings(job: Job, begun: Begun, now: float) -> tuple[Siblings | None, Elsewhere]:
    """The other shares of the array, where what fails in them matters here, and what has failed by now."""
    limits = (job.error_threshold, job.mini_batch_error_threshold)
    if begun.share is None or begun.whole is None or all(limit in (None, -1) for limit in limits):
        return None, NOWHERE_ELSE
    siblings = Siblings(begun.whole, begun.share)
    siblings.due(now)
    siblings.look()
    return siblings, siblings.failed


def make_assembly(job: Job, begun: Begun, number: int, past: Past) -> Assembly | None:
    """Of the output, after what earlier sessions have left of theirs is removed; None: none is made here."""
    folder = begun.folder
    shutil.rmtree(folder.finalize, ignore_errors=True)  # What `finalize()` had before its death.
    # The output of an array is made when all of its shares are complete.
    if job.output_action != "append_row" or begun.share is not None:
        return None
    partial = folder.partial_output(number)
    with storing(str(folder.private)):
        for session in folder.sessions():
            if session < number:
                folder.partial_output(session).unlink(missing_ok=True)
    assembly = Assembly(
        partial=partial,
        final=folder.root / job.append_row_file_name,
        copy_to=None if job.copy_output_to is None else Path(job.copy_output_to),
        facts=past.facts,
        segment=folder.rows,
        in_order=job.order == "input",
        sink=make_sink(job.append_row_format, partial, row_settings(job)),
    )
    if past.forms is not None and past.forms.merged is not None:
        assembly.set_form(past.forms.merged)
    return assembly


def make_causes(begun: Begun, past: Past, logs: list[dict[str, Any]], say: Callable[[str], None]) -> Causes:
    """With the items that earlier sessions left without a row."""
    causes = Causes(
        lambda piece: failed_items.describe(begun.plan, piece),
        lambda worker, error: failed_items.log_for(error, logs[worker]),
        say,
    )
    for piece, items, error in past.shorts:
        causes.earlier_shorts(piece, items, error)
    return causes


def make_dispatcher(
    job: Job, begun: Begun, past: Past, workers: list[WorkerPlace], elsewhere: Elsewhere
) -> Dispatcher:
    """Of what is left to be done."""
    return Dispatcher(
        workers=len(workers),
        nodes=[place.node for place in sorted(workers, key=lambda place: place.worker)],
        todo=past.todo,
        pieces=past.pieces,
        item_count=begun.plan.item_count,
        run_max_try=job.run_max_try,
        thresholds=Thresholds(
            failed_items=job.error_threshold,
            failed_mini_batches=job.mini_batch_error_threshold,
            # Of a share these say nothing: they are judged when all are merged.
            failed_percent=job.allowed_failed_percent if begun.share is None else None,
            needs_success=job.output_action == "append_row" and begun.share is None,
        ),
        tally=past.tally,
        isolate=job.isolate_failures,
        backoff=job.retry_backoff,
        straggler_copies=job.straggler_copies,
        elsewhere=elsewhere,
        concurrency=job.concurrency,
    )
