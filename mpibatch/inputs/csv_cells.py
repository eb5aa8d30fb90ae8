"""From the starts of records to mini-batches: where each begins and how many records it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]


class Cells(msgspec.Struct, frozen=True, array_like=True):
    """Mini-batches, or parts of such: int64, least byte first."""

    starts: bytes = b""
    """Where the first record of each begins."""
    rows: bytes = b""
    """How many records each has."""


class Collector(Protocol):
    """Is given all records' starts in order."""

    def add(self, starts: Numbers) -> None: ...

    def found(self) -> Cells: ...


def packed(numbers: Numbers) -> bytes:
    return numbers.astype("<i8", copy=False).tobytes()


def unpacked(numbers: bytes) -> Numbers:
    import numpy as np

    return np.frombuffer(numbers, "<i8").astype(np.int64, copy=False)


class BySizeCells:
    """A mini-batch has the records that begin in one cell of a grid of `size` bytes; 0: all of them."""

    def __init__(self, origin: int, size: int) -> None:
        self._origin = origin
        self._size = size
        self._parts: list[tuple[Numbers, Numbers]] = []

    def add(self, starts: Numbers) -> None:
        import numpy as np

        if len(starts):
            self._parts.append(self._merged(starts, np.ones(len(starts), np.int64)))
        if len(self._parts) >= 1024:
            self._parts = [self._all()]

    def add_cells(self, cells: Cells) -> None:
        if cells.starts:
            self._parts.append((unpacked(cells.starts), unpacked(cells.rows)))

    def found(self) -> Cells:
        starts, rows = self._all()
        return Cells(packed(starts), packed(rows))

    def _all(self) -> tuple[Numbers, Numbers]:
        import numpy as np

        if not self._parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        starts, rows = (np.concatenate(arrays) for arrays in zip(*self._parts))
        return self._merged(starts, rows)

    def _merged(self, starts: Numbers, rows: Numbers) -> tuple[Numbers, Numbers]:
        """Parts that lie in the same cell become one."""
        import numpy as np

        if self._size:
            cells = (starts - self._origin) // self._size
            new = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(np.diff(cells)) + 1))
        else:
            new = np.zeros(1, np.int64)
        return starts[new], np.add.reduceat(rows, new)


class ByRowsCells:
    """A mini-batch has `step` records, the last one maybe less. `before`: records in front of the first start."""

    def __init__(self, step: int, before: int = 0) -> None:
        self._step = step
        self._rows = before
        self._starts: list[Numbers] = []

    def add(self, starts: Numbers) -> None:
        first = -self._rows % self._step
        if first < len(starts):
            self._starts.append(starts[first :: self._step].copy())
        self._rows += len(starts)

    def found(self) -> Cells:
        return Cells(packed(self.starts()), packed(row_counts(self._rows, self._step)))

    def starts(self) -> Numbers:
        import numpy as np

        return np.concatenate(self._starts) if self._starts else np.zeros(0, np.int64)


def row_counts(rows: int, step: int) -> Numbers:
    """Rows of each mini-batch where `rows` are cut into mini-batches of `step`."""
    import numpy as np

    starts = np.arange(0, rows, step, dtype=np.int64)
    return np.minimum(rows - starts, step)
