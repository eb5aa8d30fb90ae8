"""The plan of tables and archives: mini-batches of varying size, found by number in a mapped file.

What `Plan` is for files, with the same names, so that the rest of the program needs not know which one it
has. `TablePlanWriter` makes it. Functions that take the number of a mini-batch, or a piece, raise
IndexError where that is not in the plan, StorageError where the file is damaged.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mpibatch.runtime.plan_container import Container, release
from mpibatch.runtime.planned import PlannedInput
from mpibatch.runtime.table_layout import MAGIC, MINI_BATCH, PART, is_table_plan
from mpibatch.runtime.table_plan_input import StoredInput, TableSpec
from mpibatch.runtime.table_plan_keys import Groups
from mpibatch.runtime.table_plan_writer import PlannedFile, TablePlanWriter
from mpibatch.work import Members, Paths, Piece, Slice, Slices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PlannedFile", "TablePlan", "TablePlanWriter", "TableSpec", "is_table_plan"]

_BLOCK = 4096


class TablePlan:
    """A plan that stands on disk: its header is read, its counts checked. Close it, or use it as a context."""

    def __init__(self, path: Path) -> None:
        self._plan = Container(path, MAGIC)
        self._rows: memoryview | array[int] = array("I")
        self._here = 0
        """The input that the last mini-batch asked for was of."""
        try:
            self._read(self._plan.header)
        except BaseException:
            self.close()
            raise

    def _read(self, header: dict[str, Any]) -> None:
        self.header = header
        entries = header["inputs"]
        self._plan.check("rows", header["rows"])
        for entry in entries:
            self._plan.check("files", entry["files"])
        self._first = list(accumulate((entry["count"] for entry in entries), initial=0))
        self._inputs = [
            StoredInput(self._plan, entry, partial(self._rows_of, first))
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
        self._rows = self._plan.numbers(header["rows"], "I")
        if len(self._rows) != self.mini_batches:
            there, planned = len(self._rows), self.mini_batches
            raise self._plan.damaged(f"it counts the items of {there} of {planned} mini-batches")
        self.largest_mini_batch = self._largest()
        """Its items."""

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
        release(self._rows)  # A map cannot be closed before.
        self._plan.close()

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
            self._plan.hand_out(len(found.blob) if isinstance(found, Paths) else PART.size)
            return found
        start, stop, row, file = one.record(local)
        self._plan.hand_out(MINI_BATCH.size)
        if one.archives:
            members = one.members(local, start, piece, rows)
            self._plan.hand_out(len(members.names) + 16 * rows)
            return members
        name = b"" if file.name == file.path else file.name
        return Slice(file.path, start, stop, row, rows, piece.first, file.whole, name, error=file.error)

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
