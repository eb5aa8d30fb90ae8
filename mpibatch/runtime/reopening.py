"""A share that was complete is open again, as a merge has found damage in it: its element makes it whole."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpibatch.errors import EXIT_STORAGE, StorageError
from mpibatch.results import plain
from mpibatch.runtime.files import write_whole
from mpibatch.runtime.journal import Journal, write_about
from mpibatch.runtime.lease import Lease
from mpibatch.runtime.record import any_result
from mpibatch.runtime.recording import voids
from mpibatch.runtime.run_folder import RunFolder


def open_again(folder: RunFolder, plan_fingerprint: str, damaged: list[int], reason: str) -> None:
    """Of the `damaged` mini-batches nothing counts any more, and the share's result says that it failed, and why.

    That is a session of its own, under the share's lease. Raises OSError, and errors as of a lease.
    """
    lease = Lease(folder)
    lease.acquire(lambda _: None)
    try:
        session = (folder.sessions() or [0])[-1] + 1
        lease.set_session(session)
        write_about(folder, session, [])
        journal = Journal(folder, session, plan_fingerprint)
        try:
            journal.commit(voids(damaged))
        finally:
            journal.close()
        result = any_result(folder)
        assert result is not None, "it was complete"
        again = msgspec.structs.replace(
            result, verdict="failed", exit_code=EXIT_STORAGE, reason=plain(reason), sessions=session
        )
        write_whole(folder.result, msgspec.json.format(msgspec.json.encode(again), indent=2) + b"\n")
    finally:
        lease.release()


def damaged_error(elements: Sequence[int], what: str) -> StorageError:
    """What to say of the shares of these elements, which are open again."""
    names = ",".join(map(str, elements))
    return StorageError(
        f"{what}. The storage has changed what was written. Start"
        f" {'element' if len(elements) == 1 else 'elements'} {names} of the array again (sbatch --array={names}):"
        " what is damaged is made again; then merge."
    )
