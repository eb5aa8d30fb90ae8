"""What waits, and in which order it is handed out."""

from __future__ import annotations

import pytest

from mpibatch.core.backlog import LOOK_AHEAD, Backlog, Work
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


def queued(backlog: Backlog, count: int) -> list[Work]:
    works = [Work(Piece(100 + number, 0, 1)) for number in range(count)]
    for work in works:
        backlog.put(work)
    return works


def test_halves_go_first_the_last_one_first_of_all() -> None:
    backlog = Backlog([(0, 2)], lambda _: 1)
    queued(backlog, 1)
    for number in (7, 8):
        half = Work(Piece(number, 0, 1))
        half.limit = 3
        backlog.put(half)
    assert numbers(backlog) == [8, 7, 100, 0, 1]


@pytest.mark.parametrize(
    ("avoided", "content", "taken"),
    [
        (set(), True, [100, 101, 0, 1]),
        ({100}, True, [101, 0, 1, 100]),
        ({100}, False, [101, 0, 1]),
        ({100, 101}, False, [0, 1]),
        ({100, 101}, True, [0, 1, 100, 101]),
    ],
)
def test_what_is_avoided_is_left_to_others(avoided: set[int], content: bool, taken: list[int]) -> None:
    backlog = Backlog([(0, 2)], lambda _: 1)
    queued(backlog, 2)

    def avoids(work: Work) -> bool:
        return work.piece.mini_batch in avoided

    found = []
    while True:
        offered = backlog.offers(avoids)
        work = backlog.take(avoids, content=content)
        backlog.check()
        if work is None:
            break
        assert offered or work.piece.mini_batch in avoided
        found.append(work.piece.mini_batch)
    assert found == taken
    # The others find the rest, in its old order.
    assert numbers(backlog) == sorted({100, 101} - set(taken))


def test_so_much_is_left_to_others_and_no_more() -> None:
    backlog = Backlog([(0, 2)], lambda _: 1)
    works = queued(backlog, LOOK_AHEAD)
    assert not backlog.offers(lambda _: True)
    assert backlog.take(lambda _: True, content=False) is None
    assert backlog.take(lambda _: True) is works[0]
    assert backlog.offers(lambda _: True)
    fresh = backlog.take(lambda _: True)
    assert fresh is not None
    assert fresh.piece == Piece(0, 0, 1)
    assert backlog.take() is works[1]
    backlog.check()


def test_what_rests_does_not_wait_until_it_is_due() -> None:
    backlog = Backlog([(0, 1)], lambda _: 1)
    first, second = Work(Piece(7, 0, 1)), Work(Piece(8, 0, 1))
    assert [backlog.rest(first), backlog.rest(second)] == [1, 2]
    assert backlog.waiting == 1
    assert backlog.check() == [first, second]
    for nonsense in (0, -1, 3):
        backlog.due(nonsense)
    assert backlog.waiting == 1
    backlog.due(2)
    backlog.due(2)
    assert (backlog.waiting, second.rest) == (2, 0)
    assert numbers(backlog) == [8, 0]


def test_what_is_withdrawn_while_it_rests_is_not_due_and_can_rest_again() -> None:
    backlog = Backlog([], lambda _: 1)
    work = Work(Piece(7, 0, 1))
    backlog.rest(work)
    backlog.withdraw(work)
    assert backlog.check() == []
    assert backlog.rest(work) == 2
    backlog.due(1)
    assert backlog.waiting == 0
    backlog.due(2)
    assert numbers(backlog) == [7]


def test_check_sees_a_wrong_count() -> None:
    backlog = Backlog([(0, 3)], lambda _: 1)
    backlog.put(Work(Piece(9, 0, 1)))
    backlog.waiting += 1
    with pytest.raises(AssertionError, match="5 waiting noted, 4 there"):
        backlog.check()
