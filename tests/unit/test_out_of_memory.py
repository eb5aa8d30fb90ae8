"""A node whose memory does not do for all of its workers uses one less."""

from __future__ import annotations

import pytest

from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.crew import Crew
from mpibatch.core.dispatch import (
    AttemptFailed,
    AttemptSucceeded,
    Command,
    Dispatcher,
    Drop,
    Event,
    Grant,
    RecordFailure,
    Remark,
    Retire,
    WorkerGone,
    WorkerLost,
    WorkerReady,
)
from mpibatch.core.out_of_memory import MemoryKills
from mpibatch.work import Piece


def tell(dispatcher: Dispatcher, *events: Event) -> list[Command]:
    """Commands of the last event."""
    commands: list[Command] = []
    for event in events:
        commands = dispatcher.handle(event)
        dispatcher.check()
    return commands


def killed(worker: int, attempt: int) -> AttemptFailed:
    return AttemptFailed(worker, attempt, 1.0, "OutOfMemory", True)


def a_dispatcher(nodes: list[int]) -> Dispatcher:
    return Dispatcher(
        workers=len(nodes),
        nodes=nodes,
        todo=[(0, 100)],
        item_count=lambda _: 1,
        run_max_try=3,
        thresholds=Thresholds(),
        tally=Tally(items_total=100, mini_batches_total=100),
    )


@pytest.mark.parametrize(
    ("nodes", "killed_on", "retired"),
    [
        ([0, 0], [0, 0], [False, True]),
        ([0, 0], [0, 1], [False, True]),
        ([0, 1], [0, 0, 0, 0], [False] * 4),
        ([0, 0, 1, 1], [0, 2, 1, 3], [False, False, True, True]),
        ([0, 0, 0], [0, 1, 2, 0], [False, True, False, True]),
    ],
)
def test_every_second_time_on_a_node(nodes: list[int], killed_on: list[int], retired: list[bool]) -> None:
    kills = MemoryKills(Crew(len(nodes), nodes))
    assert [kills.killed(worker) for worker in killed_on] == retired


def test_the_last_one_of_a_node_is_never_retired() -> None:
    crew = Crew(4, [0, 0, 0, 0])
    kills = MemoryKills(crew)
    for number, worker in enumerate([crew.workers[1], crew.workers[2]], start=1):
        crew.enter(number, worker)
    crew.bar(1)
    crew.workers[2].lost = True
    crew.take_away(2, crew.workers[2])
    del crew.workers[3]
    assert [kills.killed(0) for _ in range(4)] == [False] * 4
    assert [kills.killed(2), kills.killed(3)] == [False, False], (
        "of the lost and the gone nothing is to be retired"
    )


def test_one_who_is_lost_is_not_retired_when_he_tells_at_last() -> None:
    crew = Crew(3)
    crew.workers[0].lost = True
    crew.take_away(0, crew.workers[0])
    kills = MemoryKills(crew)
    assert [kills.killed(0), kills.killed(0)] == [False, False]


def test_the_retired_is_counted_out_and_others_do_what_it_had() -> None:
    dispatcher = a_dispatcher([0, 0])
    tell(dispatcher, WorkerReady(0), WorkerReady(1))
    commands = tell(dispatcher, killed(0, 1))
    assert commands[0] == RecordFailure(1, Piece(0, 0, 1), 1, False)
    assert not any(isinstance(command, Retire) for command in commands)
    commands = tell(dispatcher, killed(0, 2))
    assert [type(command).__name__ for command in commands] == ["RecordFailure", "Retire", "Remark"]
    assert commands[1] == Retire(0)
    assert isinstance(commands[2], Remark)
    assert commands[2].workers == [0]
    # Its third attempt is not answered, and others do it; what it says still is not used.
    assert tell(dispatcher, AttemptSucceeded(0, 5, 1, 1, 1.0)) == [Drop(0, 5)]
    assert tell(dispatcher, WorkerReady(0)) == tell(dispatcher, WorkerGone(0)) == []
    assert tell(dispatcher, WorkerLost(0)) == []
    given = []
    for attempt in (3, 4):
        commands = tell(dispatcher, AttemptSucceeded(1, attempt, 1, 1, 1.0))
        (grant,) = [command for command in commands if isinstance(command, Grant)]
        given += [(one.piece.mini_batch, one.retry) for one in grant.granted]
    assert given == [(0, 1), (1, 1)]
    # The last one of the node goes on.
    for _ in range(4):
        worker = dispatcher._crew.workers[1]
        commands = tell(dispatcher, killed(1, next(iter(worker.attempts))))
        assert not any(isinstance(command, Retire) for command in commands)
