"""What waits to be handed out: pieces to be tried again, then the mini-batches behind a cursor. Pure.

Ten million mini-batches wait in a few ranges; only what was handed out and has not ended is an object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from mpibatch.core.bisection import SplitMiniBatch
from mpibatch.work import Piece

LOOK_AHEAD = 64
"""Pieces that a worker leaves to others before it takes one all the same: a bound for queue and search."""


class Work:
    """A piece that was handed out at least once, or that is part of a split mini-batch."""

    __slots__ = (
        "alone", "copied", "ended", "failed_on", "family", "limit", "live", "losses", "piece", "queued", "rest",
        "spared", "tries",
    )  # fmt: skip

    def __init__(self, piece: Piece, family: SplitMiniBatch | None = None) -> None:
        self.piece = piece
        self.family = family
        """What it is a part of; None: it is the whole mini-batch."""
        self.tries = 0
        """Failures of user code that count."""
        self.limit = 0
        """Of a half: the tries after which it has failed. 0: as many as the job allows."""
        self.spared = 0
        """Failures that did not count, as they were the worker's fault."""
        self.losses = 0
        """Workers that were lost while they were at it."""
        self.live = 0
        """Unanswered attempts of workers that are not lost."""
        self.queued = False
        self.rest = 0
        """Number of the rest that it takes before its next try; 0: none."""
        self.ended = False
        self.copied = False
        self.alone = False
        """Nothing else may run beside it: it has killed what it ran in, or may have."""
        self.failed_on: set[int] | None = None
        """Workers on which it has failed, or the piece that it is a half of."""


class Backlog:
    """`todo`: ranges (start, stop) of mini-batches, in order; `item_count`: items of a mini-batch.

    `waiting` pieces can be taken; `untouched` of them are mini-batches that have never been.
    """

    __slots__ = (
        "_item_count",
        "_next",
        "_queue",
        "_ranges",
        "_resting",
        "_rests",
        "_stop",
        "untouched",
        "waiting",
    )

    def __init__(self, todo: Iterable[tuple[int, int]], item_count: Callable[[int], int]) -> None:
        self._item_count = item_count
        self._ranges = deque((start, stop) for start, stop in todo if start < stop)
        self._next = self._stop = 0
        # May hold what was withdrawn meanwhile, and so a piece twice: `Work.queued` tells.
        self._queue: deque[Work] = deque()
        self._resting: dict[int, Work] = {}
        self._rests = 0
        self.untouched = sum(stop - start for start, stop in self._ranges)
        self.waiting = self.untouched

    def take(self, avoided: Callable[[Work], bool] | None = None, content: bool = True) -> Work | None:
        """What is to be handed out next: what was tried before comes first, then the cursor moves on.

        What is `avoided` is left to others; one who is `content` with that takes it if there is nothing else.
        """
        if not self._queue:
            return self._fresh()
        work, passed = self._search(avoided)
        if work is None and len(passed) < LOOK_AHEAD:
            work = self._fresh()
        if work is None and content and passed:
            work = passed.pop(0)
            self.withdraw(work)
        self._queue.extendleft(reversed(passed))
        return work

    def _search(self, avoided: Callable[[Work], bool] | None) -> tuple[Work | None, list[Work]]:
        """Take the first that is not avoided; besides, what was passed over on the way, taken out of the queue."""
        passed: list[Work] = []
        while self._queue and len(passed) < LOOK_AHEAD:
            work = self._queue.popleft()
            if not work.queued:
                continue
            if avoided is None or not avoided(work):
                self.withdraw(work)
                return work, passed
            passed.append(work)
        return None, passed

    def _fresh(self) -> Work | None:
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
        """It is to be tried again; what waits already keeps its place.

        But halves go first, so that few mini-batches are in bisection at a time.
        """
        if work.queued:
            return
        work.queued = True
        work.rest = 0
        self.waiting += 1
        if work.limit:
            self._queue.appendleft(work)
        else:
            self._queue.append(work)

    def of_family(self, family: SplitMiniBatch) -> list[Work]:
        """What waits of a split mini-batch, in the order in which it would be handed out."""
        return list(dict.fromkeys(work for work in self._queue if work.queued and work.family is family))

    def prefer(self, work: Work) -> None:
        """It waits; it is to be handed out next."""
        self._queue.remove(work)
        self._queue.appendleft(work)

    def rest(self, work: Work) -> int:
        """It is to be tried again, but not before `due` is called with the number returned."""
        self._rests += 1
        work.rest = self._rests
        self._resting[work.rest] = work
        return work.rest

    def due(self, number: int) -> None:
        """Its rest is over, unless something else became of it meanwhile."""
        work = self._resting.pop(number, None)
        if work is not None and work.rest == number:
            self.put(work)

    def withdraw(self, work: Work) -> None:
        """It need not be handed out any more."""
        work.rest = 0
        if work.queued:
            work.queued = False
            self.waiting -= 1

    def offers(self, avoided: Callable[[Work], bool]) -> bool:
        """Whether `take` finds something for one who is not content. For tests."""
        passed = 0
        for work in self._queue:
            if work.queued and not avoided(work):
                return True
            passed += work.queued
            if passed == LOOK_AHEAD:
                return False
        return self.untouched > 0

    def check(self) -> list[Work]:
        """Assert that the counts are right; returns what is to be tried again, at once or later. For tests."""
        queued = list({id(work): work for work in self._queue if work.queued}.values())
        left = self._stop - self._next + sum(stop - start for start, stop in self._ranges)
        assert self.untouched == left, f"{self.untouched} untouched noted, {left} left"
        assert self.waiting == left + len(queued), f"{self.waiting} waiting noted, {left + len(queued)} there"
        resting = [work for number, work in self._resting.items() if work.rest == number]
        assert not any(work.queued for work in resting), "what rests is queued too"
        return queued + resting
