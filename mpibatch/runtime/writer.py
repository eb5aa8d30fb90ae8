"""The writer thread: whatever may wait for a disk happens there, and MPI never does.

Rows and records come in batches from the coordinator. They are committed in groups: rows first, then
the records that name them. Between commits the output file grows by what is complete from the front.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Set
from typing import TYPE_CHECKING

import msgspec

from mpibatch.core import history
from mpibatch.core.failures import Failures
from mpibatch.core.forms import Unmergeable
from mpibatch.core.history import Facts
from mpibatch.errors import MpibatchError, ScriptError, StorageError
from mpibatch.outputs.assemble import Assembly, DamagedFragments
from mpibatch.outputs.held import HeldOutput
from mpibatch.runtime.files import storage_error
from mpibatch.runtime.journal import Journal
from mpibatch.runtime.recording import Batch, Recording, voids
from mpibatch.work import ErrorReport, Failed, Piece, Succeeded

if TYPE_CHECKING:
    from mpibatch.core.history import Records

COMMIT_S = 1.0
COMMIT_BYTES = 64 << 20
HAND_OVER_S = 0.02
HAND_OVER_BYTES = 1 << 20
MOST_BACKLOG_BYTES = 256 << 20
"""Of rows and records that may wait for the disk; above, the coordinator takes in nothing more."""


class _Finish(msgspec.Struct, frozen=True):
    complete: bool
    held: HeldOutput | None


class _End(msgspec.Struct, frozen=True):
    """Of a complete run whose rows were held. `deliver`: they become the output."""

    deliver: bool


_Item = Batch | _Finish | _End | Callable[[], None]


class Writer:
    """`start` it, then call `success`, `failure`, `loss` and `split`, `pump` often, and `finish` once; where that
    holds the rows, also `deliver` or `drop`.

    `error` holds what made the thread end early; nothing that was handed over later is kept then.
    `facts` belongs to the thread while it runs.
    """

    def __init__(
        self,
        journal: Journal,
        facts: Facts,
        session: int,
        assembly: Assembly | None,
        clock: Callable[[], float],
        fence: Callable[[], None],
        again: Set[int] = frozenset(),
    ) -> None:
        """`fence` raises when the run is not ours any more: from then on nothing is written.

        `again`: mini-batches that are done already and are made once more. Their old rows count until the new
        ones are whole, and stay where a part of them fails for good and so fewer items would have rows.
        """
        self._fence = fence
        self._journal = journal
        self._facts = facts
        self._session = session
        self._assembly = assembly
        self._clock = clock
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        # Of the coordinator's side
        self._recording = Recording(facts, again)
        self._handed_over_at = 0.0
        self._handed_over_bytes = 0
        # Of the thread's side
        self._uncommitted = bytearray()
        self._uncommitted_bytes = 0
        self._committed_at = 0.0
        self._written_bytes = 0
        self._completed = False
        self._held: HeldOutput | None = None
        self._failures = Failures(facts)
        self._again = again
        if assembly is not None and again:
            assembly.hold(again)
        self.error: MpibatchError | Exception | None = None
        self.durable_at: float | None = None
        """When, by `clock`, all was durable and, if complete, the output in its place, or held."""
        self.whole = False
        """The rows are held now, as they came."""

    @property
    def failed_mini_batches(self) -> int:
        """Of which at least a piece has failed for good in this session, as far as that is durable. Not those of
        which the rows of an earlier session stay."""
        return self._failures.mini_batches

    @property
    def failed_items(self) -> int:
        """Items of the failed pieces of these."""
        return self._failures.items

    # The coordinator's side

    def start(self) -> None:
        self._committed_at = self._clock()
        self._thread.start()

    def success(self, piece: Piece, worker: int, outcome: Succeeded) -> None:
        """Keep the fragment of an accepted attempt and record it, after the items that it left out."""
        self._recording.success(piece, worker, outcome)

    def form(self, own: bytes, merged: bytes) -> None:
        """Record a form of rows that the next success is the first to have; the output gets the `merged` one."""
        self._recording.form(own)
        if self._assembly is not None:
            assembly = self._assembly
            # Before the records that need it are handed over, so that it is there when they are finalised.
            self._queue.put(lambda: assembly.set_form(merged))

    def failure(self, piece: Piece, worker: int, outcome: Failed, *, tries: int, final: bool) -> None:
        """Record a failed attempt, with its error."""
        self._recording.failure(piece, worker, outcome, tries=tries, final=final)

    def loss(self, piece: Piece, error: ErrorReport) -> None:
        """Record a piece that has failed because workers were lost with it."""
        self._recording.loss(piece, error)

    def split(self, piece: Piece, at: int) -> None:
        """Record that a piece is replaced by two, of which the second begins at item number `at`."""
        self._recording.split(piece, at)

    def pump(self, now: float) -> None:
        """Hand over what has gathered, if it is enough or old enough."""
        if self._recording and (
            self._recording.row_bytes >= HAND_OVER_BYTES or now - self._handed_over_at >= HAND_OVER_S
        ):
            self._hand_over(now)

    def _hand_over(self, now: float) -> None:
        batch = self._recording.take()
        self._queue.put(batch)
        self._handed_over_bytes += batch.memory_bytes
        self._handed_over_at = now

    @property
    def backlog_bytes(self) -> int:
        """Memory of what waits for the disk; nothing does any more after an error."""
        if self.error is not None:
            return 0
        return self._handed_over_bytes - self._written_bytes

    def post(self, task: Callable[[], None]) -> None:
        """Have the thread call `task`: small writing that may wait for a disk. An error in it ends the thread."""
        self._queue.put(task)

    def commit_soon(self) -> None:
        """Make durable what has come so far, as the process may be killed in a moment."""
        if self._recording:
            self._hand_over(self._clock())
        self._queue.put(self._commit)

    def finish(self, *, complete: bool, held: HeldOutput | None = None) -> None:
        """Commit all; if `complete`, put the output into its place. Then the thread ends: see `alive`.

        `held`: of a complete run, where the output is to be put first: then the thread goes on, see `whole`.
        """
        if self._recording:
            self._hand_over(self._clock())
        self._queue.put(_Finish(complete, held))

    def take_again(self) -> None:
        """The rows that are held may have been changed: make them `whole` again."""
        self.whole = False
        self._queue.put(self._take)

    def deliver(self) -> None:
        """What is held becomes the output; then the thread ends."""
        self._queue.put(_End(True))

    def drop(self) -> None:
        """The rows are held no more, and there is no output; then the thread ends."""
        self._queue.put(_End(False))

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    # The thread's side

    def _run(self) -> None:
        try:
            while not self._work_off(self._next()):
                self._fence()
        except OSError as error:
            self.error = storage_error(error, str(error.filename or "the run folder"))
        except Unmergeable as error:
            # Values that do not fit the type that all rows have together are seen only when they are written.
            self.error = ScriptError(f"the rows cannot stand in one output: {error}")
        except Exception as error:  # Whoever waits for this thread raises it there.
            self.error = error
        if self._assembly is not None and not self._completed:
            self._assembly.discard()
        if self._held is not None:
            with contextlib.suppress(OSError):  # The next session removes it as well.
                self._held.clear()
        self._journal.close()

    def _next(self) -> _Item | None:
        wait = max(0.0, self._committed_at + COMMIT_S - self._clock())
        try:
            return self._queue.get(timeout=wait) if self._uncommitted else self._queue.get(timeout=COMMIT_S)
        except queue.Empty:
            return None

    def _work_off(self, item: _Item | None) -> bool:
        """True once the thread has to end."""
        match item:
            case Batch(rows, row_bytes, records):
                self._journal.append_rows(b"".join(rows))
                self._uncommitted += records
                self._uncommitted_bytes += row_bytes
                self._written_bytes += item.memory_bytes
            case _Finish(complete, held):
                self._commit()
                self._held = held if complete else None
                if self._held is not None:
                    self._take()
                elif complete and self._assembly is not None:
                    self._fence()
                    self._assemble(self._assembly)
                    self._assembly.place()
                    self._completed = True
                self.durable_at = self._clock()
                return self._held is None
            case _End(deliver):
                assert self._held is not None
                if deliver and self._assembly is not None:
                    self._fence()
                    self._held.deliver(self._assembly.delivery)
                    self._completed = True
                return True
            case None:
                pass
            case _:
                item()
        due = self._clock() - self._committed_at >= COMMIT_S or self._uncommitted_bytes >= COMMIT_BYTES
        if self._uncommitted and due:
            self._commit()
            if self._assembly is not None:
                self._assembly.advance()
        return False

    def _commit(self) -> None:
        if self._uncommitted:
            self._fence()
            records = self._journal.commit(bytes(self._uncommitted))
            history.add_records(self._facts, records, self._session)
            self._note(records)
            self._uncommitted.clear()
            self._uncommitted_bytes = 0
        self._committed_at = self._clock()

    def _note(self, records: Records) -> None:
        """What has ended, and so has not to be waited for."""
        failed = self._failures.note(records)
        if self._assembly is None:
            return
        if len(failed):
            self._assembly.skip(failed)
        if self._again:
            final = (records["kind"] == history.SUCCEEDED) | ((records["flags"] & history.FINAL) != 0)
            self._assembly.release(self._again & set(records["mini_batch"][final].tolist()))

    def _take(self) -> None:
        """Have the rows whole where they are held."""
        assembly, held = self._assembly, self._held
        assert held is not None
        if assembly is not None and not held.untouched():
            self._fence()
            assembly.again()
            self._assemble(assembly)
            held.take(assembly.partial)
        self.whole = True

    def _assemble(self, assembly: Assembly) -> None:
        try:
            assembly.assemble()
        except DamagedFragments as damaged:
            records = self._journal.commit(voids(damaged.mini_batches))
            history.add_records(self._facts, records, self._session)
            raise StorageError(
                f"{damaged} (their checksums differ; the first is mini-batch {damaged.mini_batches[0]}, in"
                f" {damaged.segment}). The storage has changed what was written. Start again: these mini-batches will"
                " be made again."
            ) from damaged
