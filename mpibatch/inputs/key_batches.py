"""The words for mini-batches of equal partition keys. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec


class Part(NamedTuple):
    """A range of a file of which rows belong to a mini-batch; as in `work.Slice`, but for `taken` and `file`."""

    start: int
    stop: int
    row: int
    rows: int
    skip: int
    taken: int
    """Rows that belong to the mini-batch, from `skip` on."""
    file: int
    """Number of the file in its input."""


class KeyBatches:
    """Mini-batches in order, each with its keys' values and the parts that its rows are in. Kept small."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self._parts: list[array[int]] = []

    def __len__(self) -> int:
        return len(self.keys)

    def begin(self, key: bytes) -> int:
        """A new mini-batch, and its number. `key`: its values, by `pack`."""
        self.keys.append(key)
        self._parts.append(array("q"))
        return len(self.keys) - 1

    def add(self, number: int, part: Part) -> None:
        """Append a part to a mini-batch; where it goes on with what the last one has ended with, they become one."""
        parts = self._parts[number]
        if parts:
            last = Part(*parts[-len(part) :])
            if last.file == part.file and last.stop == part.start and last.row + last.rows == part.row:
                joined = last._replace(
                    stop=part.stop, rows=last.rows + part.rows, taken=last.taken + part.taken
                )
                parts[-len(part) :] = array("q", joined)
                return
            if _same_range(last, part) and last.skip + last.taken == part.skip:
                parts[-len(part) :] = array("q", last._replace(taken=last.taken + part.taken))
                return
        parts.extend(part)

    def parts(self, number: int) -> Iterator[Part]:
        """Those of a mini-batch, in order."""
        parts = self._parts[number]
        width = len(Part._fields)
        for at in range(0, len(parts), width):
            yield Part(*parts[at : at + width])

    def rows(self, number: int) -> int:
        return sum(part.taken for part in self.parts(number))


def _same_range(one: Part, other: Part) -> bool:
    return one._replace(skip=0, taken=0) == other._replace(skip=0, taken=0)


def pack(values: list[Any]) -> bytes:
    """Values of the keys, in their order, as they are told apart: by type as well. What pack takes: `plain`."""
    return msgspec.msgpack.encode(values)


def unpack(key: bytes) -> list[Any]:
    values: list[Any] = msgspec.msgpack.decode(key)
    return values
