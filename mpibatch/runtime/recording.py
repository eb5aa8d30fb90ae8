"""What the coordinator has to tell the disk, gathered as rows and records until the writer takes it."""

from __future__ import annotations

import zlib
from collections.abc import Set

import msgspec

from mpibatch.core import history
from mpibatch.core.history import CAUSES, Facts
from mpibatch.work import ErrorReport, Failed, Piece, Succeeded

_OBJECT_BYTES = 56
"""Of a `bytes` besides its content, as a list and the allocator have it."""
_UNREADABLE = CAUSES.index("unreadable")


class Batch(msgspec.Struct, frozen=True):
    """Bytes for the row segment, and the records that name them."""

    rows: list[bytes]
    row_bytes: int
    records: bytes

    @property
    def memory_bytes(self) -> int:
        """About what it takes while it waits: short rows less than what Python needs besides."""
        return self.row_bytes + _OBJECT_BYTES * len(self.rows) + len(self.records)


class Recording:
    """`again`: mini-batches that are done and are made once more. What `facts` has of them counts until the new is
    whole."""

    def __init__(self, facts: Facts, again: Set[int]) -> None:
        self._again = _Again(facts, again)
        self._offset = 0
        self._rows: list[bytes] = []
        self.row_bytes = 0
        """Bytes of rows that have gathered."""
        self._records = bytearray()

    def __bool__(self) -> bool:
        """Whether there are records to be taken."""
        return bool(self._records)

    def take(self) -> Batch:
        """What has gathered; then nothing has."""
        batch = Batch(self._rows, self.row_bytes, bytes(self._records))
        self._rows, self.row_bytes, self._records = [], 0, bytearray()
        return batch

    def success(self, piece: Piece, worker: int, outcome: Succeeded) -> None:
        """The fragment of an accepted attempt, after the items that it left out."""
        records = b""
        for bad in outcome.bad:
            offset, length, crc = self._keep(msgspec.msgpack.encode(bad.error))
            records += history.record(
                kind=history.BAD, mini_batch=piece.mini_batch, first=piece.first + bad.position, count=1,
                attempt=outcome.attempt, worker=worker, cause=_UNREADABLE, offset=offset, length=length, crc=crc,
            )  # fmt: skip
        offset, length, crc = self._keep(outcome.fragment)
        records += history.record(
            kind=history.SUCCEEDED, mini_batch=piece.mini_batch, first=piece.first, count=piece.count,
            attempt=outcome.attempt, worker=worker, offset=offset, length=length, crc=crc,
            succeeded=outcome.succeeded, rows=outcome.rows, header=outcome.header,
        )  # fmt: skip
        if piece.mini_batch in self._again:
            records = self._again.ended(piece, records, outcome.succeeded)
        self._records += records

    def failure(self, piece: Piece, worker: int, outcome: Failed, *, tries: int, final: bool) -> None:
        """A failed attempt, with its error."""
        self._fail(piece, worker, outcome.attempt, CAUSES.index(outcome.cause), outcome.error, tries, final)

    def loss(self, piece: Piece, error: ErrorReport) -> None:
        """A piece that has failed because workers were lost with it."""
        self._fail(piece, 0, 0, CAUSES.index("lost"), error, 0, True)

    def split(self, piece: Piece, at: int) -> None:
        """A piece that is replaced by two, of which the second begins at item number `at`."""
        self._records += history.record(
            kind=history.SPLIT, mini_batch=piece.mini_batch, first=piece.first, count=piece.count,
            attempt=0, worker=0, rows=at,
        )  # fmt: skip

    def form(self, own: bytes) -> None:
        """A form of rows that the next success is the first to have."""
        offset, length, crc = self._keep(own)
        self._records += history.record(
            kind=history.FORM, mini_batch=0, first=0, count=0, attempt=0, worker=0,
            offset=offset, length=length, crc=crc,
        )  # fmt: skip

    def _fail(
        self, piece: Piece, worker: int, attempt: int, cause: int, error: ErrorReport, tries: int, final: bool
    ) -> None:
        offset, length, crc = self._keep(msgspec.msgpack.encode(error))
        records = history.record(
            kind=history.FAILED, mini_batch=piece.mini_batch, first=piece.first, count=piece.count,
            attempt=attempt, worker=worker, flags=history.FINAL if final else 0, cause=cause, tries=tries,
            offset=offset, length=length, crc=crc,
        )  # fmt: skip
        if final and piece.mini_batch in self._again:
            records = self._again.ended(piece, records, None)
        self._records += records

    def _keep(self, data: bytes) -> tuple[int, int, int]:
        offset, length = self._offset, len(data)
        if length:
            self._rows.append(data)
            self._offset += length
            self.row_bytes += length
        return offset, length, zlib.crc32(data)


class _Made(msgspec.Struct):
    """What has been made anew of a mini-batch so far."""

    records: bytes = b""
    failures: bytes = b""
    items: int = 0
    succeeded: int = 0


class _Again:
    """Holds records back until the new of a mini-batch is whole, as half of it must not take the old one's place."""

    def __init__(self, facts: Facts, numbers: Set[int]) -> None:
        self._facts = facts
        self._numbers = numbers
        self._made: dict[int, _Made] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def ended(self, piece: Piece, records: bytes, succeeded: int | None) -> bytes:
        """What is to be recorded now that a piece has ended; `succeeded`: items, None if it has failed for good."""
        number = piece.mini_batch
        made = self._made.setdefault(number, _Made())
        made.records += records
        made.items += piece.count
        if succeeded is None:
            made.failures += records
        else:
            made.succeeded += min(succeeded, piece.count)
        if made.items < history.item_count(self._facts, number):
            return b""
        del self._made[number]
        if made.succeeded < self._facts.item_successes[number]:
            # Rows must not get fewer. A success of what is done already changes nothing, and tells that it ended.
            return made.failures or made.records
        return voids([number]) + made.records


def voids(numbers: list[int]) -> bytes:
    """Records by which nothing of these mini-batches counts any more."""
    return b"".join(
        history.record(kind=history.VOID, mini_batch=number, first=0, count=0, attempt=0, worker=0)
        for number in numbers
    )
