"""Who is there, who has what, who could give back."""

from __future__ import annotations

import pytest

from mpibatch.core.backlog import Work
from mpibatch.core.crew import Crew
from mpibatch.core.events import Recall
from mpibatch.work import Piece


def give(crew: Crew, number: int, *attempts: int) -> None:
    """As the dispatcher does it. Mini-batch and attempt have one number here."""
    crew.enter(number, crew.workers[number])
    for attempt in attempts:
        work = Work(Piece(attempt, 0, 1))
        work.live = 1
        crew.workers[number].attempts[attempt] = work
    if len(attempts) < crew.least:
        crew.hungry.add(number)
    crew.check()


def lose(crew: Crew, number: int) -> None:
    worker = crew.workers[number]
    worker.lost = True
    crew.take_away(number, worker)
    crew.check()


def test_the_lost_are_not_counted_until_they_are_back() -> None:
    crew = Crew(2)
    give(crew, 0, 1, 2)
    give(crew, 1, 3)
    lose(crew, 0)
    assert (crew.alive, crew.in_flight, crew.busy) == (1, 1, True)
    lose(crew, 1)
    assert (crew.alive, crew.in_flight, crew.busy) == (0, 0, False)
    crew.enter(1, crew.workers[1])
    assert [work.live for work in crew.workers[0].attempts.values()] == [0, 0]
    crew.enter(0, crew.workers[0])
    assert len(crew.check()) == 3
    assert (crew.alive, crew.in_flight) == (2, 3)


def test_half_of_what_the_fullest_has_not_begun() -> None:
    crew = Crew(3)
    give(crew, 0, 1, 2, 3)
    give(crew, 1, 4, 5, 6, 7, 8, 9)
    assert crew.recall_half() == [Recall(1, [7, 8, 9])]
    assert crew.recall_half() == [Recall(0, [3])]
    assert crew.recall_half() == [Recall(1, [6])]
    assert crew.recall_half() == [Recall(0, [2])]
    assert crew.recall_half() == [Recall(1, [5])]
    # What is left may be running.
    assert crew.recall_half() == []
    crew.check()


def test_nobody_asks_the_lost() -> None:
    crew = Crew(1)
    give(crew, 0, 1, 2, 3)
    lose(crew, 0)
    assert crew.recall_half() == crew.recall_all([0]) == []
    crew.enter(0, crew.workers[0])
    assert crew.recall_all([0]) == [Recall(0, [1, 2, 3])]
    assert crew.recall_all([0]) == []
    crew.check_recalled()


def test_the_suspect_is_the_first_and_suspected_once() -> None:
    crew = Crew(1)
    worker = crew.workers[0]
    assert worker.suspects(1) == []
    give(crew, 0, 1, 2)
    assert worker.suspects(1) == [worker.attempts[1]]
    assert worker.suspects(1) == []
    del worker.attempts[1]
    worker.attempts[2].ended = True
    assert worker.suspects(1) == []


def test_of_several_at_a_time_all_are_suspects_unless_one_is_alone() -> None:
    crew = Crew(1, concurrency=3)
    give(crew, 0, 1, 2, 3, 4, 5)
    worker = crew.workers[0]
    works = worker.attempts
    works[5].alone = True
    assert worker.suspects(3) == [works[1], works[2], works[3]]
    assert worker.suspects(3) == [], "each once an attempt"
    for attempt in (1, 2, 3):
        del works[attempt]
    assert worker.suspects(3) == [works[4]], "the next one waits until it is alone"
    del works[4]
    works[6] = Work(Piece(6, 0, 1))
    assert worker.suspects(3) == [works[5]], "and nothing runs beside it"


def test_what_may_run_is_not_recalled_by_halves() -> None:
    crew = Crew(1, concurrency=3)
    give(crew, 0, 1, 2, 3, 4, 5)
    assert crew.recall_half() == [Recall(0, [5])]
    assert crew.recall_half() == [Recall(0, [4])]
    assert crew.recall_half() == []
    assert crew.least == 5


def test_the_hungriest_first_and_the_idle() -> None:
    crew = Crew(3)
    give(crew, 0, 1)
    give(crew, 2)
    assert crew.hungriest_first() == [2, 0]
    assert crew.idle() == [2]
    give(crew, 1, 2, 3)
    crew.check_hungry()


def test_what_may_still_count() -> None:
    crew = Crew(2)
    give(crew, 0, 1)
    give(crew, 1, 2)
    assert crew.has_live
    lose(crew, 0)
    crew.workers[1].attempts[2].ended = True
    assert not crew.has_live


def test_the_barred_are_not_at_hand() -> None:
    crew = Crew(4, [7, 7, 8, 8])
    for number in (0, 1, 2):
        give(crew, number, 10 + number)
    assert crew.at_hand == {7: {0, 1}, 8: {2}}
    crew.bar(2)
    crew.check()
    assert crew.at_hand == {7: {0, 1}}
    assert (crew.alive, crew.usable, crew.usable_on(7), crew.usable_on(8)) == (4, 3, 2, 1)
    assert crew.hungriest_first() == [0, 1]
    assert crew.others_at_hand({0})
    assert not crew.others_at_hand({0, 1})
    # It stays barred while it is lost and when it is back.
    lose(crew, 2)
    assert (crew.alive, crew.usable) == (3, 3)
    assert crew.unbar_all() == []
    crew.enter(2, crew.workers[2])
    crew.check()
    assert (crew.alive, crew.usable) == (4, 3)
    assert crew.at_hand == {7: {0, 1}}
    assert crew.unbar_all() == [2]
    crew.check()
    assert crew.at_hand == {7: {0, 1}, 8: {2}}
    crew.check_hungry()
    assert crew.usable == 4


def test_one_who_is_barred_before_it_is_ready_is_not_fed_until_it_is() -> None:
    crew = Crew(2)
    crew.bar(0)
    assert crew.unbar_all() == [0]
    crew.check()
    crew.check_hungry()
    assert (crew.at_hand, crew.hungry) == ({}, set())


def test_checks_see_what_is_wrong() -> None:
    crew = Crew(2)
    give(crew, 0, 1, 2)
    with pytest.raises(AssertionError, match="worker 0 is not asked"):
        crew.check_recalled()
    crew.workers[0].attempts.popitem()
    with pytest.raises(AssertionError, match="worker 0: hungry"):
        crew.check_hungry()
    crew.workers[0].attempts[1].live = 2
    with pytest.raises(AssertionError, match="2 live attempts noted, 1 there"):
        crew.check()
    crew.at_hand[0].add(1)
    with pytest.raises(AssertionError, match="who is at hand"):
        crew.check()
    crew.alive = 5
    with pytest.raises(AssertionError, match="5 workers noted, 2 there"):
        crew.check()
