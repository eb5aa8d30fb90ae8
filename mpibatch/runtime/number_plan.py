"""A plan whose items have no data: numbers, each input's from 0 on. Nothing of them needs to be stored.

What `FilePlan` is for files, with the same names. Its file is a header only, so that ten million numbers are
planned as fast as ten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mpibatch.core.job_inputs import COUNT, CountInput
from mpibatch.core.partition import Partition
from mpibatch.runtime.plan_container import Container, ContainerWriter
from mpibatch.runtime.planned import PlannedInput
from mpibatch.work import Numbers, Piece

if TYPE_CHECKING:
    from types import TracebackType

MAGIC = b"mpibnums"


def write_number_plan(inputs: Sequence[CountInput], mini_batch_size: int, path: Path) -> None:
    """Write the plan at `path`, durable. Raises StorageError where it cannot be written."""
    counts = [one.count for one in inputs]
    identity = json.dumps([COUNT, mini_batch_size, counts]).encode()
    fingerprint = hashlib.blake2b(identity, digest_size=32, person=b"mpibatch plan").hexdigest()
    header = {
        "mini_batch_size": mini_batch_size,
        "inputs": [{"text": one.text, "items": one.count} for one in inputs],
        "fingerprint": fingerprint,
    }
    with ContainerWriter(path, MAGIC) as writer:
        writer.finish(header)


class NumberPlan:
    """A plan that stands on disk, read as a whole when it is opened. Close it, or use it as a context."""

    def __init__(self, path: Path) -> None:
        container = Container(path, MAGIC)
        container.close()
        self.header = header = container.header
        self._partition = Partition([one["items"] for one in header["inputs"]], header["mini_batch_size"])
        self.items: int = self._partition.items
        self.mini_batches: int = self._partition.mini_batches
        self.inputs: int = self._partition.inputs
        self.mini_batch_size: int = self._partition.mini_batch_size
        self.largest_mini_batch: int = self._partition.largest
        """Its items."""
        self.fingerprint: str = header["fingerprint"]
        self.remarks: list[str] = []
        self.planned_inputs: list[PlannedInput] = [
            PlannedInput(
                kind=COUNT,
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
        """Nothing is open."""

    def source(self, piece: Piece) -> Numbers:
        """Which numbers the piece is. Raises IndexError for a piece that is not in the plan."""
        return Numbers(self._first(piece))

    def item_names(self, piece: Piece) -> list[tuple[str, int | None]]:
        """Each item for people: its number, and of which input where there are several."""
        first = self._first(piece)
        numbers = range(first, first + piece.count)
        of = f"inputs.{self.input_of(piece.mini_batch)}: " if self.inputs > 1 else ""
        return [(f"{of}{number}", None) for number in numbers]

    def keys(self, mini_batch: int) -> dict[str, Any] | None:
        """Values of the partition keys: there are none."""
        return None

    def position(self, piece: Piece) -> int:
        """Position of the piece's first item in its input: its number."""
        return self._partition.place(piece.mini_batch).first + piece.first

    def all_paths(self) -> Iterator[list[bytes]]:
        """No item is a file."""
        return iter(())

    def _first(self, piece: Piece) -> int:
        place = self._partition.place(piece.mini_batch)
        if piece.first < 0 or piece.count < 1 or piece.first + piece.count > place.count:
            raise IndexError(f"{piece} is not in the plan: that mini-batch has {place.count} items")
        return place.first + piece.first
