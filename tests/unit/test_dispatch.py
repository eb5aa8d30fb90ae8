"""`Dispatcher`, scenario by scenario; `test_dispatch_fuzz.py` has the rest of the world."""

from __future__ import annotations

from collections import deque

import pytest

from mpibatch.core.accounting import Elsewhere, Tally, Thresholds
from mpibatch.core.dispatch import (
    MAX_LOSSES,
    AttemptFailed,
    AttemptsReturned,
    AttemptSucceeded,
    Command,
    Conclude,
    Dispatcher,
    Drop,
    Due,
    Event,
    FailedElsewhere,
    Grant,
    Granted,
    Later,
    Recall,
    RecordFailure,
    RecordLoss,
    RecordSuccess,
    StopRequested,
    WorkerGone,
    WorkerLost,
    WorkerReady,
)
from mpibatch.core.grants import MOST_IN_FLIGHT
from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.work import Piece

ITEMS = 10


def a_dispatcher(
    mini_batches: int = 100,
    *,
    workers: int = 2,
    max_try: int = 3,
    thresholds: Thresholds | None = None,
    tally: Tally | None = None,
    todo: list[tuple[int, int]] | None = None,
    backoff: RetryBackoff | None = None,
) -> Dispatcher:
    return Dispatcher(
        workers=workers,
        todo=[(0, mini_batches)] if todo is None else todo,
        item_count=lambda _: ITEMS,
        run_max_try=max_try,
        thresholds=thresholds or Thresholds(),
        tally=tally or Tally(items_total=mini_batches * ITEMS, mini_batches_total=mini_batches),
        backoff=backoff,
    )


def tell(dispatcher: Dispatcher, *events: Event) -> list[Command]:
    """Commands of the last event."""
    commands: list[Command] = []
    for event in events:
        commands = dispatcher.handle(event)
        dispatcher.check()
    return commands


def good(worker: int, attempt: int, succeeded: int = ITEMS, seconds: float = 1.0) -> AttemptSucceeded:
    return AttemptSucceeded(worker, attempt, succeeded, succeeded, seconds)


def bad(worker: int, attempt: int) -> AttemptFailed:
    return AttemptFailed(worker, attempt, 1.0)


def piece(number: int) -> Piece:
    return Piece(number, 0, ITEMS)


# The ordinary way


def test_the_first_grant_is_two_and_each_answer_brings_one_more() -> None:
    dispatcher = a_dispatcher()
    assert dispatcher.begin() == []
    first = tell(dispatcher, WorkerReady(0))
    assert first == [Grant(0, [Granted(1, piece(0), 0), Granted(2, piece(1), 0)])]
    commands = tell(dispatcher, good(0, 1))
    assert commands == [RecordSuccess(1, piece(0)), Grant(0, [Granted(3, piece(2), 0)])]
    assert (dispatcher.waiting, dispatcher.in_flight) == (97, 2)


def test_all_answered_is_complete() -> None:
    dispatcher = a_dispatcher(2)
    tell(dispatcher, WorkerReady(0), good(0, 1))
    assert tell(dispatcher, good(0, 2)) == [RecordSuccess(2, piece(1)), Conclude("complete", "")]
    assert dispatcher.concluded
    assert dispatcher.tally.items_succeeded == 2 * ITEMS


def test_no_mini_batches_are_complete_at_once() -> None:
    assert a_dispatcher(0).begin() == [Conclude("complete", "")]


def test_no_workers_at_all() -> None:
    (end,) = a_dispatcher(1, workers=0).begin()
    assert isinstance(end, Conclude)
    assert end.verdict == "no_workers"


def test_a_continued_run_does_only_what_remains() -> None:
    tally = Tally(items_total=100, mini_batches_total=10)
    for _ in range(7):
        tally.success(ITEMS, ITEMS, ITEMS)
    dispatcher = a_dispatcher(tally=tally, todo=[(1, 2), (4, 4), (8, 10)], workers=1)
    assert dispatcher.begin() == []
    dispatcher.check()
    (grant,) = tell(dispatcher, WorkerReady(0))
    assert isinstance(grant, Grant)
    assert [one.piece.mini_batch for one in grant.granted] == [1, 8]
    tell(dispatcher, good(0, 1), good(0, 2))
    assert tell(dispatcher, good(0, 3))[-1] == Conclude("complete", "")


def test_what_earlier_sessions_fell_short_of_counts_at_once() -> None:
    tally = Tally(items_total=20, mini_batches_total=2)
    tally.success(ITEMS, ITEMS - 3, ITEMS - 3)
    (end,) = a_dispatcher(tally=tally, todo=[(1, 2)], thresholds=Thresholds(failed_items=2)).begin()
    assert isinstance(end, Conclude)
    assert end.verdict == "too_many_errors"


@pytest.mark.parametrize(("seconds", "workers"), [(1e-5, 2), (1e-5, 64), (0.001, 2)])
def test_short_mini_batches_travel_by_half_of_the_target(seconds: float, workers: int) -> None:
    dispatcher = a_dispatcher(50_000, workers=workers)
    sent: deque[tuple[int, int]] = deque()
    grants: list[tuple[int, int]] = []  # (waiting before, pieces)
    events: deque[Event] = deque(WorkerReady(number) for number in range(workers))
    while events or sent:
        waiting = dispatcher.waiting
        event = events.popleft() if events else good(*sent.popleft(), seconds=seconds)
        for command in dispatcher.handle(event):
            if isinstance(command, Grant):
                grants.append((waiting, len(command.granted)))
                sent.extend((command.worker, one.attempt) for one in command.granted)
    target = min(MOST_IN_FLIGHT, round(0.02 / seconds))
    early = [pieces for waiting, pieces in grants if 25_000 < waiting < 45_000]
    assert min(early) >= min(target, 25_000 // (2 * workers)) // 2
    assert max(pieces for _, pieces in grants) <= MOST_IN_FLIGHT
    assert dispatcher.concluded


def test_long_mini_batches_travel_singly() -> None:
    dispatcher = a_dispatcher(1000, workers=1)
    tell(dispatcher, WorkerReady(0))
    for attempt in range(1, 200):
        commands = tell(dispatcher, good(0, attempt, seconds=0.5))
        assert isinstance(commands[-1], Grant)
        assert len(commands[-1].granted) == 1


# Failures


def test_a_failed_attempt_is_tried_again_before_anything_new() -> None:
    dispatcher = a_dispatcher(workers=1)
    tell(dispatcher, WorkerReady(0))
    commands = tell(dispatcher, bad(0, 1))
    assert commands == [RecordFailure(1, piece(0), 1, False), Grant(0, [Granted(3, piece(0), 1)])]
    assert dispatcher.tally.items_failed == 0


@pytest.mark.parametrize("max_try", [1, 2, 3])
def test_the_last_try_is_final(max_try: int) -> None:
    dispatcher = a_dispatcher(1, workers=1, max_try=max_try)
    tell(dispatcher, WorkerReady(0))
    for attempt in range(1, max_try):
        assert tell(dispatcher, bad(0, attempt))[0] == RecordFailure(attempt, piece(0), attempt, False)
    commands = tell(dispatcher, bad(0, max_try))
    assert commands[0] == RecordFailure(max_try, piece(0), max_try, True)
    assert commands[1:] == [Conclude("failed", "there is not one item that succeeded")]
    assert dispatcher.tally.attempts == max_try


def test_a_repaired_failure_does_not_count() -> None:
    dispatcher = a_dispatcher(1, workers=1, thresholds=Thresholds(failed_items=0, failed_mini_batches=0))
    tell(dispatcher, WorkerReady(0), bad(0, 1), bad(0, 2))
    assert tell(dispatcher, good(0, 3))[-1] == Conclude("complete", "")


def test_the_threshold_stops_while_attempts_are_out() -> None:
    dispatcher = a_dispatcher(max_try=1, thresholds=Thresholds(failed_items=ITEMS - 1))
    tell(dispatcher, WorkerReady(0), WorkerReady(1))
    commands = tell(dispatcher, bad(0, 1))
    assert commands[0] == RecordFailure(1, piece(0), 1, True)
    assert [type(command) for command in commands[1:]] == [Conclude]
    assert tell(dispatcher, good(1, 3)) == [Drop(1, 3)]
    assert tell(dispatcher, bad(0, 2)) == [Drop(0, 2)]


def test_a_short_return_fails_items_and_no_mini_batch() -> None:
    dispatcher = a_dispatcher(thresholds=Thresholds(failed_items=3, failed_mini_batches=0))
    tell(dispatcher, WorkerReady(0), good(0, 1, succeeded=ITEMS - 3))
    assert not dispatcher.concluded
    commands = tell(dispatcher, good(0, 2, succeeded=ITEMS - 1))
    assert commands[0] == RecordSuccess(2, piece(1))
    assert commands[1] == Conclude("too_many_errors", "4 items failed; error_threshold is 3")


def test_more_than_there_are_items_is_all_of_them() -> None:
    dispatcher = a_dispatcher(1)
    tell(dispatcher, WorkerReady(0), good(0, 1, succeeded=ITEMS + 5))
    assert (dispatcher.tally.items_succeeded, dispatcher.tally.items_failed) == (ITEMS, 0)


def test_the_percentage_is_judged_once_all_has_been_handed_out() -> None:
    dispatcher = a_dispatcher(5, workers=1, max_try=1, thresholds=Thresholds(failed_percent=20))
    tell(dispatcher, WorkerReady(0), bad(0, 1))
    assert tell(dispatcher, bad(0, 2)) == [
        RecordFailure(2, piece(1), 1, True),
        Grant(0, [Granted(4, piece(3), 0)]),
    ]
    commands = tell(dispatcher, good(0, 3))
    assert isinstance(commands[-1], Conclude)
    assert commands[-1].reason == "40.0 % of the mini-batches failed; allowed_failed_percent is 20"


def test_the_percentage_is_judged_as_soon_as_the_last_failure_is_in() -> None:
    dispatcher = a_dispatcher(4, workers=2, max_try=1, thresholds=Thresholds(failed_percent=20))
    tell(dispatcher, WorkerReady(0), WorkerReady(1))
    commands = tell(dispatcher, bad(1, 4))
    assert isinstance(commands[-1], Conclude)
    assert commands[-1].verdict == "too_many_errors"


# Workers


def test_a_gone_worker_costs_nothing() -> None:
    dispatcher = a_dispatcher(max_try=1)
    tell(dispatcher, WorkerReady(0), WorkerReady(1))
    assert tell(dispatcher, WorkerGone(0)) == []
    commands = tell(dispatcher, good(1, 3))
    assert commands[1:] == [Grant(1, [Granted(5, piece(0), 0)])]
    assert tell(dispatcher, good(0, 1)) == [Drop(0, 1)]
    for gone_again in (WorkerGone(0), WorkerLost(0), WorkerReady(0)):
        assert tell(dispatcher, gone_again) == []


def test_all_gone_is_no_workers() -> None:
    dispatcher = a_dispatcher()
    tell(dispatcher, WorkerReady(0), WorkerGone(1))
    (end,) = tell(dispatcher, WorkerGone(0))
    assert isinstance(end, Conclude)
    assert end.verdict == "no_workers"


def test_all_lost_is_no_workers() -> None:
    dispatcher = a_dispatcher()
    tell(dispatcher, WorkerReady(0), WorkerLost(1))
    (end,) = tell(dispatcher, WorkerLost(0))
    assert isinstance(end, Conclude)
    assert end.verdict == "no_workers"


def test_a_late_answer_of_a_lost_worker_counts_and_nothing_is_done_again() -> None:
    dispatcher = a_dispatcher(3, workers=2)
    tell(dispatcher, WorkerReady(0), WorkerLost(0))
    assert dispatcher.in_flight == 0
    assert dispatcher.waiting == 3
    assert tell(dispatcher, good(0, 1)) == [RecordSuccess(1, piece(0))]
    assert dispatcher.waiting == 2
    (grant,) = tell(dispatcher, WorkerReady(1))
    assert grant == Grant(1, [Granted(3, piece(1), 0), Granted(4, piece(2), 0)])


def test_of_two_answers_the_first_counts() -> None:
    dispatcher = a_dispatcher(2, workers=2)
    tell(dispatcher, WorkerReady(0), WorkerLost(0), WorkerReady(1))
    assert tell(dispatcher, good(1, 3)) == [RecordSuccess(3, piece(0))]
    assert tell(dispatcher, good(0, 1)) == [Drop(0, 1)]
    assert tell(dispatcher, good(0, 2)) == [RecordSuccess(2, piece(1)), Conclude("complete", "")]
    assert tell(dispatcher, good(1, 4)) == [Drop(1, 4)]
    assert dispatcher.tally.items_succeeded == 2 * ITEMS


def test_a_failure_beside_a_lost_workers_attempt_is_tried_again() -> None:
    """The lost worker may never answer: it is no reason to wait."""
    dispatcher = a_dispatcher(1, workers=2)
    tell(dispatcher, WorkerReady(0), WorkerLost(0), WorkerReady(1))
    commands = tell(dispatcher, bad(1, 2))
    assert commands == [RecordFailure(2, piece(0), 1, False), Grant(1, [Granted(3, piece(0), 1)])]


def test_a_late_failure_costs_a_try_and_never_more_than_there_are() -> None:
    dispatcher = a_dispatcher(1, workers=2, max_try=2)
    tell(dispatcher, WorkerReady(0), WorkerLost(0), WorkerReady(1))
    assert tell(dispatcher, bad(0, 1)) == [RecordFailure(1, piece(0), 1, False)]
    commands = tell(dispatcher, bad(1, 2))
    assert commands[0] == RecordFailure(2, piece(0), 2, True)


def test_a_lost_worker_that_comes_back_goes_on_with_what_it_had() -> None:
    dispatcher = a_dispatcher(4, workers=2)
    tell(dispatcher, WorkerReady(0), WorkerLost(0))
    assert dispatcher.waiting == 4
    assert tell(dispatcher, WorkerReady(0)) == []
    assert (dispatcher.waiting, dispatcher.in_flight) == (2, 2)
    (grant,) = tell(dispatcher, WorkerReady(1))
    assert isinstance(grant, Grant)
    assert [one.piece.mini_batch for one in grant.granted] == [2, 3]


def test_a_lost_worker_that_is_gone_then_is_one_loss() -> None:
    dispatcher = a_dispatcher(workers=3)
    tell(dispatcher, WorkerReady(0), WorkerLost(0), WorkerReady(1))
    # Attempt 3 is the copy of attempt 1; nobody has to do it a third time.
    waiting = dispatcher.waiting
    assert tell(dispatcher, WorkerGone(0)) == []
    assert dispatcher.waiting == waiting


def test_what_kills_worker_after_worker_is_given_up_alone() -> None:
    """It takes no innocent piece with it, though those behind it were lost as often."""
    dispatcher = a_dispatcher(20, workers=MAX_LOSSES + 3)
    for number in range(MAX_LOSSES):
        tell(dispatcher, WorkerReady(number), WorkerLost(number))
    (grant,) = tell(dispatcher, WorkerReady(MAX_LOSSES))
    assert isinstance(grant, Grant)
    assert grant.granted[0].piece == piece(0)
    commands = tell(dispatcher, WorkerLost(MAX_LOSSES))
    assert commands == [RecordLoss(piece(0), MAX_LOSSES + 1)]
    assert dispatcher.tally.mini_batches_failed == 1
    (grant,) = tell(dispatcher, WorkerReady(MAX_LOSSES + 1))
    assert isinstance(grant, Grant)
    assert grant.granted[0] == Granted(grant.granted[0].attempt, piece(1), 0)


def test_a_flapping_worker_costs_its_piece_one_loss() -> None:
    dispatcher = a_dispatcher(5, workers=2)
    tell(dispatcher, WorkerReady(0))
    for _ in range(2 * MAX_LOSSES):
        assert tell(dispatcher, WorkerLost(0)) == []
        assert tell(dispatcher, WorkerLost(0)) == []
        tell(dispatcher, WorkerReady(0))
    assert dispatcher.tally.mini_batches_failed == 0


def test_the_last_piece_lost_too_often_ends_the_run() -> None:
    dispatcher = a_dispatcher(1, workers=MAX_LOSSES + 1, thresholds=Thresholds(failed_items=5))
    for number in range(MAX_LOSSES):
        tell(dispatcher, WorkerReady(number), WorkerLost(number))
    commands = tell(dispatcher, WorkerReady(MAX_LOSSES), WorkerLost(MAX_LOSSES))
    assert commands[0] == RecordLoss(piece(0), MAX_LOSSES + 1)
    assert commands[1] == Conclude("too_many_errors", "10 items failed; error_threshold is 5")


# Rests

BACKOFF = RetryBackoff(initial=2, factor=3, max=10, jitter=False)


def test_what_has_failed_rests_before_it_is_tried_again() -> None:
    dispatcher = a_dispatcher(3, workers=1, max_try=4, backoff=BACKOFF)
    tell(dispatcher, WorkerReady(0))
    commands = tell(dispatcher, bad(0, 1))
    assert commands == [
        RecordFailure(1, piece(0), 1, False),
        Later(1, 2.0),
        Grant(0, [Granted(3, piece(2), 0)]),
    ]
    assert tell(dispatcher, good(0, 2)) == [RecordSuccess(2, piece(1))]
    assert tell(dispatcher, good(0, 3)) == [RecordSuccess(3, piece(2))]
    assert (dispatcher.waiting, dispatcher.in_flight, dispatcher.concluded) == (0, 0, False)
    assert tell(dispatcher, Due(1)) == [Grant(0, [Granted(4, piece(0), 1)])]
    assert tell(dispatcher, bad(0, 4))[1] == Later(2, 6.0)
    assert tell(dispatcher, Due(1)) == []
    tell(dispatcher, Due(2))
    assert tell(dispatcher, bad(0, 5))[1] == Later(3, 10.0)
    tell(dispatcher, Due(3))
    assert tell(dispatcher, bad(0, 6))[0] == RecordFailure(6, piece(0), 4, True)


def test_a_rest_keeps_nobody_and_recalls_nothing() -> None:
    dispatcher = a_dispatcher(2, workers=2, backoff=BACKOFF)
    tell(dispatcher, WorkerReady(0), bad(0, 1))
    assert tell(dispatcher, WorkerReady(1)) == []
    assert tell(dispatcher, Due(1)) == [Grant(1, [Granted(3, piece(0), 1)])]


def test_a_stop_does_not_wait_for_what_rests() -> None:
    dispatcher = a_dispatcher(2, workers=1, backoff=BACKOFF)
    tell(dispatcher, WorkerReady(0), bad(0, 1), good(0, 2))
    assert tell(dispatcher, StopRequested("asked", False)) == [Conclude("stopped", "asked")]
    assert tell(dispatcher, Due(1)) == []


def test_what_fails_while_it_stops_does_not_rest() -> None:
    dispatcher = a_dispatcher(2, workers=1, backoff=BACKOFF)
    tell(dispatcher, WorkerReady(0), StopRequested("asked", False))
    assert tell(dispatcher, bad(0, 1)) == [RecordFailure(1, piece(0), 1, False)]


def test_a_late_success_ends_what_rests() -> None:
    dispatcher = a_dispatcher(1, workers=2, backoff=BACKOFF)
    tell(dispatcher, WorkerReady(0), WorkerLost(0), WorkerReady(1), bad(1, 2))
    assert tell(dispatcher, good(0, 1)) == [RecordSuccess(1, piece(0)), Conclude("complete", "")]


def test_what_rests_while_its_lost_worker_returns_is_running_again() -> None:
    dispatcher = a_dispatcher(1, workers=2, backoff=BACKOFF)
    tell(dispatcher, WorkerReady(0), WorkerLost(0), WorkerReady(1), bad(1, 2), WorkerReady(0))
    assert tell(dispatcher, Due(1)) == []
    assert tell(dispatcher, bad(0, 1)) == [RecordFailure(1, piece(0), 2, False), Later(2, 6.0)]


# Recalls


def test_an_idle_worker_gets_half_of_what_another_has_not_begun() -> None:
    dispatcher = a_dispatcher(60, workers=2)
    commands = tell(dispatcher, WorkerReady(0), good(0, 1, seconds=1e-5))
    assert isinstance(commands[-1], Grant)
    behind = [one.attempt for one in commands[-1].granted]
    assert len(behind) > 10
    # Worker 1 does all the rest; worker 0 is at attempt 2.
    todo = deque(tell(dispatcher, WorkerReady(1)))
    while not isinstance(todo[0], Recall):
        command = todo.popleft()
        if isinstance(command, Grant):
            for one in command.granted:
                todo.extend(tell(dispatcher, good(1, one.attempt, seconds=1e-5)))
    (recall,) = todo
    assert recall == Recall(0, behind[len(behind) // 2 :])
    # What comes back goes to the idle one, and is not asked for again.
    commands = tell(dispatcher, AttemptsReturned(0, behind[-3:]))
    (grant,) = commands
    assert isinstance(grant, Grant)
    assert grant.worker == 1
    assert len(grant.granted) == 2
    tell(dispatcher, good(1, grant.granted[0].attempt), good(1, grant.granted[1].attempt))
    assert dispatcher.waiting == 0


def test_what_comes_back_goes_to_the_idle_not_behind_a_running_one() -> None:
    dispatcher = a_dispatcher(2, workers=2)
    tell(dispatcher, WorkerReady(0))
    assert tell(dispatcher, WorkerReady(1)) == [Recall(0, [2])]
    assert tell(dispatcher, WorkerReady(1)) == []
    assert tell(dispatcher, AttemptsReturned(0, [2])) == [Grant(1, [Granted(3, piece(1), 0)])]


def test_a_recall_that_brings_nothing_is_followed_by_one_of_another_worker() -> None:
    dispatcher = a_dispatcher(4, workers=3)
    tell(dispatcher, WorkerReady(0), WorkerReady(1))
    assert tell(dispatcher, WorkerReady(2)) == [Recall(0, [2])]
    assert tell(dispatcher, AttemptsReturned(0, [])) == [Recall(1, [4])]
    assert tell(dispatcher, AttemptsReturned(1, [])) == []
    assert tell(dispatcher, good(0, 2)) == [RecordSuccess(2, piece(1))]


def test_a_recalled_attempt_may_have_been_started() -> None:
    dispatcher = a_dispatcher(2, workers=2)
    tell(dispatcher, WorkerReady(0), WorkerReady(1))
    assert tell(dispatcher, good(0, 2)) == [RecordSuccess(2, piece(1))]
    assert tell(dispatcher, good(0, 1))[-1] == Conclude("complete", "")


# Stopping


def test_a_stop_recalls_and_waits_for_what_runs() -> None:
    dispatcher = a_dispatcher()
    tell(dispatcher, WorkerReady(0), WorkerReady(1))
    assert tell(dispatcher, StopRequested("asked", False)) == [Recall(0, [1, 2]), Recall(1, [3, 4])]
    assert tell(dispatcher, StopRequested("again", False)) == []
    assert tell(dispatcher, AttemptsReturned(0, [2]), AttemptsReturned(1, [4])) == []
    assert tell(dispatcher, good(0, 1)) == [RecordSuccess(1, piece(0))]
    commands = tell(dispatcher, bad(1, 3))
    assert commands == [RecordFailure(3, piece(2), 1, False), Conclude("stopped", "asked")]


def test_a_stop_at_once_does_not_wait() -> None:
    dispatcher = a_dispatcher()
    tell(dispatcher, WorkerReady(0), StopRequested("asked", False))
    assert tell(dispatcher, StopRequested("now", True)) == [Conclude("stopped", "now")]
    assert tell(dispatcher, StopRequested("more", True)) == []
    assert tell(dispatcher, AttemptsReturned(0, [2])) == []


def test_a_stop_with_nothing_out_ends_at_once() -> None:
    assert tell(a_dispatcher(), StopRequested("asked", False)) == [Conclude("stopped", "asked")]


def test_a_stop_does_not_wait_for_the_lost_but_asks_those_who_come_back() -> None:
    dispatcher = a_dispatcher()
    tell(dispatcher, WorkerReady(0), WorkerReady(1), WorkerLost(0))
    assert tell(dispatcher, StopRequested("asked", False)) == [Recall(1, [3, 4])]
    assert tell(dispatcher, WorkerReady(0)) == [Recall(0, [1, 2])]
    assert tell(dispatcher, WorkerLost(0)) == []
    assert tell(dispatcher, WorkerGone(1)) == [Conclude("stopped", "asked")]


def test_a_stop_that_comes_with_the_last_answers_is_complete() -> None:
    dispatcher = a_dispatcher(2)
    tell(dispatcher, WorkerReady(0), StopRequested("asked", False), good(0, 1))
    assert tell(dispatcher, good(0, 2))[-1] == Conclude("complete", "")


def test_a_stop_does_not_wait_for_answers_that_will_be_dropped() -> None:
    dispatcher = a_dispatcher(3, workers=2)
    tell(dispatcher, WorkerReady(0), WorkerLost(0), WorkerReady(1), StopRequested("asked", False))
    tell(dispatcher, AttemptsReturned(1, [4]))
    assert tell(dispatcher, good(0, 1)) == [RecordSuccess(1, piece(0)), Conclude("stopped", "asked")]


# Nonsense

NONSENSE: list[Event] = [
    good(0, 999),
    bad(0, -1),
    good(7, 1),
    good(1, 1),
    bad(-3, 1),
    AttemptsReturned(0, [999, -1]),
    AttemptsReturned(7, [1]),
    WorkerReady(7),
    WorkerLost(7),
    WorkerGone(-1),
]


@pytest.mark.parametrize("event", NONSENSE, ids=repr)
@pytest.mark.parametrize("state", ["new", "running", "idle", "lost", "stopping", "concluded"])
def test_nonsense_changes_nothing(event: Event, state: str) -> None:
    dispatcher = a_dispatcher(3)
    if state != "new":
        tell(dispatcher, WorkerReady(0))
    if state == "idle":
        tell(dispatcher, WorkerReady(1), AttemptsReturned(0, []), good(1, 3))
    if state == "lost":
        tell(dispatcher, WorkerLost(0))
    if state in ("stopping", "concluded"):
        tell(dispatcher, StopRequested("asked", state == "concluded"))
    before = (dispatcher.waiting, dispatcher.in_flight, dispatcher.concluded, dispatcher.tally.attempts)
    commands = tell(dispatcher, event)
    assert all(isinstance(command, Drop | Recall) for command in commands)
    assert before == (
        dispatcher.waiting,
        dispatcher.in_flight,
        dispatcher.concluded,
        dispatcher.tally.attempts,
    )


def test_check_sees_a_lost_piece() -> None:
    dispatcher = a_dispatcher()
    tell(dispatcher, WorkerReady(0))
    dispatcher.tally.mini_batches_failed += 1
    with pytest.raises(AssertionError, match="tally"):
        dispatcher.check()


# Other shares of an array


def test_what_fails_elsewhere_counts_with_what_fails_here() -> None:
    dispatcher = a_dispatcher(thresholds=Thresholds(failed_items=25), max_try=1)
    tell(dispatcher, WorkerReady(0), bad(0, 1))

    assert tell(dispatcher, FailedElsewhere(Elsewhere(items=15))) == []
    told = tell(dispatcher, FailedElsewhere(Elsewhere(items=16)))

    reason = "26 items failed (16 of them in other shares of the array); error_threshold is 25"
    assert told == [Conclude("too_many_errors", reason)]


def test_what_has_failed_elsewhere_before_ends_it_at_the_start() -> None:
    dispatcher = Dispatcher(
        workers=1,
        todo=[(0, 5)],
        item_count=lambda _: ITEMS,
        run_max_try=1,
        thresholds=Thresholds(failed_mini_batches=3),
        tally=Tally(items_total=50, mini_batches_total=5),
        elsewhere=Elsewhere(mini_batches=4),
    )

    reason = "4 mini-batches failed (4 of them in other shares of the array); mini_batch_error_threshold is 3"
    assert dispatcher.begin() == [Conclude("too_many_errors", reason)]
