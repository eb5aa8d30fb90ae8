"""Makes the plan: all mini-batches in order, from the job's inputs and their partition only.

The plan is one file below the run folder, written once, so that a later session trusts it and walks
nothing again. Its fingerprint covers the ordered paths, where one input ends and the next begins, and
the size of a mini-batch: it decides whether a run can be continued.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from mpibatch.core.config import FilesInput, Job, ListInput
from mpibatch.core.partition import Partition
from mpibatch.inputs.files import find_files
from mpibatch.inputs.lists import listed_files
from mpibatch.inputs.origin import Origin
from mpibatch.inputs.walk import Names, Remarks
from mpibatch.runtime.plan_file import PlanFile, PlanWriter
from mpibatch.work import Paths, Piece

if TYPE_CHECKING:
    from types import TracebackType

PLAN_NAME = "plan"


class PlannedInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input as the plan has it."""

    kind: str
    """`files` or `list`."""
    text: str
    """As the job file has it."""
    items: int
    mini_batches: int


class Plan:
    """A plan that stands on disk. Close it, or use it as a context."""

    def __init__(self, file: PlanFile) -> None:
        self._file = file
        header = file.header
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


def open_plan(folder: Path) -> Plan:
    """The plan that `make_plan` left in `folder`. Raises StorageError where it is missing or damaged."""
    return Plan(PlanFile(folder / PLAN_NAME))


def make_plan(job: Job, folder: Path) -> Plan:
    """Find all items of the job and write the plan into `folder`, which must exist; replaces an older plan.

    One process at a time may plan in a folder. Raises InputError where an input matches nothing or cannot be
    read, StorageError where the plan cannot be written; then no file is left behind.
    """
    inputs: list[dict[str, Any]] = []
    remarks: list[str] = []
    with PlanWriter(folder / PLAN_NAME, job.mini_batch_size) as writer:
        for number, one in enumerate(job.inputs):
            key = f"inputs.{number}.{_kind(one)}"
            remark = Remarks()
            for folder_of, names in _items(
                one, Origin(f"{os.path.basename(job.job_file)}: {key}", one.text), job, remark
            ):
                writer.add(folder_of, names)
            remarks += [f"{key}: {text}" for text in remark.texts()]
            inputs.append({"kind": _kind(one), "text": one.text, "items": writer.end_input()})
        header = {"mini_batch_size": job.mini_batch_size, "inputs": inputs, "remarks": remarks}
        writer.finish(header, [job.mini_batch_size, [one["items"] for one in inputs]])
    return open_plan(folder)


def _kind(one: FilesInput | ListInput) -> str:
    return "list" if isinstance(one, ListInput) else "files"


def _items(one: FilesInput | ListInput, origin: Origin, job: Job, remarks: Remarks) -> Iterator[Names]:
    if isinstance(one, ListInput):
        return listed_files(one.list, origin, check=one.check)
    return find_files(one.files, origin, remarks, job.output)
