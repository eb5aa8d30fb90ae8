"""Who is suspected, who is held back, who is quarantined, what is refunded."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.backlog import Work
from mpibatch.core.bad_nodes import LONG, MOST_SPARED, MOST_UNDECIDED, RECENT, BadNodes
from mpibatch.core.crew import Crew
from mpibatch.core.dispatch import (
    AttemptFailed,
    AttemptsReturned,
    AttemptSucceeded,
    Command,
    Dispatcher,
    Event,
    Grant,
    Granted,
    Quarantine,
    Recall,
    RecordFailure,
    Remark,
    WorkerGone,
    WorkerLost,
    WorkerReady,
)
from mpibatch.work import Piece


def a_crew(workers: int, nodes: list[int] | None = None) -> Crew:
    crew = Crew(workers, nodes)
    for number in range(workers):
        crew.enter(number, crew.workers[number])
    return crew


def works(count: int) -> list[Work]:
    return [Work(Piece(number, 0, 1)) for number in range(count)]


def fail(bad_nodes: BadNodes, worker: int, *failed: Work) -> list[bool]:
    costs = []
    for work in failed:
        costs.append(bad_nodes.failed(worker, work))
        work.tries += costs[-1]
    return costs


def succeed(bad_nodes: BadNodes, worker: int, times: int = 1) -> None:
    for _ in range(times):
        bad_nodes.succeeded(worker)


# Suspicion


@pytest.mark.parametrize(
    ("good", "bad", "streak", "suspicious"),
    [
        (3, 0, 3, True),
        (3, 0, 2, False),
        (2, 0, 3, False),
        (3, 1, 3, True),
        (2, 1, 3, False),
        (40, 14, 9, False),
    ],
)
def test_suspicious(good: int, bad: int, streak: int, suspicious: bool) -> None:
    """A streak of three, and elsewhere at most a quarter of at least three attempts failed."""
    bad_nodes = BadNodes(a_crew(3))
    fail(bad_nodes, 1, *works(bad))
    succeed(bad_nodes, 2, good)
    fail(bad_nodes, 0, *works(streak))
    assert bad_nodes.suspicious(0) == suspicious
    assert not bad_nodes.suspicious(2)
    succeed(bad_nodes, 0)
    assert not bad_nodes.suspicious(0)


def test_what_is_long_ago_counts_less_and_less() -> None:
    bad_nodes = BadNodes(a_crew(2))
    fail(bad_nodes, 1, *works(RECENT))
    succeed(bad_nodes, 1, 2 * RECENT)
    fail(bad_nodes, 0, *works(LONG))
    assert bad_nodes.suspicious(0)


def test_a_node_is_suspected_where_there_is_another_one() -> None:
    for nodes, suspicious in (([0, 0, 1, 1], True), ([0, 0, 0, 0], False)):
        bad_nodes = BadNodes(a_crew(4, nodes))
        succeed(bad_nodes, 2, 10)
        failed = works(4)
        fail(bad_nodes, 0, *failed[:2])
        fail(bad_nodes, 1, *failed[2:])
        assert bad_nodes.suspicious(0) == bad_nodes.suspicious(1) == suspicious
        assert not bad_nodes.suspicious(2)


def test_failures_on_the_suspicious_are_spared_three_times_a_piece() -> None:
    bad_nodes = BadNodes(a_crew(2))
    succeed(bad_nodes, 1, 10)
    one, *others = works(5)
    assert fail(bad_nodes, 0, *others) == [True, True, False, False]
    assert fail(bad_nodes, 0, *[one] * (MOST_SPARED + 2)) == [False] * MOST_SPARED + [True] * 2
    assert one.spared == MOST_SPARED


# Who gets it then


@pytest.mark.parametrize(
    ("nodes", "failed_on", "worker", "avoids"),
    [
        ([0, 0, 0], set(), 0, False),
        ([0, 0, 0], {0}, 0, True),
        ([0, 0, 0], {0}, 1, False),
        ([0, 0, 0], {0, 1, 2}, 0, False),
        ([0, 0, 1], {0}, 1, True),  # Its node, where there is another one.
        ([0, 0, 1], {0, 2}, 1, False),  # All nodes have failed.
        ([0, 0, 1], {0, 2}, 0, True),
        ([0], {0}, 0, False),
    ],
)
def test_who_leaves_a_piece_to_others(
    nodes: list[int], failed_on: set[int], worker: int, avoids: bool
) -> None:
    bad_nodes = BadNodes(a_crew(len(nodes), nodes))
    (work,) = works(1)
    work.failed_on = failed_on or None
    assert bad_nodes.avoids(worker, work) == avoids


def test_held_is_who_only_fails_while_others_do_not() -> None:
    bad_nodes = BadNodes(a_crew(2))
    fail(bad_nodes, 0, *works(LONG - 1))
    assert not bad_nodes.held(0)
    fail(bad_nodes, 0, *works(1))
    assert bad_nodes.held(0)
    fail(bad_nodes, 1, *works(LONG))
    assert not bad_nodes.held(0), "all fail: it may be the input"
    succeed(bad_nodes, 1)
    assert bad_nodes.held(0)
    assert not bad_nodes.held(1)


def test_a_nodes_workers_are_held_for_it() -> None:
    bad_nodes = BadNodes(a_crew(4, [0, 0, 1, 1]))
    fail(bad_nodes, 0, *works(LONG))
    assert bad_nodes.held(0)
    assert bad_nodes.held(1)
    assert not bad_nodes.held(2)


def test_too_much_undecided_has_to_wait_until_it_is_decided() -> None:
    bad_nodes = BadNodes(a_crew(2))
    failed = works(MOST_UNDECIDED)
    fail(bad_nodes, 0, *failed)
    assert bad_nodes.has_to_wait(0)
    first, second = works(2)
    bad_nodes.split(failed[0], (first, second))
    bad_nodes.ended(failed[1])
    assert bad_nodes.has_to_wait(0)
    bad_nodes.ended(first)
    bad_nodes.ended(second)
    assert not bad_nodes.has_to_wait(0)


# Quarantine


def test_three_that_succeed_elsewhere_are_the_workers_fault() -> None:
    bad_nodes = BadNodes(a_crew(3))
    succeed(bad_nodes, 1, 60)
    failed = works(LONG)
    fail(bad_nodes, 0, *failed)
    for work in failed:
        assert bad_nodes.judge(0) is None
        succeed(bad_nodes, 1)
        assert bad_nodes.absolved(1, work) == [0]
    found = bad_nodes.judge(0)
    assert found is not None
    assert (found.workers, found.whole_node, found.failures) == ([0], False, LONG)


def test_a_success_in_between_clears() -> None:
    bad_nodes = BadNodes(a_crew(3))
    succeed(bad_nodes, 1, 60)
    failed = works(LONG + 1)
    fail(bad_nodes, 0, failed[0])
    succeed(bad_nodes, 0)
    fail(bad_nodes, 0, *failed[1:])
    for work in failed[:-1]:
        bad_nodes.absolved(1, work)
    assert bad_nodes.judge(0) is None
    bad_nodes.absolved(1, failed[-1])
    assert bad_nodes.judge(0) is not None


def test_where_a_fifth_fails_anyway_three_in_a_row_are_chance() -> None:
    bad_nodes = BadNodes(a_crew(3))
    for _ in range(10):
        succeed(bad_nodes, 1, 4)
        fail(bad_nodes, 1, *works(1))
    failed = works(9)
    for place, work in enumerate(failed):
        fail(bad_nodes, 0, work)
        bad_nodes.absolved(1, work)
        assert (bad_nodes.judge(0) is not None) == (place == 8)


def test_nobody_is_quarantined_without_another_one() -> None:
    crew = a_crew(2)
    bad_nodes = BadNodes(crew)
    succeed(bad_nodes, 1, 60)
    failed = works(LONG)
    fail(bad_nodes, 0, *failed)
    for work in failed:
        bad_nodes.absolved(1, work)
    assert bad_nodes.judge(0) is not None
    crew.bar(1)
    assert bad_nodes.judge(0) is None


def test_a_node_is_quarantined_as_a_whole() -> None:
    bad_nodes = BadNodes(a_crew(5, [0, 0, 1, 1, 1]))
    succeed(bad_nodes, 2, 60)
    failed = works(4)
    fail(bad_nodes, 0, *failed[:2])
    fail(bad_nodes, 1, *failed[2:])
    for work in failed:
        bad_nodes.absolved(3, work)
    for number in (0, 1):
        found = bad_nodes.judge(number)
        assert found is not None
        assert (found.workers, found.whole_node, found.failures) == ([0, 1], True, 4)
    assert bad_nodes.judge(2) is None


def test_no_node_is_quarantined_without_another_one() -> None:
    crew = a_crew(3, [0, 0, 1])
    bad_nodes = BadNodes(crew)
    succeed(bad_nodes, 2, 60)
    failed = works(4)
    fail(bad_nodes, 0, *failed[:2])
    fail(bad_nodes, 1, *failed[2:])
    for work in failed:
        bad_nodes.absolved(2, work)
    assert bad_nodes.judge(0) is not None
    crew.bar(2)
    assert bad_nodes.judge(0) is None


def test_success_of_a_neighbour_says_nothing_against_the_node() -> None:
    bad_nodes = BadNodes(a_crew(4, [0, 0, 1, 1]))
    succeed(bad_nodes, 2, 60)
    failed = works(LONG)
    fail(bad_nodes, 0, *failed)
    for work in failed:
        succeed(bad_nodes, 1)
        assert bad_nodes.absolved(1, work) == [0]
    found = bad_nodes.judge(0)
    assert found is not None
    assert (found.workers, found.whole_node) == ([0], False)


def test_refunds() -> None:
    bad_nodes = BadNodes(a_crew(2))
    failed = works(LONG)
    fail(bad_nodes, 0, failed[0])
    fail(bad_nodes, 1, failed[0])
    fail(bad_nodes, 0, *failed)
    assert [work.tries for work in failed] == [3, 1, 1]
    bad_nodes.refund(0)
    assert [work.tries for work in failed] == [1, 0, 0]
    bad_nodes.refund(0)
    assert [work.tries for work in failed] == [1, 0, 0]


def test_who_gets_another_chance_begins_anew() -> None:
    bad_nodes = BadNodes(a_crew(4, [0, 0, 1, 1]))
    succeed(bad_nodes, 2, 60)
    failed = works(LONG)
    fail(bad_nodes, 0, *failed)
    for work in failed:
        bad_nodes.absolved(2, work)
    bad_nodes.begin_anew(0)
    assert bad_nodes.judge(0) is None
    assert not bad_nodes.suspicious(0)
    fail(bad_nodes, 2, *works(LONG))
    assert not bad_nodes.suspicious(2), "what it failed is forgotten, so there is nothing to compare with"


# Whole runs


def a_dispatcher(
    mini_batches: int, workers: int, *, items: int = 1, nodes: list[int] | None = None, isolate: bool = False
) -> Dispatcher:
    return Dispatcher(
        workers=workers,
        todo=[(0, mini_batches)],
        item_count=lambda _: items,
        run_max_try=3,
        thresholds=Thresholds(),
        tally=Tally(items_total=mini_batches * items, mini_batches_total=mini_batches),
        nodes=nodes,
        isolate=isolate,
    )


class Run:
    """Workers of given speeds: `broken` ones fail everything, at once; the others what is in `bad`."""

    def __init__(
        self, dispatcher: Dispatcher, workers: int, broken: set[int], bad: set[tuple[int, int]], seed: int = 0
    ) -> None:
        self.dispatcher = dispatcher
        self.broken = broken
        self.bad = bad
        self.random = Random(seed)
        self.attempts: list[deque[Granted]] = [deque() for _ in range(workers)]
        self.swallowed = 0
        """Attempts on broken workers."""
        self.told: list[Command] = []
        for number in range(workers):
            self.tell(WorkerReady(number))

    def tell(self, event: Event) -> None:
        for command in self.dispatcher.handle(event):
            self.told.append(command)
            if isinstance(command, Grant):
                self.attempts[command.worker].extend(command.granted)
        self.dispatcher.check()

    def to_the_end(self) -> None:
        weights = [50 if number in self.broken else 1 for number in range(len(self.attempts))]
        while not self.dispatcher.concluded:
            busy = [number for number, mine in enumerate(self.attempts) if mine]
            assert busy, "nobody has anything to do"
            (number,) = self.random.choices(busy, [weights[number] for number in busy])
            self.step(number)

    def step(self, number: int) -> None:
        one = self.attempts[number].popleft()
        piece = one.piece
        items = {(piece.mini_batch, item) for item in range(piece.first, piece.first + piece.count)}
        self.swallowed += number in self.broken
        if number in self.broken or items & self.bad:
            self.tell(AttemptFailed(number, one.attempt, 0.001, "Broken" if number in self.broken else "Bad"))
        else:
            self.tell(AttemptSucceeded(number, one.attempt, piece.count, piece.count, 1.0))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("isolate", [False, True])
def test_a_broken_worker_costs_nothing(seed: int, isolate: bool) -> None:
    dispatcher = a_dispatcher(300, 4, items=4, isolate=isolate)
    run = Run(dispatcher, 4, {2}, set(), seed)
    run.to_the_end()
    assert (dispatcher.tally.items_succeeded, dispatcher.tally.items_failed) == (1200, 0)
    (quarantine,) = [command for command in run.told if isinstance(command, Quarantine)]
    assert (quarantine.workers, quarantine.whole_node) == ([2], False)
    assert run.swallowed < 40


@pytest.mark.parametrize("seed", range(10))
def test_a_broken_node_costs_nothing(seed: int) -> None:
    dispatcher = a_dispatcher(300, 6, nodes=[0, 0, 1, 1, 2, 2])
    run = Run(dispatcher, 6, {2, 3}, set(), seed)
    run.to_the_end()
    assert dispatcher.tally.mini_batches_failed == 0
    found = [command for command in run.told if isinstance(command, Quarantine)]
    assert sorted(number for command in found for number in command.workers) == [2, 3]
    assert found[-1].whole_node


def test_a_broken_worker_beside_one_that_takes_its_time_does_not_fail_it_all() -> None:
    """Nothing is known yet of elsewhere, and the broken one is done with everything at once."""
    dispatcher = a_dispatcher(20, 2)
    run = Run(dispatcher, 2, {0}, set())
    while run.attempts[0]:
        run.step(0)
    assert dispatcher.tally.mini_batches_failed == 0
    assert run.swallowed <= MOST_UNDECIDED + 1
    run.to_the_end()
    assert dispatcher.tally.mini_batches_failed == 0


def test_nothing_is_recalled_for_one_who_is_held() -> None:
    """It could not have it, and so it would be asked for again and again."""
    dispatcher = a_dispatcher(5, 2)
    run = Run(dispatcher, 0, set(), set())
    run.attempts = [deque(), deque()]
    run.broken = {0}
    for number in (1, 0):
        run.tell(WorkerReady(number))
    for number in (0, 0, 0, 1, 1, 0, 1):
        run.step(number)
    assert (dispatcher.waiting, len(run.attempts[0]), len(run.attempts[1])) == (0, 0, 2)
    del run.told[:]
    run.tell(WorkerReady(0))
    run.tell(AttemptsReturned(0, []))
    assert run.told == []


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("isolate", [False, True])
def test_bad_input_is_nobodys_fault(seed: int, share: float, isolate: bool) -> None:
    random = Random(seed)
    bad = {(number, item) for number in range(60) for item in range(3) if random.random() < share}
    if seed % 3 == 0:  # All in one place.
        bad = {(number, item) for number in range(20, 20 + round(share * 40)) for item in range(3)}
    dispatcher = a_dispatcher(60, 5, items=3, nodes=[0, 0, 1, 1, 2], isolate=isolate)
    run = Run(dispatcher, 5, set(), bad, seed)
    run.to_the_end()
    assert not [command for command in run.told if isinstance(command, Quarantine)]
    assert dispatcher.tally.items_failed >= len(bad)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2, 0.5])
def test_flaky_input_is_nobodys_fault(share: float) -> None:
    dispatcher = a_dispatcher(3000, 6)
    run = Run(dispatcher, 6, set(), set())
    random = Random(share)
    while not dispatcher.concluded:
        number = random.choice([number for number, mine in enumerate(run.attempts) if mine])
        one = run.attempts[number].popleft()
        failed = random.random() < share
        run.tell(
            AttemptFailed(number, one.attempt, 1.0)
            if failed
            else AttemptSucceeded(number, one.attempt, 1, 1, 1.0)
        )
    assert not [command for command in run.told if isinstance(command, Quarantine)]


def quarantined(mini_batches: int = 100) -> Run:
    """Worker 0 of three is in quarantine, with two attempts that it was asked for."""
    run = Run(a_dispatcher(mini_batches, 3), 3, {0}, set())
    for _ in range(20):
        run.step(1)
    for _ in range(LONG):
        run.step(0)
    while not any(isinstance(command, Quarantine) for command in run.told):
        run.step(1)
        if len(run.attempts[0]) == 2 and run.dispatcher.tally.attempts > 30:
            run.step(0)
    return run


def test_quarantine_recalls_and_refunds_and_grants_no_more() -> None:
    run = quarantined()
    (quarantine,) = [command for command in run.told if isinstance(command, Quarantine)]
    assert quarantine.workers == [0]
    recalls = [command for command in run.told if isinstance(command, Recall)]
    assert [(one.worker, one.attempts) for one in recalls] == [(0, [one.attempt for one in run.attempts[0]])]
    del run.told[:]
    left = len(run.attempts[0])
    assert left
    while run.attempts[0]:
        run.step(0)
    records = [command for command in run.told if isinstance(command, RecordFailure)]
    assert [(one.tries, one.final) for one in records] == [(0, False)] * left
    run.to_the_end()
    assert not any(isinstance(command, Grant) and command.worker == 0 for command in run.told)
    assert run.dispatcher.tally.mini_batches_failed == 0


def test_what_succeeds_in_quarantine_counts() -> None:
    run = quarantined()
    one = run.attempts[0].popleft()
    before = run.dispatcher.tally.mini_batches_succeeded
    run.tell(AttemptSucceeded(0, one.attempt, 1, 1, 1.0))
    assert run.dispatcher.tally.mini_batches_succeeded == before + 1


@pytest.mark.parametrize("event", [WorkerLost, WorkerGone])
def test_if_nobody_else_is_left_those_in_quarantine_are_used_again(
    event: type[WorkerLost | WorkerGone],
) -> None:
    run = quarantined()
    del run.told[:]
    run.tell(event(1))
    assert not any(isinstance(command, Remark) for command in run.told)
    run.tell(event(2))
    (remark,) = [command for command in run.told if isinstance(command, Remark)]
    assert remark.workers == [0]
    run.broken = set()
    run.attempts[1:] = [deque(), deque()]
    run.to_the_end()
    assert any(isinstance(command, Grant) and command.worker == 0 for command in run.told)
    assert run.dispatcher.tally.mini_batches_failed == 0
