"""What a session leaves behind when it ends: failed items, the result, and whose run it was."""

from __future__ import annotations

import contextlib
import shutil

import msgspec

from mpibatch.core.config import Job
from mpibatch.core.history import Facts
from mpibatch.errors import StorageError
from mpibatch.results import JobResult
from mpibatch.runtime import failed_items
from mpibatch.runtime.ending import storage_result
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.metrics import gather_metrics
from mpibatch.runtime.record import Begun, RunRecord, make_record, save_record


def write_results(job: Job, begun: Begun, facts: Facts, session: int, result: JobResult) -> JobResult:
    """Write all down; the result that counts now: `complete` is only what could be written down."""
    folder = begun.folder
    try:
        # Until there is a new output, the old one stands, and so does what it lacks.
        if result.verdict == "complete" or not begun.only_failed:
            with storing(str(folder.failed_items)):
                failed_items.write_failed_items(folder, begun.plan, facts, session)
        with storing(str(folder.metrics)):
            gather_metrics([folder], folder.metrics)
        if result.verdict == "complete":
            save_record(folder, _completed_record(job, begun))
    except StorageError as error:
        result = storage_result(result, error)
    try:
        with storing(str(folder.result)):
            data = msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
            write_whole(folder.result, data)
    except StorageError as error:
        # What matters is in the journal.
        result = storage_result(result, error)
    if result.verdict == "complete":  # Else a later session may have to read again what is in them.
        _remove_copies(begun)
        with contextlib.suppress(OSError):  # Then the next start finds nothing to do.
            folder.only_failed.unlink(missing_ok=True)
    return result


def _completed_record(job: Job, begun: Begun) -> RunRecord:
    """Whose run this is, with what it has read. The script as it was when the session began: it may have been
    edited since. Inputs are looked at now, so that no first mini-batch waits for it, and arguments too, as the
    script may have written to a file that they name."""
    now = make_record(job, begun.plan, inputs=True)
    late = {part: now.fingerprint[part] for part in ("inputs", "arguments") if part in now.fingerprint}
    return msgspec.structs.replace(begun.record, fingerprint={**begun.record.fingerprint, **late})


def _remove_copies(begun: Begun) -> None:
    """Of compressed or sorted tables; that there were some is noted, as the plan still names them."""
    folder = begun.folder
    if not folder.unpacked.is_dir():
        return
    try:
        folder.copies_removed.touch()
    except OSError:  # Then they stay, and nothing is missing.
        return
    shutil.rmtree(folder.unpacked, ignore_errors=True)
