"""Inputs whose mini-batches are of equal partition keys, as a table plan stores them.

Mini-batches of a table are made of parts (ranges of files), those of files are lists of paths.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from mpibatch.inputs.key_batches import KeyBatches
from mpibatch.inputs.sorted_rows import original_rows
from mpibatch.inputs.survey import Unreadable
from mpibatch.runtime.plan_container import Container
from mpibatch.runtime.table_layout import NUMBER, PART, StoredFile
from mpibatch.work import Paths, Slice, Slices

_BLOCK = 4096


class Keyed(Protocol):
    """The mini-batches of one input, by their number in it."""

    def source(self, local: int, first: int, count: int) -> Paths | Slice | Slices:
        """Where `count` items from item `first` of the mini-batch on are; these are in it."""

    def item_names(self, local: int, first: int, count: int) -> list[tuple[str, int | None]]: ...

    def error(self, local: int) -> str | None:
        """Why it cannot be read, as far as that is known."""


def keyed_of(
    plan: Container, entry: dict[str, Any], files: Callable[[int], StoredFile], rows: Callable[[int], int]
) -> Keyed | None:
    """None where the input is cut by size. `rows`: items of its mini-batch of a number."""
    if "parts" in entry:
        return Parts(plan, entry, files)
    return Groups(plan, entry, rows) if "firsts" in entry else None


def first_item(plan: Container, entry: dict[str, Any], local: int) -> int:
    """Position in the input of a mini-batch's first item."""
    found: int = NUMBER.unpack_from(plan.map, entry["firsts"][0] + NUMBER.size * local)[0]
    return found


class Parts:
    """Of a table."""

    def __init__(self, plan: Container, entry: dict[str, Any], files: Callable[[int], StoredFile]) -> None:
        self._plan = plan
        self._files = files
        self._index: int = entry["part_index"][0]
        self._parts: int = entry["parts"][0]
        self._count: int = entry["parts"][1] // PART.size

    def source(self, local: int, first: int, count: int) -> Slice | Slices:
        found = list(self._within(local, first, count))
        if len(found) == 1:
            return found[0][1]
        return Slices([part for _, part, _ in found], [rows for _, _, rows in found])

    def item_names(self, local: int, first: int, count: int) -> list[tuple[str, int | None]]:
        """Of a file that is not sorted any more where it was, the rows are not known."""
        names: list[tuple[str, int | None]] = []
        for file, part, rows in self._within(local, first, count):
            name = os.fsdecode(file.name)
            if file.error is not None:
                names.append((name, None))
                continue
            at = part.row + part.skip
            numbers: list[int] | list[None] | range = range(at, at + rows)
            if part.sorted:
                try:
                    numbers = original_rows(part.path, at, rows)
                except Unreadable:
                    numbers = [None] * rows
            names += [(name, number) for number in numbers]
        return names

    def error(self, local: int) -> str | None:
        return next(self._within(local, 0, 1))[0].error

    def _within(self, local: int, first: int, count: int) -> Iterator[tuple[StoredFile, Slice, int]]:
        """The parts that items [first, first + count) lie in, and how many of them lie in each."""
        begin, end = (
            NUMBER.unpack_from(self._plan.map, self._index + NUMBER.size * at)[0] for at in (local, local + 1)
        )
        if not begin < end <= self._count:
            raise self._plan.damaged(f"mini-batch {local} of a keyed table lies nowhere")
        for number in range(begin, end):
            start, stop, row, rows, skip, size, file_number = PART.unpack_from(
                self._plan.map, self._parts + PART.size * number
            )
            if first < size:
                taken = min(count, size - first)
                file = self._files(file_number)
                name = b"" if file.name == file.path else file.name
                where = Slice(
                    file.path, start, stop, row, rows, skip + first, file.whole, name, file.sorted, file.error
                )
                yield file, where, taken
                count -= taken
                if not count:
                    return
            first = max(0, first - size)
        raise self._plan.damaged(f"mini-batch {local} of a keyed table has fewer rows than it should")


class Groups:
    """Of files."""

    def __init__(self, plan: Container, entry: dict[str, Any], rows: Callable[[int], int]) -> None:
        self._plan = plan
        self._rows = rows
        self._names: list[int] = entry["names"]
        self._index: int = entry["name_index"][0]
        self._count: int = entry["count"]

    def source(self, local: int, first: int, count: int) -> Paths:
        blob = self._blob(local)
        if count == self._rows(local):
            return Paths(blob)
        return Paths(b"\0".join(blob.split(b"\0")[first : first + count]))

    def item_names(self, local: int, first: int, count: int) -> list[tuple[str, int | None]]:
        paths = self.source(local, first, count).blob.split(b"\0")
        return [(os.fsdecode(path), None) for path in paths]

    def error(self, local: int) -> str | None:
        return None

    def all_paths(self) -> Iterator[list[bytes]]:
        """In the order of the plan, some thousands at a time, or those of one mini-batch."""
        found: list[bytes] = []
        for local in range(self._count):
            found += self._blob(local).split(b"\0")
            if len(found) >= _BLOCK:
                yield found
                found = []
        if found:
            yield found

    def _blob(self, local: int) -> bytes:
        begin, end = (
            NUMBER.unpack_from(self._plan.map, self._index + NUMBER.size * at)[0] for at in (local, local + 1)
        )
        blob = self._plan.map[self._names[0] + begin : self._names[0] + end - 1]
        if not begin < end <= self._names[1] or blob.count(0) != self._rows(local) - 1:
            raise self._plan.damaged(f"the files of mini-batch {local} are not {self._rows(local)}")
        return blob


# Writing


class Group(NamedTuple):
    """Files of equal partition keys."""

    keys: Mapping[str, Any]
    paths: bytes | bytearray
    """Each followed by a NUL."""


def packed_parts(batches: KeyBatches, index: array[int]) -> Iterator[bytes]:
    """The parts of all mini-batches; fills the index with where those of the next one begin."""
    count = 0
    for number in range(len(batches)):
        packed = [PART.pack(*part[:5], part.taken, part.file) for part in batches.parts(number)]
        count += len(packed)
        index.append(count)
        yield b"".join(packed)


def joined_paths(
    groups: Iterable[Group], keys: list[Mapping[str, Any]], rows: list[int], index: array[int]
) -> Iterator[bytes]:
    """The paths of all mini-batches, each followed by a NUL."""
    for group in groups:
        keys.append(group.keys)
        rows.append(group.paths.count(0))
        index.append(index[-1] + len(group.paths))
        yield bytes(group.paths)
