"""Random worlds against the `Dispatcher`: workers that succeed, fail, get lost, come back, give up.

The model below is the oracle: it keeps its own books of what was granted and answered, says of each
answer whether it has to count, and compares. What must hold at every moment is `Dispatcher.check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.dispatch import (
    MAX_LOSSES,
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
    RecordLoss,
    RecordSuccess,
    StopRequested,
    WorkerGone,
    WorkerLost,
    WorkerReady,
)
from mpibatch.core.grants import LEAST_IN_FLIGHT
from mpibatch.work import Piece

WORLDS = 3000
MOST_EVENTS = 5000


class ModelWorker:
    """What a worker really is, and what the dispatcher was told of it."""

    def __init__(self, speed: int = 1) -> None:
        self.speed = speed
        self.attempts: list[int] = []
        """Granted and not answered, in order: it is at the first."""
        self.recalls: list[list[int]] = []
        """Asked for, not answered."""
        self.dead = False
        """It does nothing any more; sooner or later the dispatcher is told that it is lost or gone."""
        self.ready = False
        self.lost = False
        self.gone = False


class Books:
    """What has to have happened, from the events alone."""

    def __init__(self, counts: list[int], done: dict[int, int], max_try: int) -> None:
        self.counts = counts
        self.max_try = max_try
        self.piece_of: dict[int, Piece] = {}
        self.worker_of: dict[int, int] = {}
        self.open_attempts: set[int] = set()
        """An answer to one of these counts, if its mini-batch has not ended."""
        self.asked: set[int] = set()
        """Recalled attempts."""
        self.tries = [0] * len(counts)
        self.losses = [0] * len(counts)
        self.blamed: set[int] = set()
        """Attempts whose worker was lost while it was at them."""
        self.ended = set(done)
        self.succeeded = self.rows = sum(done.values())
        self.failed = sum(counts[number] - succeeded for number, succeeded in done.items())
        self.failed_mini_batches = 0
        self.attempts = 0

    def grant(self, worker: int, one: Granted) -> None:
        number = one.piece.mini_batch
        assert one.attempt > max(self.piece_of, default=0), "a number is used again"
        assert one.piece == Piece(number, 0, self.counts[number])
        assert number not in self.ended, f"{one}: it has ended"
        assert one.retry == self.tries[number] < self.max_try
        self.piece_of[one.attempt] = one.piece
        self.worker_of[one.attempt] = worker
        self.open_attempts.add(one.attempt)

    def of_worker(self, worker: int) -> list[int]:
        return sorted(attempt for attempt in self.open_attempts if self.worker_of[attempt] == worker)

    def close(self, worker: int, attempts: list[int]) -> list[int]:
        """These are answered; returns those that were open."""
        mine = [one for one in attempts if one in self.open_attempts and self.worker_of[one] == worker]
        self.open_attempts -= set(mine)
        return mine

    def answer(self, event: AttemptSucceeded | AttemptFailed) -> Command:
        """The command that this answer has to have."""
        if not self.close(event.worker, [event.attempt]):
            return Drop(event.worker, event.attempt)
        piece = self.piece_of[event.attempt]
        number = piece.mini_batch
        if number in self.ended:
            return Drop(event.worker, event.attempt)
        self.attempts += 1
        if isinstance(event, AttemptSucceeded):
            self.ended.add(number)
            self.succeeded += event.succeeded
            self.failed += piece.count - event.succeeded
            self.rows += event.rows
            return RecordSuccess(event.attempt, piece)
        self.tries[number] += 1
        final = self.tries[number] == self.max_try
        if final:
            self.end_failed(piece)
        return RecordFailure(event.attempt, piece, self.tries[number], final)

    def lose(self, worker: int) -> list[Command]:
        """The loss of a worker counts against the piece that it was at, once an attempt, and against no other."""
        mine = self.of_worker(worker)[:1]
        if not mine or mine[0] in self.blamed or self.piece_of[mine[0]].mini_batch in self.ended:
            return []
        self.blamed.add(mine[0])
        piece = self.piece_of[mine[0]]
        self.losses[piece.mini_batch] += 1
        if self.losses[piece.mini_batch] <= MAX_LOSSES:
            return []
        self.end_failed(piece)
        return [RecordLoss(piece, self.losses[piece.mini_batch])]

    def end_failed(self, piece: Piece) -> None:
        self.ended.add(piece.mini_batch)
        self.failed += piece.count
        self.failed_mini_batches += 1


class World:
    """One run, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.counts = [random.randint(1, 5) for _ in range(random.choice((0, 1, 3, 12, 30, 80)))]
        done = {
            number: count - (random.random() < 0.1)
            for number, count in enumerate(self.counts)
            if seed % 3 == 0 and random.random() < 0.2
        }
        self.mischief = random.choice((0.0, 0.01, 0.05, 0.3))
        self.p_fail = random.choice((0.0, 0.02, 0.2, 1.0))
        p_deadly = random.choice((0.0, 0.0, 0.0, 0.05))
        self.deadly = {number for number in range(len(self.counts)) if random.random() < p_deadly}
        """Mini-batches that kill whoever is at them."""
        self.seconds = random.choice((1e-5, 0.004, 0.01, 1.0))
        self.thresholds = Thresholds(
            failed_items=random.choice((None, None, None, -1, 0, 5, 40)),
            failed_mini_batches=random.choice((None, None, None, 0, 4)),
            failed_percent=random.choice((None, None, None, 0.0, 10.0, 50.0)),
            needs_success=random.random() < 0.7,
        )
        self.tally = Tally(items_total=sum(self.counts), mini_batches_total=len(self.counts))
        for number, succeeded in done.items():
            self.tally.success(self.counts[number], succeeded, succeeded)
        self.books = Books(self.counts, done, random.randint(1, 3))
        self.readiness = random.choice((1, 6))
        self.promptness = random.choice((1, 10))
        self.workers = [ModelWorker(random.choice((1, 20))) for _ in range(random.choice((1, 2, 3, 5, 12)))]
        self.dispatcher = Dispatcher(
            workers=len(self.workers),
            todo=[(number, number + (number not in done)) for number in range(len(self.counts))],
            item_count=self.counts.__getitem__,
            run_max_try=self.books.max_try,
            thresholds=self.thresholds,
            tally=self.tally,
        )
        self.old_events: list[Event] = []
        self.stopping: str | None = None
        self.conclusion: Conclude | None = None
        self.seen: Counter[str] = Counter()

    # The run

    def run(self) -> None:
        self.obey(self.dispatcher.begin())
        self.compare()
        for _ in range(MOST_EVENTS):
            moves = self.moves()
            if self.conclusion is not None or not moves:
                break
            self.tell(self.random.choice(moves)())
        assert self.conclusion is not None, "nothing can happen any more, and it has not ended"
        for event in (*self.old_events[:20], WorkerReady(0), WorkerLost(0), WorkerGone(0)):
            self.tell(event)
        self.judge(self.conclusion)

    def tell(self, event: Event) -> None:
        self.old_events.append(event)
        expected = self.expect(event)
        commands = self.dispatcher.handle(event)
        assert [c for c in commands if not isinstance(c, Grant | Recall | Conclude)] == expected, event
        self.obey(commands)
        self.compare()

    def expect(self, event: Event) -> list[Command]:
        """What has to be recorded or dropped. Keeps the books on the way."""
        if self.conclusion is not None:
            answers = AttemptSucceeded | AttemptFailed
            return [Drop(event.worker, event.attempt)] if isinstance(event, answers) else []
        if isinstance(event, StopRequested):
            if self.stopping is None or event.at_once:
                self.stopping = event.reason
            self.seen["stopped with attempts out"] += bool(self.books.open_attempts)
            return []
        worker = self.workers[event.worker] if 0 <= event.worker < len(self.workers) else ModelWorker()
        match event:
            case AttemptSucceeded() | AttemptFailed():
                command = self.books.answer(event)
                self.seen[f"{type(command).__name__}, {'lost' if worker.lost else 'present'} worker"] += 1
                return [command]
            case AttemptsReturned(number, attempts):
                self.seen["returned"] += bool(self.books.close(number, attempts))
            case WorkerReady():
                self.seen["back with attempts"] += worker.lost and bool(self.books.of_worker(event.worker))
                worker.ready = not worker.gone
                worker.lost = False
            case WorkerGone(number):
                self.seen["gone with attempts"] += bool(self.books.of_worker(number))
                worker.gone, worker.ready = True, False
                self.books.close(number, self.books.of_worker(number))
            case WorkerLost(number) if not worker.lost and not worker.gone:
                worker.lost, worker.ready = True, False
                losses = self.books.lose(number)
                self.seen["piece lost"] += bool(losses)
                return losses
        return []

    def moves(self) -> list[Callable[[], Event]]:
        """What can happen next, the likelier things more often."""
        moves: list[Callable[[], Event]] = []
        for number, worker in enumerate(self.workers):
            if worker.dead:
                moves += [] if worker.lost or worker.gone else [partial(WorkerLost, number)]
                continue
            moves += [] if worker.ready else [partial(WorkerReady, number)] * self.readiness
            moves += [partial(self.answer, number)] * (worker.speed if worker.attempts else 0)
            moves += [partial(self.give_back, number)] * (self.promptness if worker.recalls else 0)
            if self.random.random() < self.mischief:
                moves += [partial(WorkerLost, number), partial(WorkerReady, number)] * 3
                moves += [partial(step, number) for step in (self.die, self.give_up, self.leave)]
        if self.random.random() < self.mischief:
            moves += [self.nonsense, self.nonsense, self.stop]
        return moves

    # Events

    def answer(self, number: int) -> Event:
        attempt = self.workers[number].attempts[0]
        piece = self.books.piece_of[attempt]
        if piece.mini_batch in self.deadly:
            self.workers[number].dead = True
            return WorkerLost(number)
        del self.workers[number].attempts[0]
        count = piece.count
        if self.random.random() < self.p_fail:
            return AttemptFailed(number, attempt, self.seconds)
        succeeded = self.random.randint(0, count) if self.random.random() < 0.1 else count
        return AttemptSucceeded(number, attempt, succeeded, succeeded + 1, self.seconds)

    def give_back(self, number: int) -> Event:
        worker = self.workers[number]
        asked = worker.recalls.pop(0)
        # The first has been started, and perhaps some more.
        started = worker.attempts[: self.random.choice((1, 1, 1, 3))]
        mine = [attempt for attempt in worker.attempts if attempt in asked and attempt not in started]
        worker.attempts = [attempt for attempt in worker.attempts if attempt not in mine]
        return AttemptsReturned(number, mine)

    def die(self, number: int) -> Event:
        self.workers[number].dead = True
        return WorkerLost(number) if self.random.random() < 0.5 else WorkerGone(number)

    def give_up(self, number: int) -> Event:
        """As a coordinator may tell it: what was granted is returned, then the worker is gone."""
        worker = self.workers[number]
        returned, worker.attempts = worker.attempts[1:], worker.attempts[:1]
        self.tell(AttemptsReturned(number, returned))
        return self.leave(number)

    def leave(self, number: int) -> Event:
        self.workers[number].dead = True
        return WorkerGone(number)

    def nonsense(self) -> Event:
        """Of workers and attempts that nobody knows, or said once before."""
        number = self.random.choice((-1, 99))
        known = self.random.randrange(len(self.workers))
        again = [
            event
            for event in self.old_events
            if isinstance(event, AttemptSucceeded | AttemptFailed | AttemptsReturned)
        ]
        return self.random.choice(
            [
                AttemptSucceeded(known, 10**6, 1, 1, -1.0),
                AttemptFailed(known, -5, float("nan")),
                AttemptSucceeded(number, 1, 1, 1, 1.0),
                AttemptFailed(number, 1, 1.0),
                AttemptsReturned(number, [1]),
                AttemptsReturned(known, [10**6, 0]),
                WorkerReady(number),
                WorkerLost(number),
                WorkerGone(number),
                *again,
            ]
        )

    def stop(self) -> Event:
        return StopRequested(f"stop {len(self.old_events)}", self.random.random() < 0.3)

    # Commands

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            assert self.conclusion is None or isinstance(command, Drop), f"{command} after the end"
            match command:
                case Grant(number, granted):
                    worker = self.workers[number]
                    assert worker.ready and not worker.lost and not worker.gone, f"{command}: to whom?"
                    assert self.stopping is None, "granted while it stops"
                    assert granted, "an empty grant"
                    for one in granted:
                        self.check_alone(one.piece)
                        self.books.grant(number, one)
                        worker.attempts.append(one.attempt)
                case Recall(number, attempts):
                    assert attempts and set(attempts) <= set(self.books.of_worker(number))
                    assert not self.books.asked & set(attempts), "asked for twice"
                    assert not self.workers[number].lost, "a lost worker is asked"
                    self.books.asked |= set(attempts)
                    self.workers[number].recalls.append(attempts)
                case Conclude():
                    self.conclusion = command

    def check_alone(self, piece: Piece) -> None:
        """No work is done twice unless one of those who do it is taken for lost."""
        for attempt in self.books.open_attempts:
            if self.books.piece_of[attempt] == piece:
                assert self.workers[self.books.worker_of[attempt]].lost, f"{piece} is granted twice"

    # Judgement

    def too_many(self) -> bool:
        items, batches = self.thresholds.failed_items, self.thresholds.failed_mini_batches
        return (items is not None and 0 <= items < self.books.failed) or (
            batches is not None and batches < self.books.failed_mini_batches
        )

    def too_many_percent(self) -> bool:
        percent = self.thresholds.failed_percent
        return percent is not None and self.books.failed_mini_batches * 100 > percent * len(self.counts)

    def compare(self) -> None:
        """The dispatcher's figures against the books, and: it has ended as soon as it has to."""
        self.dispatcher.check()
        tally, books = self.tally, self.books
        assert (tally.items_succeeded, tally.items_failed) == (books.succeeded, books.failed)
        assert tally.mini_batches_failed == books.failed_mini_batches
        assert (tally.rows, tally.attempts) == (books.rows, books.attempts)
        assert self.dispatcher.concluded == (self.conclusion is not None)
        if self.conclusion is not None:
            return
        assert not self.too_many(), "it should have ended: too many errors"
        hopeful = [worker for worker in self.workers if not worker.lost and not worker.gone]
        assert hopeful, "it should have ended: no workers"
        if self.stopping is not None:
            return
        waiting = self.dispatcher.waiting
        assert waiting or not self.too_many_percent(), "it should have ended: too many mini-batches failed"
        for worker in hopeful:
            if worker.ready and not worker.dead and waiting:
                assert len(worker.attempts) >= LEAST_IN_FLIGHT, "a worker starves"

    def judge(self, end: Conclude) -> None:
        assert bool(end.reason) == (end.verdict != "complete")
        all_ended = len(self.books.ended) == len(self.counts)
        if self.too_many():
            assert end.verdict == "too_many_errors"
        elif end.verdict == "too_many_errors":
            assert self.too_many_percent(), "too many errors? not so"
            assert self.dispatcher.waiting == 0, "not all has been handed out"
        elif all_ended:
            assert not self.too_many_percent()
            nothing = self.thresholds.needs_success and self.counts and not self.books.succeeded
            assert end.verdict == ("failed" if nothing else "complete")
            assert self.books.succeeded + self.books.failed == sum(self.counts), "an item is not counted"
        elif end.verdict == "stopped":
            assert end.reason == self.stopping
        else:
            assert end.verdict == "no_workers"
            assert all(worker.lost or worker.gone for worker in self.workers)


@pytest.mark.parametrize("part", range(10))
def test_random_worlds(part: int) -> None:
    for seed in range(part, WORLDS, 10):
        try:
            World(seed).run()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


def test_the_worlds_are_of_all_kinds() -> None:
    """The fuzz is worth nothing if its worlds never come to what is to be tested."""
    seen: Counter[str] = Counter()
    for seed in range(WORLDS // 3):
        world = World(seed)
        world.run()
        assert world.conclusion is not None
        seen += world.seen
        seen[world.conclusion.verdict] += 1
        seen["by percent"] += world.conclusion.verdict == "too_many_errors" and not world.too_many()
    wanted = {
        *("complete", "too_many_errors", "no_workers", "stopped", "failed", "by percent"),
        *("RecordSuccess, lost worker", "RecordFailure, lost worker", "Drop, lost worker"),
        *("Drop, present worker", "returned", "back with attempts", "gone with attempts", "piece lost"),
        "stopped with attempts out",
    }
    assert {name: seen[name] for name in wanted if seen[name] < 5} == {}
