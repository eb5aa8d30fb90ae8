"""What waits, and in which order it is handed out."""

from __future__ import annotations

import pytest

from mpibatch.core.backlog import Backlog, Work
from mpibatch.work import Piece


def numbers(backlog: Backlog) -> list[int]:
    """All that can be taken, in order."""
    taken = []
    while (work := backlog.take()) is not None:
        backlog.check()
        taken.append(work.piece.mini_batch)
    return taken


def test_ranges_in_order_and_empty_ones_skipped() -> None:
    backlog = Backlog([(2, 4), (5, 5), (7, 8)], lambda number: number * 10)
    assert backlog.waiting == backlog.untouched == 3
    first = backlog.take()
    assert first is not None
    assert first.piece == Piece(2, 0, 20)
    assert (first.tries, first.losses, first.live, first.queued, first.ended) == (0, 0, 0, False, False)
    assert numbers(backlog) == [3, 7]
    assert backlog.waiting == backlog.untouched == 0


def test_nothing() -> None:
    backlog = Backlog([], lambda _: 1)
    assert backlog.waiting == 0
    assert backlog.take() is None


def test_what_was_tried_comes_first_and_once() -> None:
    backlog = Backlog([(0, 3)], lambda _: 1)
    tried = backlog.take()
    assert tried is not None
    backlog.put(tried)
    backlog.put(tried)
    assert (backlog.waiting, backlog.untouched) == (3, 2)
    assert backlog.check() == [tried]
    assert numbers(backlog) == [0, 1, 2]


def test_what_is_withdrawn_is_not_handed_out_and_can_be_put_back() -> None:
    backlog = Backlog([(0, 3)], lambda _: 1)
    first, second = backlog.take(), backlog.take()
    assert first is not None
    assert second is not None
    backlog.put(first)
    backlog.put(second)
    backlog.withdraw(first)
    backlog.withdraw(first)
    assert (backlog.waiting, backlog.check()) == (2, [second])
    backlog.put(first)
    assert backlog.waiting == 3
    assert sorted(numbers(backlog)) == [0, 1, 2]
    assert backlog.waiting == 0


def test_check_sees_a_wrong_count() -> None:
    backlog = Backlog([(0, 3)], lambda _: 1)
    backlog.put(Work(Piece(9, 0, 1)))
    backlog.waiting += 1
    with pytest.raises(AssertionError, match="5 waiting noted, 4 there"):
        backlog.check()
