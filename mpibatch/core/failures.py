"""What has failed for good in a session, whole mini-batches and pieces of split ones. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpibatch.core.facts import Facts, item_count
from mpibatch.core.records import FAILED, FINAL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mpibatch.core.records import Records


class Failures:
    """`facts` must have taken in whatever `note` is told of."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._pieces: dict[int, int] = {}
        """Of mini-batches that fail in pieces: how many items have failed."""
        self.mini_batches = 0
        """Of which at least a piece has failed."""
        self.items = 0

    def note(self, records: Records) -> NDArray[np.int64]:
        """Take in records of this session. Returns which mini-batches have now ended without being done: all
        their items have succeeded or failed, and nothing has to wait for them."""
        import numpy as np

        final = final_failures(records, self._facts)
        number = final["mini_batch"].astype(np.int64)
        whole = final["count"] == self._facts.item_counts(number)
        self.mini_batches += int(whole.sum())
        self.items += int(final["count"].sum(dtype=np.int64))
        for one, count in zip(number[~whole].tolist(), final["count"][~whole].tolist(), strict=True):
            self.mini_batches += one not in self._pieces
            self._pieces[one] = self._pieces.get(one, 0) + count
        if not self._pieces:
            return number
        ended = self._ended(set(records["mini_batch"].tolist()) & self._pieces.keys())
        return np.concatenate((number[whole], np.array(ended, np.int64)))

    def _ended(self, numbers: set[int]) -> list[int]:
        covered, facts = self._facts.covered, self._facts
        return [
            one
            for one in sorted(numbers)
            if covered.get(one, 0) + self._pieces[one] == item_count(facts, one)
        ]


def final_failures(records: Records, facts: Facts) -> Records:
    """FAILED records after which a piece is not tried again, but for mini-batches that are done all the same:
    what an earlier session made of them stays."""
    final = records[(records["kind"] == FAILED) & ((records["flags"] & FINAL) != 0)]
    counts: Records = final[~facts.done[final["mini_batch"].astype("int64")]]
    return counts
