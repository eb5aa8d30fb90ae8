"""Idle workers get copies of what takes long; the first success counts."""

from __future__ import annotations

import pytest

from mpibatch.core import feeding
from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.backlog import Work
from mpibatch.core.copies import candidates, may_be_given_back, take_for
from mpibatch.core.crew import Crew
from mpibatch.core.dispatch import (
    AttemptFailed,
    AttemptsReturned,
    AttemptSucceeded,
    Command,
    Conclude,
    Dispatcher,
    Drop,
    Event,
    Grant,
    Granted,
    Recall,
    RecordFailure,
    RecordSplit,
    RecordSuccess,
    StopRequested,
    WorkerGone,
    WorkerLost,
    WorkerReady,
)
from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.work import Piece


def tell(dispatcher: Dispatcher, *events: Event) -> list[Command]:
    """Commands of the last event."""
    commands: list[Command] = []
    for event in events:
        commands = dispatcher.handle(event)
        dispatcher.check()
    return commands


def good(worker: int, attempt: int, items: int = 4) -> AttemptSucceeded:
    return AttemptSucceeded(worker, attempt, items, items, 1.0)


def bad(worker: int, attempt: int) -> AttemptFailed:
    return AttemptFailed(worker, attempt, 1.0)


def piece(number: int) -> Piece:
    return Piece(number, 0, 4)


def a_dispatcher(
    mini_batches: int,
    *,
    workers: int = 2,
    max_try: int = 3,
    copies: bool = True,
    isolate: bool = False,
    backoff: RetryBackoff | None = None,
) -> Dispatcher:
    return Dispatcher(
        workers=workers,
        todo=[(0, mini_batches)],
        item_count=lambda _: 4,
        run_max_try=max_try,
        thresholds=Thresholds(),
        tally=Tally(items_total=mini_batches * 4, mini_batches_total=mini_batches),
        straggler_copies=copies,
        isolate=isolate,
        backoff=backoff,
    )


def copied(max_try: int = 3, *, isolate: bool = False, backoff: RetryBackoff | None = None) -> Dispatcher:
    """Mini-batch 0 is running as attempt 1 on worker 0, and as its copy 2 on worker 1."""
    dispatcher = a_dispatcher(1, max_try=max_try, isolate=isolate, backoff=backoff)
    assert tell(dispatcher, WorkerReady(0), WorkerReady(1)) == [Grant(1, [Granted(2, piece(0), 0)])]
    return dispatcher


def test_off_by_default() -> None:
    assert tell(a_dispatcher(1, copies=False), WorkerReady(0), WorkerReady(1)) == []


def test_the_first_success_counts_and_the_other_is_dropped() -> None:
    for first, second in ((0, 1), (1, 0)):
        dispatcher = copied()
        commands = tell(dispatcher, good(first, first + 1))
        assert commands == [RecordSuccess(first + 1, piece(0)), Conclude("complete", "")]
        assert tell(dispatcher, good(second, second + 1)) == [Drop(second, second + 1)]


def test_what_can_be_recalled_is_not_copied() -> None:
    dispatcher = a_dispatcher(2)
    assert tell(dispatcher, WorkerReady(0), WorkerReady(1)) == [Recall(0, [2])]
    assert tell(dispatcher, AttemptsReturned(0, [2])) == [Grant(1, [Granted(3, piece(1), 0)])]
    # Nor for one who has something, though it is less than he could have.
    assert tell(dispatcher, WorkerReady(1)) == []


def test_a_recall_that_brings_nothing_is_followed_by_a_copy() -> None:
    dispatcher = a_dispatcher(2)
    tell(dispatcher, WorkerReady(0), WorkerReady(1))
    assert tell(dispatcher, AttemptsReturned(0, [])) == [Grant(1, [Granted(3, piece(0), 0)])]


def test_what_is_begun_behind_something_that_a_copy_has_made_needless_is_copied_too() -> None:
    """Of short ones a processor keeps the answer for some milliseconds, and then the next one hangs."""
    dispatcher = a_dispatcher(2)
    tell(dispatcher, WorkerReady(0), WorkerReady(1), AttemptsReturned(0, []))
    assert tell(dispatcher, good(1, 3)) == [RecordSuccess(3, piece(0)), Grant(1, [Granted(4, piece(1), 0)])]
    assert tell(dispatcher, good(0, 1)) == [Drop(0, 1)]
    assert tell(dispatcher, good(1, 4)) == [RecordSuccess(4, piece(1)), Conclude("complete", "")]


def test_the_longest_running_goes_first_and_each_is_copied_once() -> None:
    dispatcher = a_dispatcher(2, workers=5)
    tell(dispatcher, WorkerReady(0), WorkerReady(1), AttemptsReturned(0, [2]))
    assert tell(dispatcher, WorkerReady(2)) == [Grant(2, [Granted(4, piece(0), 0)])]
    assert tell(dispatcher, WorkerReady(3)) == [Grant(3, [Granted(5, piece(1), 0)])]
    assert tell(dispatcher, WorkerReady(4)) == []
    # Nor again, when the copy has come to nothing.
    assert tell(dispatcher, bad(2, 4)) == [RecordFailure(4, piece(0), 1, False)]


def test_no_copy_of_what_has_ended_or_two_are_at_or_failed_here() -> None:
    crew = Crew(3)
    for number in range(3):
        crew.enter(number, crew.workers[number])
    assert candidates(crew) == []
    works = [Work(piece(number)) for number in range(2)]
    for number, work in enumerate(works):
        work.live = 1
        crew.workers[number].attempts[9 - number] = work
    assert candidates(crew) == [works[1], works[0]]
    works[1].failed_on = {2}
    found = candidates(crew)
    assert take_for(2, found) is works[0]
    assert take_for(2, found) is None
    assert take_for(3, found) is works[1]
    assert found == []
    for attribute, value in (("live", 2), ("ended", True), ("copied", True)):
        before = getattr(works[0], attribute)
        setattr(works[0], attribute, value)
        assert candidates(crew) == [works[1]], attribute
        setattr(works[0], attribute, before)
    crew.workers[1].ready = False
    assert candidates(crew) == [works[0]]


def test_idle_workers_are_looked_after_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many workers almost all are idle in the end, at each of the last answers."""
    looks: list[list[Work]] = []

    def counted(crew: Crew) -> list[Work]:
        looks.append(candidates(crew))
        return looks[-1]

    monkeypatch.setattr(feeding, "candidates", counted)
    dispatcher = a_dispatcher(3, workers=40)
    tell(dispatcher, WorkerReady(0), WorkerReady(1), AttemptsReturned(0, [2]))
    tell(dispatcher, *(WorkerReady(number) for number in range(2, 40)))
    looks.clear()
    tell(dispatcher, AttemptsReturned(1, []), WorkerGone(39))
    assert len(looks) == 2


def test_what_may_be_given_back() -> None:
    crew = Crew(1)
    crew.enter(0, crew.workers[0])
    crew.workers[0].attempts = {1: Work(piece(0)), 2: Work(piece(1))}
    assert may_be_given_back(crew)
    assert crew.recall_half() == [Recall(0, [2])]
    assert may_be_given_back(crew)
    crew.recall_answered(0)
    crew.recall_answered(0)
    assert not may_be_given_back(crew)


def test_a_failure_beside_a_copy_costs_a_try_and_no_more() -> None:
    dispatcher = copied()
    assert tell(dispatcher, bad(1, 2)) == [RecordFailure(2, piece(0), 1, False)]
    assert dispatcher.waiting == 0
    assert tell(dispatcher, good(0, 1))[-1] == Conclude("complete", "")


def test_the_last_try_is_not_final_while_the_other_one_runs() -> None:
    dispatcher = copied(max_try=1)
    assert tell(dispatcher, bad(0, 1)) == [RecordFailure(1, piece(0), 1, False)]
    commands = tell(dispatcher, bad(1, 2))
    assert commands[0] == RecordFailure(2, piece(0), 2, True)
    assert dispatcher.tally.mini_batches_failed == 1


def test_both_fail_and_it_is_split() -> None:
    dispatcher = copied(max_try=1, isolate=True)
    assert tell(dispatcher, bad(0, 1)) == [RecordFailure(1, piece(0), 1, False)]
    commands = tell(dispatcher, bad(1, 2))
    assert commands[:2] == [RecordFailure(2, piece(0), 2, False), RecordSplit(piece(0), 2)]


def test_the_other_one_is_lost_after_the_last_try_so_there_is_one_more() -> None:
    dispatcher = copied(max_try=1)
    tell(dispatcher, bad(0, 1))
    (grant,) = tell(dispatcher, WorkerGone(1))
    assert grant == Grant(0, [Granted(3, piece(0), 1)])
    commands = tell(dispatcher, bad(0, 3))
    assert commands[0] == RecordFailure(3, piece(0), 2, True)


def test_the_other_one_is_spared_after_the_last_try_so_there_is_one_more() -> None:
    dispatcher = a_dispatcher(6, workers=2, max_try=1)
    tell(dispatcher, WorkerReady(0), WorkerReady(1), bad(1, 3), bad(1, 4), good(0, 1))
    assert tell(dispatcher, good(0, 2))[-1] == Recall(1, [6])
    tell(dispatcher, AttemptsReturned(1, [6]))
    assert tell(dispatcher, good(0, 7))[-1] == Grant(0, [Granted(8, piece(4), 0)])
    assert tell(dispatcher, bad(0, 8)) == [RecordFailure(8, piece(4), 1, False)]
    # The third failure in a row, and elsewhere only one of four.
    commands = tell(dispatcher, bad(1, 5))
    assert commands == [RecordFailure(5, piece(4), 1, False), Grant(0, [Granted(9, piece(4), 1)])]
    assert tell(dispatcher, bad(0, 9))[0] == RecordFailure(9, piece(4), 2, True)


def test_a_lost_worker_beside_a_copy_is_no_reason_to_begin_again() -> None:
    dispatcher = copied()
    assert tell(dispatcher, WorkerLost(0)) == []
    assert dispatcher.waiting == 0
    assert tell(dispatcher, bad(1, 2))[0] == RecordFailure(2, piece(0), 1, False)


def test_what_rests_is_not_copied_and_rests_only_once_both_have_failed() -> None:
    dispatcher = copied(backoff=RetryBackoff(jitter=False))
    assert tell(dispatcher, bad(0, 1)) == [RecordFailure(1, piece(0), 1, False)]
    commands = tell(dispatcher, bad(1, 2))
    assert [type(command).__name__ for command in commands] == ["RecordFailure", "Later"]
    assert tell(dispatcher, WorkerReady(0)) == []


def test_a_stop_waits_for_no_copy_whose_answer_is_dropped() -> None:
    dispatcher = a_dispatcher(2, workers=3)
    tell(dispatcher, WorkerReady(0), WorkerReady(1), AttemptsReturned(0, [2]))
    assert tell(dispatcher, WorkerReady(2)) == [Grant(2, [Granted(4, piece(0), 0)])]
    assert tell(dispatcher, StopRequested("asked", False), AttemptsReturned(0, []), good(0, 1)) == [
        RecordSuccess(1, piece(0))
    ]
    assert tell(dispatcher, bad(1, 3)) == [RecordFailure(3, piece(1), 1, False), Conclude("stopped", "asked")]
