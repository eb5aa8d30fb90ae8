"""Fragments too large to send unasked: announced by workers, asked for by rank 0, so many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from mpibatch.messages import Announced

MOST_PULLED_BYTES = 256 << 20
"""Announced fragments on their way to rank 0 at one time."""


class Pulls:
    """What was announced and has not been asked for, and what was asked for and has not come."""

    def __init__(self) -> None:
        self._announced: deque[tuple[int, Announced]] = deque()
        self._pulled: dict[tuple[int, int], int] = {}

    def announced(self, worker: int, announced: Iterable[Announced]) -> None:
        self._announced.extend((worker, one) for one in announced)

    def came(self, worker: int, attempt: int) -> None:
        """It is here, if it was asked for."""
        self._pulled.pop((worker, attempt), None)

    def forget(self, worker: int) -> None:
        """What a worker announced and will not send any more must not keep others from sending."""
        self._pulled = {key: length for key, length in self._pulled.items() if key[0] != worker}

    def next(self, *, present: Collection[int], lost: Collection[int]) -> list[tuple[int, int]]:
        """What to ask for now, (worker, attempt) each; of a lost worker nothing, but it may come back."""
        if not self._announced:
            return []
        asked: list[tuple[int, int]] = []
        kept: list[tuple[int, Announced]] = []
        while self._announced and (not self._pulled or sum(self._pulled.values()) < MOST_PULLED_BYTES):
            worker, one = self._announced.popleft()
            if worker in lost:
                kept.append((worker, one))
            elif worker in present:
                self._pulled[worker, one.outcome.attempt] = one.length
                asked.append((worker, one.outcome.attempt))
        self._announced.extendleft(reversed(kept))
        return asked
