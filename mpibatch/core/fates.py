"""What becomes of a piece: it ends, is split, rests, or waits for its next try. Pure.

Keeps how much is open, and the tally: a mini-batch has succeeded when all of its pieces have, and failed
as soon as one has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mpibatch.core.accounting import Tally
from mpibatch.core.backlog import Backlog, Work
from mpibatch.core.bad_nodes import BadNodes
from mpibatch.core.bisection import Bisection, SplitMiniBatch, families, halves
from mpibatch.core.events import (
    AttemptFailed,
    AttemptSucceeded,
    Command,
    Later,
    RecordFailure,
    RecordLoss,
    RecordSplit,
)
from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.work import Piece

MAX_LOSSES = 3
"""Lost workers that one piece may cost; with one more it is taken for what kills them."""
LOST = "WorkerLost"
"""The kind of error of a piece that has cost too many workers."""


class Fates:
    """Decides over pieces, and says what is to be recorded."""

    def __init__(
        self,
        tally: Tally,
        backlog: Backlog,
        bad_nodes: BadNodes,
        *,
        run_max_try: int,
        isolate: bool,
        backoff: RetryBackoff | None,
    ) -> None:
        self.open = backlog.waiting
        """Pieces that have not ended."""
        self.half_failed = 0
        """Mini-batches of which a piece has failed for good, and others have not ended."""
        self.run_max_try = run_max_try
        self._tally = tally
        self._backlog = backlog
        self._bad_nodes = bad_nodes
        self._bisection = Bisection(isolate=isolate)
        self._backoff = backoff

    def adopt(self, pieces: Iterable[Piece], item_count: Callable[[int], int]) -> None:
        """What earlier sessions left of split mini-batches."""
        for piece, family in families(pieces, item_count):
            self._backlog.put(Work(piece, family))
            self.open += 1

    def succeeded(self, work: Work, event: AttemptSucceeded) -> None:
        """The first success of the piece: it has ended."""
        self._end(work)
        self._tally.attempts += 1
        family = work.family
        whole = family is None or family.success()
        self.half_failed -= family is not None and family.failed and not family.open
        self._tally.success(work.piece.count, event.succeeded, event.rows, whole=whole)

    def failed(self, work: Work, event: AttemptFailed, *, rests: bool) -> list[Command]:
        """An attempt at it has failed. `rests`: if it is tried again, then after its backoff."""
        self._tally.attempts += 1
        counts = self._bad_nodes.failed(event.worker, work)
        work.tries += counts
        work.alone |= event.deadly
        final = counts and not work.live and work.tries >= self.limit(work)
        splits = final and not event.indivisible and self._splits(work, event.alike)
        record = RecordFailure(event.attempt, work.piece, work.tries, final and not splits)
        if splits:
            return [record, *self._split(work)]
        if final:
            self._end_failed(work, event.alike)
            return [
                record,
                *(
                    RecordFailure(0, rest.piece, rest.tries, True)
                    for rest in self._give_up_rest(work.family, event.alike)
                ),
                *self._note(work.family),
            ]
        return [record, *self._again(work, rests=rests)]

    def lost(self, work: Work, *, alone: bool) -> list[Command]:
        """A worker was lost while it was at this. `alone`: it is to be tried again without others beside it."""
        work.losses += 1
        work.alone |= alone
        if work.losses <= MAX_LOSSES or work.live:
            return []
        if self._splits(work, LOST):
            return self._split(work)
        self._end_failed(work, LOST)
        return [
            RecordLoss(work.piece, work.losses),
            *(RecordLoss(rest.piece, rest.losses) for rest in self._give_up_rest(work.family, LOST)),
            *self._note(work.family),
        ]

    def _splits(self, work: Work, alike: str) -> bool:
        """Whether the piece, which has failed in this way for the last time, is to be split."""
        given_up = work.family is not None and work.family.given_up
        return not given_up and self._bisection.is_for(work.piece, alike)

    def put_back(self, work: Work) -> None:
        """Somebody is not at it any more, through no fault of the piece; if nobody is, it waits for its next try."""
        if not (work.live or work.ended or work.rest):
            self._grant_another(work)
            self._backlog.put(work)

    def _grant_another(self, work: Work) -> None:
        """Its last try has failed while a copy was running, which came to nothing by no fault of the piece."""
        if work.tries >= self.limit(work):
            work.limit = work.tries + 1

    def limit(self, work: Work) -> int:
        """Tries after which it has failed."""
        return work.limit or self.run_max_try

    def _again(self, work: Work, *, rests: bool) -> list[Command]:
        # It waits already if the answer came from a worker that was taken for lost.
        if work.live or work.queued or work.rest:
            return []
        self._grant_another(work)
        if self._backoff is None or work.limit or not rests:
            self._backlog.put(work)
            return []
        failures = max(1, work.tries + work.spared)
        seconds = self._backoff.delay_s(work.piece.mini_batch, failures)
        return [Later(self._backlog.rest(work), seconds)]

    def _split(self, work: Work) -> list[Command]:
        """Two halves with one try each take its place."""
        family = work.family or SplitMiniBatch(1)
        family.open += 1
        first, second = (Work(piece, family) for piece in halves(work.piece))
        for half in (second, first):  # The last one that is put goes first.
            half.tries, half.losses, half.limit = work.tries, work.losses, work.tries + 1
            half.alone = work.alone
            self._backlog.put(half)
        self._bad_nodes.split(work, (first, second))
        self._end(work)
        self.open += 2
        return [RecordSplit(work.piece, second.piece.first)]

    def _end(self, work: Work) -> None:
        """No answer counts from now on, neither of a copy nor of a worker that was taken for lost."""
        work.ended = True
        self.open -= 1
        if work.queued or work.rest:
            self._backlog.withdraw(work)

    def _end_failed(self, work: Work, alike: str) -> None:
        self._end(work)
        self._bad_nodes.ended(work)
        family = work.family
        first = family is None or family.failure(alike)
        if family is not None and first != (
            not family.open
        ):  # The first of several, or the last one after others.
            self.half_failed += 1 if first else -1
        self._tally.failure(work.piece.count, first=first)

    def _give_up_rest(self, family: SplitMiniBatch | None, alike: str) -> list[Work]:
        """What fails with a piece that has just failed for good: where it is hopeless, all that waits of its
        mini-batch. Else the order is seen to: see `HOPELESS`."""
        if family is None or family.succeeded or not family.open:
            return []
        waiting = self._backlog.of_family(family)
        if not family.hopeless:
            if waiting:
                self._backlog.prefer(waiting[-1])
            return []
        family.given_up = True
        for work in waiting:
            self._end_failed(work, alike)
        return waiting

    def _note(self, family: SplitMiniBatch | None) -> list[Command]:
        return [] if family is None else [*self._bisection.note(family)]

    # For tests

    def check(self, works: list[Work]) -> None:
        """Assert of what is handed out or kept, and open, that it is as it is split, and that the tally adds up."""
        assert self.open == self._backlog.untouched + len(works), "a piece is lost or there twice"
        pieces: dict[int, list[Work]] = {}
        for work in works:
            pieces.setdefault(work.piece.mini_batch, []).append(work)
        undecided, half_failed = self._backlog.untouched, 0
        for mine in pieces.values():
            family = mine[0].family
            assert all(work.family is family for work in mine), "a mini-batch is open twice"
            assert len(mine) == (1 if family is None else family.open), "a piece is lost or there twice"
            undecided += family is None or not family.failed
            half_failed += family is not None and family.failed
        assert self.half_failed == half_failed, "what is still tried of failed mini-batches does not add up"
        ended = self._tally.mini_batches_total - undecided
        assert self._tally.mini_batches_ended == ended, "the tally does not add up"
