"""The plan of tables and archives: mini-batches of varying size, found by number in a mapped file.

What `Plan` is for files, with the same names, so that the rest of the program needs not know which one it
has. `TablePlanWriter` makes it. Functions that take the number of a mini-batch, or a piece, raise
IndexError where that is not in the plan, StorageError where the file is damaged.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from mmap import MADV_DONTNEED
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from mpibatch.runtime.planned import PlannedInput
from mpibatch.runtime.table_layout import (
    FAILED,
    FILE,
    MINI_BATCH,
    PAIR,
    PART,
    SORTED,
    WHOLE,
    MappedPlan,
    StoredFile,
    is_table_plan,
    little_endian,
)
from mpibatch.runtime.table_plan_keys import Groups, first_item, keyed_of
from mpibatch.runtime.table_plan_writer import PlannedFile, TablePlanWriter
from mpibatch.work import Members, Paths, Piece, Slice, Slices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PlannedFile", "TablePlan", "TablePlanWriter", "TableSpec", "is_table_plan"]

_BLOCK = 4096
_NOTHING = [0, 0]
_MOST_MAPPED = 64 << 20
"""Bytes handed out after which the pages read so far are let go: they would count as ours."""


class TableSpec(msgspec.Struct, frozen=True):
    """What a processor has to know of an input to read it."""

    kind: str
    """csv, jsonl, parquet, hdf5, archive; of files by partition keys, files."""
    options: dict[str, Any]
    setup: bytes


class _Input:
    """An input's sections in the map. `rows`: items of its mini-batch of a number."""

    def __init__(self, plan: MappedPlan, entry: dict[str, Any], rows: Callable[[int], int]) -> None:
        self._plan = plan
        self._entry = entry
        self._map = plan.map
        self.kind: str = entry["kind"]
        self.archives = self.kind == "archive"
        self._records: int = entry["mini_batches"][0]
        self._files: int = entry["files"][0]
        self.file_count: int = entry["files"][1] // FILE.size
        self.copies: int = entry.get("copies", 0)
        """Of the files, the last ones are sorted copies of parts of those before them."""
        self._texts: int = entry["texts"][0]
        self._keys: list[int] | None = entry.get("keys")
        self._key_index: int = entry.get("key_index", _NOTHING)[0]
        self._names: list[int] = entry.get("names", _NOTHING)
        self._name_index: int = entry.get("name_index", _NOTHING)[0]
        self._members: list[int] = entry.get("members", _NOTHING)
        begin, length = entry["setup"]
        setup = self._map[self._texts + begin : self._texts + begin + length]
        self.spec = TableSpec(self.kind, entry["options"], setup)
        self._file = StoredFile(-1, b"", b"", None, False, False, 0, 0, 0)
        self.keyed = keyed_of(plan, entry, self._known_file, rows)

    def position(self, local: int) -> int:
        """Position in the input of a mini-batch's first item."""
        if self.keyed is not None:
            return first_item(self._plan, self._entry, local)
        _, _, row, file = self.record(local)
        return file.first_item + row

    def error(self, local: int) -> str | None:
        return self.record(local)[3].error if self.keyed is None else self.keyed.error(local)

    def _known_file(self, number: int) -> StoredFile:
        if number != self._file.number:
            self._file = self.file(number)
        return self._file

    def record(self, local: int) -> tuple[int, int, int, StoredFile]:
        """Start, stop, row and file of the input's mini-batch number `local`."""
        start, stop, row, number = MINI_BATCH.unpack_from(self._map, self._records + MINI_BATCH.size * local)
        if stop < start or row < 0:
            raise self._plan.damaged(f"mini-batch {local} of a {self.kind} input lies nowhere")
        return start, stop, row, self._known_file(number)

    def file(self, number: int) -> StoredFile:
        if number >= self.file_count:
            raise self._plan.damaged(f"there is no file {number} of a {self.kind} input")
        record = FILE.unpack_from(self._map, self._files + FILE.size * number)
        path, name, error = (self._text(*record[at : at + 2]) for at in (0, 2, 4))
        flags, first_item, size, mtime_ns = record[6:]
        words = error.decode("utf-8", "surrogateescape") if flags & FAILED else None
        whole, copy = bool(flags & WHOLE), bool(flags & SORTED)
        return StoredFile(number, path, name, words, whole, copy, first_item, size, mtime_ns)

    def _text(self, begin: int, length: int) -> bytes:
        return self._map[self._texts + begin : self._texts + begin + length]

    def keys(self, local: int) -> dict[str, Any] | None:
        if self._keys is None:
            return None
        begin, end = PAIR.unpack_from(self._map, self._key_index + PAIR.size * local)
        try:
            raw = self._map[self._keys[0] + begin : self._keys[0] + min(end, self._keys[1])]
            return msgspec.msgpack.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise self._plan.damaged(f"the keys of mini-batch {local} are none") from error

    def members(self, local: int, start: int, piece: Piece, rows: int) -> Members:
        """The piece's members; `start`: number of the mini-batch's first one in the input."""
        begin, end = PAIR.unpack_from(self._map, self._name_index + 8 * local)
        names = self._map[self._names[0] + begin : self._names[0] + end - 1]
        if not begin < end <= self._names[1] or names.count(0) != rows - 1:
            raise self._plan.damaged(f"the members of mini-batch {local} of the archives are not {rows}")
        if piece.count != rows:
            names = b"\0".join(names.split(b"\0")[piece.first : piece.first + piece.count])
        at = self._members[0] + 16 * (start + piece.first)
        pairs = little_endian(array("q", self._map[at : at + 16 * piece.count])).tolist()
        return Members(self._file.path, names, pairs[::2], pairs[1::2])


class TablePlan:
    """A plan that stands on disk: its header is read, its counts checked. Close it, or use it as a context."""

    def __init__(self, path: Path) -> None:
        self._plan = MappedPlan(path)
        self._rows: memoryview | array[int] = array("I")
        try:
            self._read(self._plan.header)
        except BaseException:
            self.close()
            raise

    def _read(self, header: dict[str, Any]) -> None:
        self.header = header
        entries = header["inputs"]
        for name, section in [("rows", header["rows"]), *(("files", one["files"]) for one in entries)]:
            start, length, crc = section
            with memoryview(self._plan.map)[start : start + length] as part:
                if zlib.crc32(part) != crc:
                    raise self._plan.damaged(f"its {name} do not agree with their check value")
        self._first = list(accumulate((entry["count"] for entry in entries), initial=0))
        self._inputs = [
            _Input(self._plan, entry, partial(self._rows_of, first))
            for entry, first in zip(entries, self._first)
        ]
        self.mini_batches: int = self._first[-1]
        self.items: int = sum(entry["items"] for entry in entries)
        self.inputs = len(entries)
        self.mini_batch_size: int = header.get("mini_batch_size", 0)
        """Items of a mini-batch where these are equal (archives); 0 where they are not."""
        self.fingerprint: str = header["fingerprint"]
        self.remarks: list[str] = header.get("remarks", [])
        """What was left out of the inputs, or taken otherwise than it may be meant: warnings."""
        self.planned_inputs = [
            PlannedInput(kind=one["kind"], text=one["text"], items=one["items"], mini_batches=one["count"])
            for one in entries
        ]
        self.tables = [one.spec for one in self._inputs]
        """What processors need to know, one for each input."""
        self._map_rows(*header["rows"][:2])
        self.largest_mini_batch = self._largest()
        """Its items."""
        self._handed_out = 0
        self._here = 0
        """The input that the last mini-batch asked for was of."""

    def _map_rows(self, start: int, length: int) -> None:
        if sys.byteorder == "little":
            self._rows = memoryview(self._plan.map)[start : start + length].cast("I")
        else:
            self._rows = little_endian(array("I", self._plan.map[start : start + length]))
        if len(self._rows) != self.mini_batches:
            raise self._plan.damaged(
                f"it counts the items of {len(self._rows)} of {self.mini_batches} mini-batches"
            )

    def _rows_of(self, first: int, local: int) -> int:
        return self._rows[first + local]

    def _largest(self) -> int:
        import numpy as np

        return int(np.frombuffer(self._rows, np.uint32).max()) if self.mini_batches else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if isinstance(self._rows, memoryview):
            self._rows.release()  # A map cannot be closed before.
        self._plan.map.close()

    # By number of a mini-batch

    def item_count(self, mini_batch: int) -> int:
        if not 0 <= mini_batch < self.mini_batches:
            raise self._no_such(mini_batch)
        return self._rows[mini_batch]

    def item_counts(self, mini_batches: NDArray[np.int64]) -> NDArray[np.int64]:
        """Like `item_count`, for many at once; all of them in the plan."""
        import numpy as np

        return np.frombuffer(self._rows, np.uint32)[mini_batches].astype(np.int64)

    def input_of(self, mini_batch: int) -> int:
        """Number of the input that the mini-batch is cut from."""
        if not 0 <= mini_batch < self.mini_batches:
            raise self._no_such(mini_batch)
        first = self._first
        if not first[self._here] <= mini_batch < first[self._here + 1]:
            # The last input that begins at or before it; those without items begin where the next one does.
            self._here = bisect_right(first, mini_batch) - 1
        return self._here

    def keys(self, mini_batch: int) -> dict[str, Any] | None:
        """The values of the partition keys; None where its input has none."""
        number = self.input_of(mini_batch)
        return self._inputs[number].keys(mini_batch - self._first[number])

    def error(self, mini_batch: int) -> str | None:
        """Why the whole mini-batch, which is a file, cannot be read; None: nothing is known against it."""
        number = self.input_of(mini_batch)
        return self._inputs[number].error(mini_batch - self._first[number])

    def _no_such(self, mini_batch: int) -> IndexError:
        return IndexError(f"there is no mini-batch {mini_batch}: the plan has {self.mini_batches}")

    # By piece

    def source(self, piece: Piece) -> Paths | Slice | Slices | Members:
        """Where the items of the piece are. Also for a file that cannot be read: see `error`."""
        rows = self._checked(piece)
        number = self.input_of(piece.mini_batch)
        one, local = self._inputs[number], piece.mini_batch - self._first[number]
        if one.keyed is not None:
            found = one.keyed.source(local, piece.first, piece.count)
            self._handed_out += len(found.blob) if isinstance(found, Paths) else PART.size
            self._let_go()
            return found
        start, stop, row, file = one.record(local)
        self._handed_out += MINI_BATCH.size
        if one.archives:
            members = one.members(local, start, piece, rows)
            self._handed_out += len(members.names) + 16 * rows
            self._let_go()
            return members
        self._let_go()
        name = b"" if file.name == file.path else file.name
        return Slice(file.path, start, stop, row, rows, piece.first, file.whole, name)

    def position(self, piece: Piece) -> int:
        """Position of the piece's first item in its input."""
        number = self.input_of(piece.mini_batch)
        return self._inputs[number].position(piece.mini_batch - self._first[number]) + piece.first

    def item_names(self, piece: Piece) -> list[tuple[str, int | None]]:
        """The items for people: of tables, file and row in it; of archives, archive and member, and no row.

        A file that cannot be read is one item without a row.
        """
        rows = self._checked(piece)
        number = self.input_of(piece.mini_batch)
        one, local = self._inputs[number], piece.mini_batch - self._first[number]
        if one.keyed is not None:
            return one.keyed.item_names(local, piece.first, piece.count)
        start, _, row, file = one.record(local)
        if file.error is not None:
            return [(os.fsdecode(file.name), None)]
        if one.archives:
            names = one.members(local, start, piece, rows).names.split(b"\0")
            return [(os.fsdecode(file.name + b"/" + name), None) for name in names]
        name = os.fsdecode(file.name)
        return [(name, row + item) for item in range(piece.first, piece.first + piece.count)]

    def all_paths(self) -> Iterator[list[bytes]]:
        """All files as the user has them (not unpacked copies), in order, some thousands at a time."""
        for one in self._inputs:
            if isinstance(one.keyed, Groups):
                yield from one.keyed.all_paths()
            count = one.file_count - one.copies
            for first in range(0, count, _BLOCK):
                yield [one.file(number).name for number in range(first, min(first + _BLOCK, count))]

    def _checked(self, piece: Piece) -> int:
        """Items of the piece's mini-batch."""
        rows = self.item_count(piece.mini_batch)
        if piece.first < 0 or piece.count < 1 or piece.first + piece.count > rows:
            raise IndexError(f"{piece} is not in the plan: that mini-batch has {rows} items")
        return rows

    def _let_go(self) -> None:
        if self._handed_out > _MOST_MAPPED:
            self._handed_out = 0
            with contextlib.suppress(OSError):
                self._plan.map.madvise(MADV_DONTNEED)
