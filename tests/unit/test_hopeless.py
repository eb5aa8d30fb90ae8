"""A mini-batch of many items that all fail: it is not split down to each of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.bisection import HOPELESS
from mpibatch.core.dispatch import (
    AttemptFailed,
    AttemptSucceeded,
    Conclude,
    Dispatcher,
    Grant,
    RecordFailure,
    RecordLoss,
    RecordSuccess,
    WorkerLost,
    WorkerReady,
)
from mpibatch.work import Piece


class World:
    """Workers that do at once what they are granted; an attempt fails if it has an item that is bad."""

    def __init__(
        self, count: int, bad: Callable[[int], bool], *, workers: int = 1, mini_batches: int = 1
    ) -> None:
        self._bad = bad
        self.attempts = 0
        self.failed: set[int] = set()
        self.succeeded: set[int] = set()
        self.concluded = False
        self.tally = Tally(items_total=count * mini_batches, mini_batches_total=mini_batches)
        self.dispatcher = Dispatcher(
            workers=workers, todo=[(0, mini_batches)], item_count=lambda number: count, run_max_try=2,
            thresholds=Thresholds(), tally=self.tally, isolate=True,
        )  # fmt: skip
        self._count = count
        events = [WorkerReady(worker) for worker in range(workers)]
        queue: list[object] = [command for event in events for command in self.dispatcher.handle(event)]
        while queue:
            queue += self._carry_out(queue.pop(0))
        assert self.concluded

    def _carry_out(self, command: object) -> list[object]:
        match command:
            case Conclude():
                self.concluded = True
            case RecordFailure(_, piece, _, True):
                self.failed |= self._items(piece)
            case RecordSuccess(_, piece):
                assert not self.succeeded & self._items(piece)
                self.succeeded |= self._items(piece)
            case Grant(worker, granted):
                done: list[object] = []
                for one in granted:
                    done += self._attempt(worker, one.attempt, one.piece)
                return done
            case _:
                pass
        return []

    def _attempt(self, worker: int, attempt: int, piece: Piece) -> list[object]:
        self.attempts += 1
        if any(map(self._bad, self._items(piece))):
            commands = self.dispatcher.handle(AttemptFailed(worker, attempt, 0.01, "ValueError"))
        else:
            commands = self.dispatcher.handle(
                AttemptSucceeded(worker, attempt, piece.count, piece.count, 0.01)
            )
        if not self.dispatcher.concluded:
            self.dispatcher.check()
        return list(commands)

    def _items(self, piece: Piece) -> set[int]:
        first = piece.mini_batch * self._count + piece.first
        return set(range(first, first + piece.count))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_where_all_items_are_bad_it_ends_soon(workers: int) -> None:
    world = World(10_000, lambda item: True, workers=workers)
    assert world.attempts < 500
    assert world.failed == set(range(10_000))
    assert (world.tally.items_failed, world.tally.mini_batches_failed) == (10_000, 1)


def test_after_three_such_mini_batches_others_are_not_split() -> None:
    world = World(1000, lambda item: True, mini_batches=20)
    assert world.attempts < 3 * 450 + 2 * 20
    assert world.failed == set(range(20_000))


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("workers", [1, 3])
def test_where_some_are_good_each_of_them_is_kept(share: float, workers: int) -> None:
    for seed in range(5):
        random = Random(seed)
        bad = {item for item in range(3000) if random.random() < share}
        world = World(3000, bad.__contains__, workers=workers)
        assert world.failed == bad
        assert world.succeeded == set(range(3000)) - bad


@pytest.mark.parametrize("bad", [range(1000), range(1, 2000), range(500, 2000), range(HOPELESS, 2000)])
def test_bad_ones_that_stand_together(bad: range) -> None:
    world = World(2000, bad.__contains__)
    assert world.failed == set(bad)


def test_few_items_are_all_tried() -> None:
    world = World(HOPELESS, lambda item: True)
    assert world.attempts == 2 + 2 * HOPELESS - 2


def test_what_loses_workers_again_and_again() -> None:
    """Each attempt loses its worker: pieces that wait fail with what was lost last."""
    tally = Tally(items_total=4000, mini_batches_total=1)
    dispatcher = Dispatcher(
        workers=6000, todo=[(0, 1)], item_count=lambda number: 4000, run_max_try=2, thresholds=Thresholds(),
        tally=tally, isolate=True,
    )  # fmt: skip
    lost = set()
    for worker in range(6000):
        commands = [*dispatcher.handle(WorkerReady(worker)), *dispatcher.handle(WorkerLost(worker))]
        for command in commands:
            if isinstance(command, RecordLoss):
                piece = command.piece
                lost |= set(range(piece.first, piece.first + piece.count))
        if dispatcher.concluded:
            break
    assert lost == set(range(4000))
    assert worker < 1000
