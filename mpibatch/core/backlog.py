"""What waits to be handed out: pieces to be tried again, then the mini-batches behind a cursor. Pure.

Ten million mini-batches wait in a few ranges; only what was handed out and has not ended is an object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from mpibatch.work import Piece


class Work:
    """A piece that was handed out at least once."""

    __slots__ = ("ended", "live", "losses", "piece", "queued", "tries")

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.tries = 0
        """Failures of user code."""
        self.losses = 0
        """Workers that were lost while they were at it."""
        self.live = 0
        """Unanswered attempts of workers that are not lost."""
        self.queued = False
        self.ended = False


class Backlog:
    """`todo`: ranges (start, stop) of mini-batches, in order; `item_count`: items of a mini-batch.

    `waiting` pieces can be taken; `untouched` of them have never been.
    """

    __slots__ = ("_item_count", "_next", "_queue", "_ranges", "_stop", "untouched", "waiting")

    def __init__(self, todo: Iterable[tuple[int, int]], item_count: Callable[[int], int]) -> None:
        self._item_count = item_count
        self._ranges = deque((start, stop) for start, stop in todo if start < stop)
        self._next = self._stop = 0
        # May hold what was withdrawn meanwhile, and so a piece twice: `Work.queued` tells.
        self._queue: deque[Work] = deque()
        self.untouched = sum(stop - start for start, stop in self._ranges)
        self.waiting = self.untouched

    def take(self) -> Work | None:
        """What is to be handed out next: what was tried before comes first, then the cursor moves on."""
        while self._queue:
            work = self._queue.popleft()
            if work.queued:
                work.queued = False
                self.waiting -= 1
                return work
        if self._next == self._stop:
            if not self._ranges:
                return None
            self._next, self._stop = self._ranges.popleft()
        number = self._next
        self._next = number + 1
        self.untouched -= 1
        self.waiting -= 1
        return Work(Piece(number, 0, self._item_count(number)))

    def put(self, work: Work) -> None:
        """It is to be tried again; what waits already keeps its place."""
        if not work.queued:
            work.queued = True
            self.waiting += 1
            self._queue.append(work)

    def withdraw(self, work: Work) -> None:
        """It need not be handed out any more."""
        if work.queued:
            work.queued = False
            self.waiting -= 1

    def check(self) -> list[Work]:
        """Assert that the counts are right; returns what is to be tried again. For tests."""
        queued = list({id(work): work for work in self._queue if work.queued}.values())
        left = self._stop - self._next + sum(stop - start for start, stop in self._ranges)
        assert self.untouched == left, f"{self.untouched} untouched noted, {left} left"
        assert self.waiting == left + len(queued), f"{self.waiting} waiting noted, {left + len(queued)} there"
        return queued
