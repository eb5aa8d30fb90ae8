"""Sizes become mini-batches: arithmetic only. Pure.

Rules:

1. A mini-batch is a contiguous range of items of one input; none crosses from one input into the next.
2. All mini-batches of an input have the same size, but for its last one, which has what is left.
3. Mini-batches are numbered through, from 0, in the order of the inputs.
4. No list of mini-batches exists: any of ten million is found by a bisection over the inputs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Place(msgspec.Struct, frozen=True):
    """Where a mini-batch lies."""

    input: int
    """Number of its input, from 0."""
    first: int
    """Number of its first item in that input, from 0."""
    count: int
    """Its items, at least 1."""


def cut(items: int, mini_batch_size: int) -> int:
    """How many mini-batches of at most `mini_batch_size` items are made of `items` items."""
    if mini_batch_size < 1 or items < 0:
        raise ValueError(f"{items} items cannot be cut into mini-batches of {mini_batch_size}")
    return -(-items // mini_batch_size)


class Partition:
    """How inputs of so many items each become mini-batches of `mini_batch_size` items.

    Functions that take a mini-batch's number raise IndexError where there is no such mini-batch.
    """

    __slots__ = ("_first_mini_batch", "_sizes", "items", "mini_batch_size", "mini_batches")

    def __init__(self, sizes: Sequence[int], mini_batch_size: int) -> None:
        counts = [cut(size, mini_batch_size) for size in sizes]
        # Entry i: what lies before input i; the last entry is the total.
        self._first_mini_batch = list(accumulate(counts, initial=0))
        self._sizes = list(sizes)
        self.mini_batch_size = mini_batch_size
        self.items = sum(sizes)
        self.mini_batches: int = self._first_mini_batch[-1]

    @property
    def inputs(self) -> int:
        return len(self._sizes)

    @property
    def largest(self) -> int:
        """Items of the largest mini-batch; 0 where there is none."""
        return min(self.mini_batch_size, max(self._sizes, default=0))

    def input_of(self, mini_batch: int) -> int:
        """Number of the input that the mini-batch is cut from."""
        if not 0 <= mini_batch < self.mini_batches:
            raise IndexError(f"there is no mini-batch {mini_batch}: the plan has {self.mini_batches}")
        # The last input that begins at or before it; inputs without items begin where the next one does.
        return bisect_right(self._first_mini_batch, mini_batch) - 1

    def place(self, mini_batch: int) -> Place:
        """Where the mini-batch lies in its input."""
        number = self.input_of(mini_batch)
        first = (mini_batch - self._first_mini_batch[number]) * self.mini_batch_size
        return Place(number, first, min(self.mini_batch_size, self._sizes[number] - first))

    def item_count(self, mini_batch: int) -> int:
        return self.place(mini_batch).count

    def item_counts(self, mini_batches: NDArray[np.int64]) -> NDArray[np.int64]:
        """Like `item_count`, for many at once; all of them in the plan."""
        import numpy as np

        begins = np.array(self._first_mini_batch)
        number = np.searchsorted(begins, mini_batches, side="right") - 1
        first = (mini_batches - begins[number]) * self.mini_batch_size
        counts: NDArray[np.int64] = np.minimum(self.mini_batch_size, np.array(self._sizes)[number] - first)
        return counts

    def mini_batch_count(self, number: int) -> int:
        """Mini-batches of input `number`."""
        return self._first_mini_batch[number + 1] - self._first_mini_batch[number]
