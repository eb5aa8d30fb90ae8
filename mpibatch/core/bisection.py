"""A mini-batch that has used up its tries is halved, and so are its halves, until the bad items are found. Pure.

Each half gets one try. A broken model must not multiply the work: once `WHOLLY_FAILED` mini-batches have
come to nothing that way, with one and the same error, what fails so fails undivided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from mpibatch.core.events import Remark
from mpibatch.work import Piece

HOPELESS = 32
"""Items of one mini-batch, scattered over it, that have failed alike, and none has succeeded: then all of it has.

While nothing has succeeded, the next piece is the largest that waits, so that these items are far from each other;
and the way down to each passes halves that would have succeeded if good items were not rare."""
WHOLLY_FAILED = 3
"""Mini-batches without one good item, all of one kind of error, after which that kind is not bisected."""


class SplitMiniBatch:
    """A mini-batch that is open in several pieces."""

    __slots__ = ("_kinds", "_pieces_failed", "failed", "given_up", "open", "succeeded")

    def __init__(self, pieces: int, *, succeeded: bool = False) -> None:
        self.open = pieces
        """Pieces that have not ended."""
        self.failed = False
        """One of them has failed for good."""
        self.succeeded = succeeded
        """One of them has succeeded."""
        self.given_up = False
        """None of them is split any more."""
        self._pieces_failed = 0
        self._kinds: set[str] = set()

    def success(self) -> bool:
        """A piece has succeeded; returns whether by that the mini-batch has, too."""
        self.open -= 1
        self.succeeded = True
        return self.open == 0 and not self.failed

    def failure(self, alike: str) -> bool:
        """A piece has failed for good; returns whether it is the first one."""
        first = not self.failed
        self.open -= 1
        self.failed = True
        self._pieces_failed += 1
        if len(self._kinds) < 2:
            self._kinds.add(alike)
        return first

    @property
    def hopeless(self) -> bool:
        """Whether so much of it has failed alike that the rest will."""
        return self._pieces_failed >= HOPELESS and not self.succeeded and len(self._kinds) == 1

    @property
    def wholly_failed(self) -> str | None:
        """The kind of error with which all has failed, once it has; None: not so."""
        if self.open or self.succeeded or len(self._kinds) != 1:
            return None
        (kind,) = self._kinds
        return kind


class Bisection:
    """Whether a piece is split instead of failing. `isolate`: the job wants that at all."""

    def __init__(self, *, isolate: bool) -> None:
        self._isolate = isolate
        self._wholly_failed: Counter[str] = Counter()
        self._off: set[str] = set()

    def is_for(self, piece: Piece, alike: str) -> bool:
        """To be asked when the piece's last try has failed in this way."""
        return self._isolate and piece.count > 1 and alike not in self._off

    def note(self, mini_batch: SplitMiniBatch) -> list[Remark]:
        """A piece of it has failed for good."""
        kind = mini_batch.wholly_failed
        if kind is None or not self._isolate or kind in self._off:
            return []
        self._wholly_failed[kind] += 1
        if self._wholly_failed[kind] < WHOLLY_FAILED:
            return []
        self._off.add(kind)
        text = (
            f"of {WHOLLY_FAILED} mini-batches that were split to find their bad items not one item succeeded, and "
            f"all failed alike ({kind or 'no kind told'}): what fails so is not split any more in this session"
        )
        return [Remark(text)]


def halves(piece: Piece) -> tuple[Piece, Piece]:
    """The two that replace it; the second begins at the item number that `RecordSplit.at` names."""
    middle = piece.count // 2
    return (
        Piece(piece.mini_batch, piece.first, middle),
        Piece(piece.mini_batch, piece.first + middle, piece.count - middle),
    )


def families(
    pieces: Iterable[Piece], item_count: Callable[[int], int]
) -> Iterable[tuple[Piece, SplitMiniBatch]]:
    """The pieces that earlier sessions left of split mini-batches, each with what it is a part of."""
    by_mini_batch: dict[int, list[Piece]] = {}
    for piece in pieces:
        by_mini_batch.setdefault(piece.mini_batch, []).append(piece)
    for number, mine in by_mini_batch.items():
        some_succeeded = sum(piece.count for piece in mine) < item_count(number)
        family = SplitMiniBatch(len(mine), succeeded=some_succeeded)
        yield from ((piece, family) for piece in mine)
