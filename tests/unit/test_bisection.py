"""What is split, in which order the halves go, when splitting ends."""

from __future__ import annotations

import pytest

from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.bisection import WHOLLY_FAILED, Bisection, SplitMiniBatch, families, halves
from mpibatch.core.dispatch import (
    MAX_LOSSES,
    AttemptFailed,
    AttemptsReturned,
    AttemptSucceeded,
    Command,
    Conclude,
    Dispatcher,
    Drop,
    Grant,
    Granted,
    RecordFailure,
    RecordLoss,
    RecordSplit,
    RecordSuccess,
    Remark,
    WorkerGone,
    WorkerLost,
    WorkerReady,
)
from mpibatch.work import Piece


def a_dispatcher(
    items: list[int], *, max_try: int = 1, workers: int = 1, failed_mini_batches: int | None = None
) -> Dispatcher:
    return Dispatcher(
        workers=workers,
        todo=[(0, len(items))],
        item_count=items.__getitem__,
        run_max_try=max_try,
        thresholds=Thresholds(failed_mini_batches=failed_mini_batches),
        tally=Tally(items_total=sum(items), mini_batches_total=len(items)),
        isolate=True,
    )


def play(dispatcher: Dispatcher, bad: set[tuple[int, int]], alike: str = "ValueError") -> list[Command]:
    """All commands, of a run with one worker on which these items fail."""
    commands = dispatcher.handle(WorkerReady(0))
    told = list(commands)
    while not dispatcher.concluded:
        (one, *later) = [one for command in commands if isinstance(command, Grant) for one in command.granted]
        piece = one.piece
        items = {(piece.mini_batch, item) for item in range(piece.first, piece.first + piece.count)}
        event = (
            AttemptFailed(0, one.attempt, 1.0, alike)
            if items & bad
            else AttemptSucceeded(0, one.attempt, piece.count, piece.count, 1.0)
        )
        answer = dispatcher.handle(event)
        dispatcher.check()
        told += answer
        commands = [Grant(0, later), *answer]
    return told


def test_halves() -> None:
    assert halves(Piece(7, 0, 5)) == (Piece(7, 0, 2), Piece(7, 2, 3))
    assert halves(Piece(7, 2, 3)) == (Piece(7, 2, 1), Piece(7, 3, 2))
    assert halves(Piece(7, 3, 2)) == (Piece(7, 3, 1), Piece(7, 4, 1))


def test_one_bad_item_is_found_and_its_neighbours_are_kept() -> None:
    dispatcher = a_dispatcher([5], max_try=2)
    told = play(dispatcher, {(0, 3)})
    assert [command for command in told if not isinstance(command, Grant)] == [
        RecordFailure(1, Piece(0, 0, 5), 1, False),
        RecordFailure(2, Piece(0, 0, 5), 2, False),
        RecordSplit(Piece(0, 0, 5), 2),
        RecordSuccess(3, Piece(0, 0, 2)),
        RecordFailure(4, Piece(0, 2, 3), 3, False),
        RecordSplit(Piece(0, 2, 3), 3),
        RecordSuccess(5, Piece(0, 2, 1)),
        RecordFailure(6, Piece(0, 3, 2), 4, False),
        RecordSplit(Piece(0, 3, 2), 4),
        RecordFailure(7, Piece(0, 3, 1), 5, True),
        RecordSuccess(8, Piece(0, 4, 1)),
        Conclude("complete", ""),
    ]
    tally = dispatcher.tally
    assert (tally.items_succeeded, tally.items_failed, tally.attempts) == (4, 1, 8)
    assert (tally.mini_batches_succeeded, tally.mini_batches_failed) == (0, 1)
    retries = [one.retry for command in told if isinstance(command, Grant) for one in command.granted]
    assert retries == [0, 1, 2, 2, 3, 3, 4, 4]


def test_a_mini_batch_whose_pieces_succeed_has_succeeded() -> None:
    dispatcher = a_dispatcher([2])
    dispatcher.handle(WorkerReady(0))
    dispatcher.handle(AttemptFailed(0, 1, 1.0))
    dispatcher.handle(AttemptSucceeded(0, 2, 1, 1, 1.0))
    assert dispatcher.tally.mini_batches_succeeded == 0
    assert dispatcher.handle(AttemptSucceeded(0, 3, 1, 1, 1.0))[-1] == Conclude("complete", "")
    assert (dispatcher.tally.mini_batches_succeeded, dispatcher.tally.mini_batches_failed) == (1, 0)


def test_halves_go_before_all_else_the_first_one_first() -> None:
    dispatcher = a_dispatcher([4] * 9, max_try=1)
    dispatcher.handle(WorkerReady(0))
    commands = dispatcher.handle(AttemptFailed(0, 1, 1.0))
    assert commands[-1] == Grant(0, [Granted(3, Piece(0, 0, 2), 1)])
    # Behind attempt 2, which was granted before; its halves go before the second half of the first.
    commands = dispatcher.handle(AttemptFailed(0, 2, 1.0))
    assert commands[-1] == Grant(0, [Granted(4, Piece(1, 0, 2), 1)])


def test_a_failed_mini_batch_counts_once_and_at_once() -> None:
    dispatcher = a_dispatcher([4], failed_mini_batches=0)
    told = play(dispatcher, {(0, 0), (0, 1)})
    assert told[-1] == Conclude("too_many_errors", "1 mini-batches failed; mini_batch_error_threshold is 0")
    assert dispatcher.tally.items_failed == 1
    dispatcher = a_dispatcher([4], failed_mini_batches=1)
    assert play(dispatcher, {(0, 0), (0, 1)})[-1] == Conclude("complete", "")
    assert dispatcher.tally.mini_batches_failed == 1


def test_a_late_success_of_what_was_split_is_dropped() -> None:
    dispatcher = a_dispatcher([4, 4], workers=2)
    for event in (WorkerReady(0), WorkerLost(0), WorkerReady(1)):
        dispatcher.handle(event)
    assert dispatcher.handle(AttemptFailed(1, 3, 1.0))[1] == RecordSplit(Piece(0, 0, 4), 2)
    assert dispatcher.handle(AttemptSucceeded(0, 1, 4, 4, 1.0)) == [Drop(0, 1)]
    dispatcher.check()


def test_a_broken_model_does_not_multiply_the_work() -> None:
    dispatcher = a_dispatcher([8] * 20, max_try=1)
    told = play(dispatcher, {(number, item) for number in range(20) for item in range(8)})
    (remark,) = [command for command in told if isinstance(command, Remark)]
    assert str(WHOLLY_FAILED) in remark.text
    assert "ValueError" in remark.text
    tail = told[told.index(remark) :]
    assert not any(isinstance(command, RecordSplit) for command in tail)
    assert all(command.final for command in tail if isinstance(command, RecordFailure))
    tally = dispatcher.tally
    assert (tally.items_failed, tally.mini_batches_failed) == (160, 20)
    # 15 attempts each of the three, some of those who were split meanwhile.
    assert tally.attempts < 3 * 15 + 17 * 3


def test_other_errors_are_bisected_still() -> None:
    bisection = Bisection(isolate=True)
    for number in range(WHOLLY_FAILED):
        remarks = [*fail_wholly(bisection, "a"), *fail_wholly(bisection, "b" * (number < 2))]
        assert len(remarks) == (number == WHOLLY_FAILED - 1)
    assert not bisection.is_for(Piece(0, 0, 2), "a")
    assert bisection.is_for(Piece(0, 0, 2), "b")
    assert fail_wholly(bisection, "a") == []


def fail_wholly(bisection: Bisection, alike: str) -> list[Remark]:
    mini_batch = SplitMiniBatch(2)
    mini_batch.failure(alike)
    assert bisection.note(mini_batch) == []
    mini_batch.failure(alike)
    return bisection.note(mini_batch)


@pytest.mark.parametrize(("kinds", "succeeded"), [(["a", "b"], False), (["a", "a"], True)])
def test_not_wholly_or_not_alike(kinds: list[str], succeeded: bool) -> None:
    mini_batch = SplitMiniBatch(2, succeeded=succeeded)
    for kind in kinds:
        mini_batch.failure(kind)
    assert mini_batch.wholly_failed is None


def test_single_items_and_what_is_not_to_be_isolated_are_not_split() -> None:
    assert not Bisection(isolate=True).is_for(Piece(0, 3, 1), "")
    assert not Bisection(isolate=False).is_for(Piece(0, 0, 9), "")


def test_what_costs_too_many_workers_is_split_and_its_halves_have_one_loss_each() -> None:
    dispatcher = a_dispatcher([2], workers=MAX_LOSSES + 4)
    for number in range(MAX_LOSSES):
        dispatcher.handle(WorkerReady(number))
        assert dispatcher.handle(WorkerLost(number)) == []
    dispatcher.handle(WorkerReady(MAX_LOSSES))
    commands = dispatcher.handle(WorkerLost(MAX_LOSSES))
    assert commands == [RecordSplit(Piece(0, 0, 2), 1)]
    (grant,) = dispatcher.handle(WorkerReady(MAX_LOSSES + 1))
    assert isinstance(grant, Grant)
    assert [one.piece for one in grant.granted] == [Piece(0, 0, 1), Piece(0, 1, 1)]
    commands = dispatcher.handle(WorkerLost(MAX_LOSSES + 1))
    assert commands == [RecordLoss(Piece(0, 0, 1), MAX_LOSSES + 2)]
    dispatcher.check()
    (grant,) = dispatcher.handle(WorkerReady(MAX_LOSSES + 2))
    assert isinstance(grant, Grant)
    commands = dispatcher.handle(AttemptSucceeded(MAX_LOSSES + 2, grant.granted[0].attempt, 1, 1, 1.0))
    assert commands[-1] == Conclude("complete", "")


def test_halves_that_come_back_keep_their_place() -> None:
    dispatcher = a_dispatcher([2] * 9, workers=2)
    dispatcher.handle(WorkerReady(0))
    dispatcher.handle(AttemptFailed(0, 1, 1.0))
    dispatcher.handle(AttemptsReturned(0, [3]))
    dispatcher.handle(WorkerGone(0))
    (grant,) = dispatcher.handle(WorkerReady(1))
    assert isinstance(grant, Grant)
    assert {one.piece for one in grant.granted} == {Piece(0, 0, 1), Piece(0, 1, 1)}


def test_what_earlier_sessions_left_has_all_its_tries_and_then_is_split() -> None:
    tally = Tally(items_total=13, mini_batches_total=3)
    tally.success(4, 4, 4)
    tally.success(2, 2, 2, whole=False)
    dispatcher = Dispatcher(
        workers=1,
        todo=[(2, 3)],
        pieces=[Piece(1, 0, 2), Piece(1, 4, 1)],
        item_count=[4, 5, 4].__getitem__,
        run_max_try=2,
        thresholds=Thresholds(),
        tally=tally,
        isolate=True,
    )
    assert dispatcher.begin() == []
    dispatcher.check()
    assert dispatcher.waiting == 3
    (grant,) = dispatcher.handle(WorkerReady(0))
    assert grant == Grant(0, [Granted(1, Piece(1, 0, 2), 0), Granted(2, Piece(1, 4, 1), 0)])
    commands = dispatcher.handle(AttemptFailed(0, 1, 1.0))
    assert commands == [RecordFailure(1, Piece(1, 0, 2), 1, False), Grant(0, [Granted(3, Piece(1, 0, 2), 1)])]
    commands = dispatcher.handle(AttemptFailed(0, 3, 1.0))
    assert commands[1] == RecordSplit(Piece(1, 0, 2), 1)
    dispatcher.check()
    assert tally.mini_batches_succeeded == 1


def test_families_know_whether_something_succeeded_before() -> None:
    pieces = [Piece(1, 0, 2), Piece(2, 0, 2), Piece(1, 3, 1), Piece(2, 2, 3)]
    found = dict(families(pieces, lambda _: 5))
    assert set(found) == set(pieces)
    assert found[pieces[0]] is found[pieces[2]]
    assert found[pieces[0]].open == 2
    for piece in pieces:
        found[piece].failure("a")
    assert found[pieces[0]].wholly_failed is None
    assert found[pieces[1]].wholly_failed == "a"
