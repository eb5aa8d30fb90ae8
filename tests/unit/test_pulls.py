"""Large fragments: what is asked for, and when."""

from __future__ import annotations

from mpibatch.messages import Announced
from mpibatch.runtime.pulls import MOST_PULLED_BYTES, Pulls
from mpibatch.work import Succeeded


def announced(attempt: int, length: int) -> Announced:
    return Announced(Succeeded(attempt, 1, 1, 0.0, 0.0, b""), length)


def test_so_many_bytes_are_under_way_and_then_the_next_ones() -> None:
    pulls = Pulls()
    pulls.announced(0, [announced(attempt, MOST_PULLED_BYTES // 2) for attempt in range(5)])
    assert pulls.next(present={0}, lost=()) == [(0, 0), (0, 1)]
    assert pulls.next(present={0}, lost=()) == []
    pulls.came(0, 1)
    pulls.came(0, 77)  # Was never asked for.
    assert pulls.next(present={0}, lost=()) == [(0, 2)]


def test_one_that_is_too_large_goes_alone() -> None:
    pulls = Pulls()
    pulls.announced(0, [announced(1, 2 * MOST_PULLED_BYTES), announced(2, 1)])
    assert pulls.next(present={0}, lost=()) == [(0, 1)]
    pulls.came(0, 1)
    assert pulls.next(present={0}, lost=()) == [(0, 2)]


def test_of_who_is_lost_nothing_is_asked_and_nothing_forgotten() -> None:
    pulls = Pulls()
    pulls.announced(0, [announced(1, 1), announced(2, 1)])
    pulls.announced(1, [announced(3, 1)])
    assert pulls.next(present={0, 1}, lost={0}) == [(1, 3)]
    assert pulls.next(present={0, 1}, lost=()) == [(0, 1), (0, 2)]


def test_who_has_left_is_not_asked_and_makes_room() -> None:
    pulls = Pulls()
    pulls.announced(0, [announced(1, MOST_PULLED_BYTES), announced(2, 1)])
    pulls.announced(1, [announced(3, 1)])
    assert pulls.next(present={0, 1}, lost=()) == [(0, 1)]
    pulls.forget(0)
    assert pulls.next(present={1}, lost=()) == [(1, 3)]
