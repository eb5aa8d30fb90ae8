"""A plan whose items are files, as the rest of the program sees it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from mpibatch.core.partition import Partition
from mpibatch.runtime.plan_file import PlanFile
from mpibatch.runtime.planned import PlannedInput
from mpibatch.work import Paths, Piece

if TYPE_CHECKING:
    from types import TracebackType


class FilePlan:
    """A plan that stands on disk. Close it, or use it as a context."""

    def __init__(self, file: PlanFile) -> None:
        self._file = file
        self.header = header = file.header
        self._partition = Partition([one["items"] for one in header["inputs"]], header["mini_batch_size"])
        self.items: int = self._partition.items
        self.mini_batches: int = self._partition.mini_batches
        self.inputs: int = self._partition.inputs
        self.mini_batch_size: int = self._partition.mini_batch_size
        self.largest_mini_batch: int = self._partition.largest
        """Its items."""
        self.fingerprint: str = header["fingerprint"]
        self.remarks: list[str] = header["remarks"]
        """What was left out of the inputs, or taken otherwise than it may be meant: warnings."""
        self.planned_inputs: list[PlannedInput] = [
            PlannedInput(
                kind=one["kind"],
                text=one["text"],
                items=one["items"],
                mini_batches=self._partition.mini_batch_count(number),
            )
            for number, one in enumerate(header["inputs"])
        ]
        self.item_count = self._partition.item_count
        self.item_counts = self._partition.item_counts
        self.input_of = self._partition.input_of

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def source(self, piece: Piece) -> Paths:
        """Where the items of the piece are. Raises IndexError for a piece that is not in the plan."""
        return Paths(self._blob(piece))

    def item_names(self, piece: Piece) -> list[tuple[str, int | None]]:
        """Each item for people: its file, and of a table the number of its row there."""
        return [(os.fsdecode(path), None) for path in self.paths(piece)]

    def keys(self, mini_batch: int) -> dict[str, Any] | None:
        """Values of the partition keys; None without any."""
        return None

    def paths(self, piece: Piece) -> list[bytes]:
        """The items of the piece, as the file system spells them."""
        return self._blob(piece).split(b"\0")

    def position(self, piece: Piece) -> int:
        """Position of the piece's first item in its input."""
        return self._partition.place(piece.mini_batch).first + piece.first

    def all_paths(self) -> Iterator[list[bytes]]:
        """All items in order, some thousands at a time."""
        return self._file.blocks()

    def _blob(self, piece: Piece) -> bytes:
        place = self._partition.place(piece.mini_batch)
        if piece.first < 0 or piece.count < 1 or piece.first + piece.count > place.count:
            raise IndexError(f"{piece} is not in the plan: that mini-batch has {place.count} items")
        return self._file.blob(place.input, place.first + piece.first, piece.count)
