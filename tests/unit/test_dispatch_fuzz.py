"""Random worlds against the `Dispatcher`: workers that succeed, fail, get lost, come back, give up; bad items, bad
nodes, too little memory, rests, copies, and what earlier sessions left.

The oracle is `dispatch_books`; what must hold at every moment is `Dispatcher.check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from dispatch_books import Books

from mpibatch.core.accounting import Elsewhere, Tally, Thresholds
from mpibatch.core.dispatch import (
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
    Later,
    Quarantine,
    Recall,
    RecordFailure,
    RecordLoss,
    RecordSplit,
    RecordSuccess,
    Remark,
    Retire,
    StopRequested,
    WorkerGone,
    WorkerLost,
    WorkerReady,
)
from mpibatch.core.grants import LEAST_IN_FLIGHT
from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.work import Piece

WORLDS = 3000
MOST_EVENTS = 20_000
RECORDS = RecordSuccess | RecordFailure | RecordLoss | RecordSplit | Drop


class ModelWorker:
    """What a worker really is, and what the dispatcher was told of it."""

    def __init__(self, speed: int = 1) -> None:
        self.speed = speed
        self.attempts: list[int] = []
        """Granted and not answered, in order: it is at the first."""
        self.recalls: list[list[int]] = []
        """Asked for, not answered."""
        self.broken = False
        """Hardly anything succeeds there."""
        self.dead = False
        """It does nothing any more; sooner or later the dispatcher is told that it is lost or gone."""


class World:
    """One run, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.theme = ("anything", "anything", "bad items", "bad workers")[seed % 4]
        self.counts = [random.choice((1, 2, 5, 9)) for _ in range(random.choice((0, 1, 3, 12, 30, 60)))]
        self.tally = Tally(items_total=sum(self.counts), mini_batches_total=len(self.counts))
        self.left = [[Piece(number, 0, count)] for number, count in enumerate(self.counts)]
        if seed % 3 == 0:
            self.left = [self.left_by_earlier_sessions(number) for number in range(len(self.counts))]
        self.draw_mischief()
        self.thresholds = Thresholds(
            failed_items=random.choice((None, None, None, -1, 0, 5, 40)),
            failed_mini_batches=random.choice((None, None, None, 0, 4)),
            failed_percent=random.choice((None, None, None, 0.0, 10.0, 50.0)),
            needs_success=random.random() < 0.7,
        )
        if self.theme != "anything":
            self.thresholds = Thresholds()
        self.isolate = random.random() < 0.6
        self.copies = random.random() < 0.4
        self.backoff = random.choice((None, None, RetryBackoff()))
        nodes = self.draw_workers()
        # Not drawn, so that the other worlds stay what they are.
        self.concurrency = (1, 1, 1, 4)[seed // 4 % 4]
        self.books = Books(
            self.counts,
            self.left,
            random.randint(1, 3),
            nodes,
            isolate=self.isolate,
            concurrency=self.concurrency,
        )
        self.books.succeeded, self.books.rows = self.tally.items_succeeded, self.tally.rows
        self.books.failed = self.tally.items_failed
        whole = [mine == [Piece(number, 0, self.counts[number])] for number, mine in enumerate(self.left)]
        self.dispatcher = Dispatcher(
            workers=len(self.workers),
            todo=[(number, number + is_whole) for number, is_whole in enumerate(whole)],
            pieces=[piece for number, mine in enumerate(self.left) for piece in mine if not whole[number]],
            item_count=self.counts.__getitem__,
            run_max_try=self.books.max_try,
            thresholds=self.thresholds,
            tally=self.tally,
            nodes=nodes,
            isolate=self.isolate,
            backoff=self.backoff,
            straggler_copies=self.copies,
            concurrency=self.concurrency,
        )
        self.rests: set[int] = set()
        self.was_live = False
        self.old_events: list[Event] = []
        self.stopping: str | None = None
        self.elsewhere = Elsewhere()
        """What other shares of an array have said; mostly there are none."""
        self.is_share = random.random() < 0.5
        self.conclusion: Conclude | None = None
        self.ended_by: Event | None = None
        self.seen: Counter[str] = Counter()

    def left_by_earlier_sessions(self, number: int) -> list[Piece]:
        """Nothing, all, or some pieces; what is not left has succeeded, perhaps not with all of its items."""
        count = self.counts[number]
        if self.random.random() < 0.6:
            return [Piece(number, 0, count)]
        left = []
        done = 0
        first = 0
        while first < count:
            size = self.random.randint(1, count - first) if self.random.random() < 0.5 else count - first
            if self.random.random() < 0.4:
                left.append(Piece(number, first, size))
            else:
                short = self.random.random() < 0.05
                self.tally.success(size, size - short, size, whole=False)
                done += size
            first += size
        self.tally.mini_batches_succeeded += done == count
        return left

    def draw_mischief(self) -> None:
        random = self.random
        self.mischief = random.choice((0.0, 0.0, 0.01, 0.05, 0.3))
        self.p_fail = random.choice((0.0, 0.0, 0.02, 0.2, 1.0))
        self.p_memory = random.choice((0.0, 0.0, 0.0, 0.05))
        p_deadly = random.choice((0.0, 0.0, 0.0, 0.02))
        p_poison = random.choice((0.0, 0.0, 0.02, 0.2, 1.0))
        items = [(number, item) for number, count in enumerate(self.counts) for item in range(count)]
        self.poison = {item for item in items if random.random() < p_poison}
        self.deadly = {item for item in items if random.random() < p_deadly}
        """Items that kill whoever is at them."""
        self.seconds = random.choice((1e-5, 0.004, 0.01, 1.0))
        self.kinds = random.choice((1, 3))
        if self.theme == "bad items":
            self.mischief = self.p_fail = self.p_memory = 0.0
        if self.theme == "bad workers":
            self.mischief, self.p_fail, self.p_memory = random.choice((0.0, 0.02, 0.05)), 0.0, 0.0
            self.poison = set() if random.random() < 0.7 else self.poison

    def draw_workers(self) -> list[int]:
        random = self.random
        self.readiness = random.choice((1, 6))
        self.promptness = random.choice((1, 10))
        self.workers = [ModelWorker(random.choice((1, 20))) for _ in range(random.choice((1, 2, 3, 5, 12)))]
        per_node = random.choice((1, 2, 4, 100))
        nodes = [number // per_node for number in range(len(self.workers))]
        self.p_broken = random.choice((1.0, 0.8))
        if random.random() < {"anything": 0.3, "bad items": 0.0, "bad workers": 1.0}[self.theme]:
            broken = random.choice(nodes)
            for number, worker in enumerate(self.workers):
                worker.broken = nodes[number] == broken and (random.random() < 0.8)
                worker.speed = 20 if worker.broken else worker.speed
        self.some_broken = any(worker.broken for worker in self.workers)
        return nodes

    @property
    def fair(self) -> bool:
        """Only items fail here, and whatever a bad one is in."""
        return not (self.mischief or self.p_fail or self.p_memory or self.some_broken)

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
        for event in (*self.old_events[:20], WorkerReady(0), WorkerLost(0), WorkerGone(0), Due(1)):
            self.tell(event)
        self.judge(self.conclusion)

    def tell(self, event: Event) -> None:
        self.old_events.append(event)
        commands = self.dispatcher.handle(event)
        off = set(self.books.off)
        expected = self.expect(event, commands)
        assert [command for command in commands if isinstance(command, RECORDS)] == expected, event
        told = sum(isinstance(command, Remark) and "split" in command.text for command in commands)
        assert told == len(self.books.off - off), "bisection is off, or is it not?"
        self.seen["bisection off"] += told
        self.expect_rest(event, commands)
        self.expect_retirement(event, commands)
        self.obey(commands)
        self.compare()

    def expect(self, event: Event, commands: list[Command]) -> list[Command]:
        """What has to be recorded or dropped. Keeps the books on the way."""
        books = self.books
        if self.conclusion is not None:
            answers = AttemptSucceeded | AttemptFailed
            return [Drop(event.worker, event.attempt)] if isinstance(event, answers) else []
        match event:
            case StopRequested(reason, at_once):
                if self.stopping is None or at_once:
                    self.stopping = reason
                self.seen["stopped with attempts out"] += bool(books.open_attempts)
            case FailedElsewhere(elsewhere):
                self.elsewhere = elsewhere
            case Due(number):
                books.due(number)
            case AttemptSucceeded() | AttemptFailed():
                return self.expect_answer(event, commands)
            case AttemptsReturned(number, attempts):
                self.seen["returned"] += bool(books.give_back(number, attempts))
            case WorkerReady(number) if self.knows(number):
                self.seen["back with attempts"] += number in books.lost and bool(books.of_worker(number))
                books.enter(number)
            case WorkerGone(number) if self.knows(number):
                self.seen["gone with attempts"] += bool(books.of_worker(number))
                books.leave(number)
            case WorkerLost(number) if self.knows(number) and number not in books.lost:
                self.seen["several lost"] += len(books.running(number)) > 1
                return self.count(books.lose(number, self.too_many), "lost")
        return []

    def expect_answer(
        self, event: AttemptSucceeded | AttemptFailed, commands: list[Command]
    ) -> list[Command]:
        books = self.books
        at_it = books.state_of.get(event.attempt)
        several = at_it is not None and len(books.live(at_it)) > 1
        match event:
            case AttemptSucceeded():
                records = books.success(event)
            case AttemptFailed():
                records = books.failure(event, commands)
        where = "lost worker" if event.worker in books.lost else "present worker"
        if event.worker in books.barred:
            where = "worker in quarantine"
        self.seen["answer beside a copy"] += several and not isinstance(records[0], Drop)
        return self.count(records, where)

    def knows(self, number: int) -> bool:
        return 0 <= number < len(self.workers) and number not in self.books.gone

    def count(self, records: list[Command], where: str) -> list[Command]:
        for record in records:
            self.seen[f"{type(record).__name__}, {where}"] += 1
        return records

    def expect_rest(self, event: Event, commands: list[Command]) -> None:
        """It rests after a failure that is not final, if it does not wait already, and is no half."""
        later = [command for command in commands if isinstance(command, Later)]
        if not isinstance(event, AttemptFailed) or not isinstance(commands[0], RecordFailure):
            assert not later
            return
        state = self.books.open.get(commands[0].piece)
        may = self.backoff is not None and state is not None and not state.half and self.stopping is None
        if not may or state is None or self.backoff is None or self.books.live(state):
            assert not later
            return
        if self.was_live:
            (rest,) = later
            failures = max(1, state.tries + state.spared)
            assert rest.seconds == self.backoff.delay_s(state.piece.mini_batch, failures)
            assert rest.number not in self.rests
            state.rest = rest.number
            self.rests.add(rest.number)
            self.seen["rests"] += 1
        else:
            assert not later

    def expect_retirement(self, event: Event, commands: list[Command]) -> None:
        """Every second time on a node, and not the last one of it."""
        retired = [command.worker for command in commands if isinstance(command, Retire)]
        books = self.books
        counts = isinstance(event, AttemptFailed) and isinstance(commands[0], RecordFailure)
        ended = any(
            isinstance(command, Conclude) and command.verdict == "too_many_errors" for command in commands
        )
        if not isinstance(event, AttemptFailed) or not counts or not event.out_of_memory:
            assert not retired
            return
        if ended and not retired:
            return
        if event.worker in books.lost:
            assert not retired
            return
        node = books.nodes[event.worker]
        books.kills[node] += 1
        others = [one for one in books.usable() - {event.worker} if books.nodes[one] == node]
        assert retired == ([event.worker] if books.kills[node] % 2 == 0 and others else [])

    def moves(self) -> list[Callable[[], Event]]:
        """What can happen next, the likelier things more often."""
        moves: list[Callable[[], Event]] = []
        books = self.books
        for number, worker in enumerate(self.workers):
            if worker.dead:
                moves += [] if number in books.lost | books.gone else [partial(WorkerLost, number)]
                continue
            moves += [] if number in books.ready else [partial(WorkerReady, number)] * self.readiness
            moves += [partial(self.answer, number)] * (worker.speed if worker.attempts else 0)
            moves += [partial(self.give_back, number)] * (self.promptness if worker.recalls else 0)
            if self.random.random() < self.mischief:
                moves += [partial(WorkerLost, number), partial(WorkerReady, number)] * 3
                moves += [partial(step, number) for step in (self.die, self.give_up, self.leave)]
        if self.rests:
            moves += [self.due] * 3
        if self.is_share and self.random.random() < 0.2:
            moves += [self.fail_elsewhere] * 3
        if books.barred and self.mischief and self.random.random() < 0.2:
            moves += [partial(self.die, number) for number in sorted(books.usable())]
        if self.random.random() < self.mischief:
            moves += [self.nonsense, self.nonsense, self.stop]
        return moves

    # Events

    def answer(self, number: int) -> Event:
        worker = self.workers[number]
        attempt = self.one_that_runs(number)
        state = self.books.state_of[attempt]
        piece = state.piece
        items = {(piece.mini_batch, item) for item in range(piece.first, piece.first + piece.count)}
        if items & self.deadly:
            worker.dead = True
            return WorkerLost(number)
        self.was_live = bool(self.books.live(state))
        worker.attempts.remove(attempt)
        if self.random.random() < self.p_memory:
            return AttemptFailed(number, attempt, self.seconds, "OutOfMemory", True)
        if items & self.poison:
            kind = f"Poison {piece.mini_batch % self.kinds}"
            deadly = self.concurrency > 1 and piece.mini_batch % 2 == 0
            return AttemptFailed(number, attempt, self.seconds, kind, deadly=deadly)
        if self.random.random() < (self.p_broken if worker.broken else self.p_fail):
            return AttemptFailed(number, attempt, self.seconds, "Bad")
        short = not self.fair and self.random.random() < 0.1
        succeeded = self.random.randint(0, piece.count) if short else piece.count
        return AttemptSucceeded(number, attempt, succeeded, succeeded + 1, self.seconds)

    def one_that_runs(self, number: int) -> int:
        running = [one for one in self.books.running(number) if one in self.workers[number].attempts]
        self.seen["alone"] += self.books.state_of[running[0]].alone if running else 0
        return self.random.choice(running) if len(running) > 1 else self.workers[number].attempts[0]

    def give_back(self, number: int) -> Event:
        worker = self.workers[number]
        asked = worker.recalls.pop(0)
        # The first has been started, and perhaps some more.
        started = worker.attempts[: self.random.choice((1, 1, 1, 3)) - 1 + self.concurrency]
        mine = [attempt for attempt in worker.attempts if attempt in asked and attempt not in started]
        worker.attempts = [attempt for attempt in worker.attempts if attempt not in mine]
        return AttemptsReturned(number, mine)

    def due(self) -> Event:
        number = self.random.choice(sorted(self.rests))
        self.rests.discard(number)
        return Due(number)

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
            if isinstance(event, AttemptSucceeded | AttemptFailed | AttemptsReturned | Due)
            and not (isinstance(event, Due) and event.number in self.rests)
        ]
        return self.random.choice(
            [
                AttemptSucceeded(known, 10**6, 1, 1, -1.0),
                AttemptFailed(known, -5, float("nan")),
                AttemptFailed(known, -5, 1.0, "OutOfMemory", True),
                AttemptSucceeded(number, 1, 1, 1, 1.0),
                AttemptFailed(number, 1, 1.0),
                AttemptsReturned(number, [1]),
                AttemptsReturned(known, [10**6, 0]),
                WorkerReady(number),
                WorkerLost(number),
                WorkerGone(number),
                Due(10**6),
                Due(0),
                *again,
            ]
        )

    def fail_elsewhere(self) -> Event:
        """More or, as one was started again, less than before."""
        most = self.random.choice((1, 3, 60))
        return FailedElsewhere(
            Elsewhere(items=self.random.randrange(most), mini_batches=self.random.randrange(most))
        )

    def stop(self) -> Event:
        return StopRequested(f"stop {len(self.old_events)}", self.random.random() < 0.3)

    # Commands

    def obey(self, commands: list[Command]) -> None:
        books = self.books
        for command in commands:
            assert self.conclusion is None or isinstance(command, Drop), f"{command} after the end"
            match command:
                case Grant(number, granted):
                    assert number in books.at_hand(), f"{command}: to whom?"
                    assert self.stopping is None, "granted while it stops"
                    assert granted, "an empty grant"
                    for one in granted:
                        self.check_alone(one.piece)
                        books.grant(number, one)
                        self.workers[number].attempts.append(one.attempt)
                case Recall(number, attempts):
                    assert attempts and set(attempts) <= set(books.of_worker(number))
                    assert not books.asked & set(attempts), "asked for twice"
                    assert number not in books.lost, "a lost worker is asked"
                    books.asked |= set(attempts)
                    self.workers[number].recalls.append(attempts)
                case Retire(number):
                    self.seen["retired"] += 1
                    books.leave(number)
                    self.workers[number].dead = True
                case Quarantine():
                    self.seen["whole node" if command.whole_node else "quarantine"] += 1
                    books.quarantine(command)
                    for number in command.workers:  # A disk may be emptied.
                        self.workers[number].broken &= self.random.random() < 0.5
                        self.workers[number].speed = 1
                    assert self.p_fail or self.p_memory or self.some_broken, "bad input only"
                case Remark(text) if "again" in text:
                    self.seen["used again"] += 1
                    books.take_back()
                case Conclude():
                    self.conclusion = command
                    self.ended_by = self.old_events[-1] if self.old_events else None

    def check_alone(self, piece: Piece) -> None:
        """No work is done twice unless one of those who do it is taken for lost, or copies are wanted."""
        state = self.books.open.get(piece)
        if state is not None and self.books.live(state):
            assert self.copies, f"{piece} is granted twice"
            asked = any(
                one.recalls for number, one in enumerate(self.workers) if number in self.books.at_hand()
            )
            assert self.mischief or not asked, "a copy, though something may be given back"
            self.seen["copy"] += 1

    # Judgement

    def too_many(self) -> bool:
        items, batches = self.thresholds.failed_items, self.thresholds.failed_mini_batches
        there = self.elsewhere
        return (items is not None and 0 <= items < self.books.failed + there.items) or (
            batches is not None and batches < len(self.books.failed_mini_batches) + there.mini_batches
        )

    def too_many_percent(self) -> bool:
        percent = self.thresholds.failed_percent
        failed = len(self.books.failed_mini_batches)
        return percent is not None and failed * 100 > percent * len(self.counts)

    def compare(self) -> None:
        """The dispatcher's figures against the books, and: it has ended as soon as it has to."""
        self.dispatcher.check()
        tally, books = self.tally, self.books
        assert (tally.items_succeeded, tally.items_failed) == (books.succeeded, books.failed)
        assert tally.mini_batches_failed == len(books.failed_mini_batches)
        assert tally.mini_batches_succeeded == books.mini_batches_succeeded()
        assert (tally.rows, tally.attempts) == (books.rows, books.attempts)
        assert self.dispatcher.concluded == (self.conclusion is not None)
        if self.conclusion is not None:
            return
        assert not self.too_many(), "it should have ended: too many errors"
        assert books.usable(), "it should have ended: no workers"
        waiting = books.waiting()
        assert self.dispatcher.waiting == waiting
        if self.stopping is not None:
            return
        assert waiting or not self.too_many_percent(), "it should have ended: too many mini-batches failed"
        for number in books.at_hand() if waiting else ():
            least = LEAST_IN_FLIGHT + (self.concurrency if self.concurrency > 1 else 0)
            starves = len(self.workers[number].attempts) < least and not self.workers[number].dead
            assert not starves or books.held(number), f"worker {number} starves"
            self.seen["held"] += starves

    def judge(self, end: Conclude) -> None:
        books = self.books
        assert bool(end.reason) == (end.verdict != "complete")
        if self.too_many():
            assert end.verdict == "too_many_errors"
        elif end.verdict == "too_many_errors":
            assert self.too_many_percent(), "too many errors? not so"
            assert self.dispatcher.waiting == 0, "not all has been handed out"
        elif not books.open:
            assert not self.too_many_percent()
            nothing = self.thresholds.needs_success and self.counts and not books.succeeded
            assert end.verdict == ("failed" if nothing else "complete")
            assert books.succeeded + books.failed == sum(self.counts), "an item is not counted"
            assert all(all(ends) for ends in books.ends), "an item has not ended"
            self.judge_isolation()
        elif end.verdict == "stopped":
            assert end.reason == self.stopping
        else:
            assert end.verdict == "no_workers"
            assert not books.usable()

    def judge_isolation(self) -> None:
        """The bad items fail; their neighbours do not, as long as nobody else does them harm."""
        left = {
            (p.mini_batch, p.first + place) for mine in self.left for p in mine for place in range(p.count)
        }
        assert self.books.failed_items >= self.poison & left, "a bad item has succeeded"
        if self.fair and self.isolate and not self.books.off:
            assert self.books.failed_items <= self.poison | self.deadly, (
                "a neighbour of a bad item has failed"
            )
            self.seen["isolated"] += bool(self.books.failed_items)


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
    for seed in range(WORLDS // 4):
        world = World(seed)
        world.run()
        assert world.conclusion is not None
        seen += world.seen
        seen[world.conclusion.verdict] += 1
        seen["by percent"] += world.conclusion.verdict == "too_many_errors" and not world.too_many()
        seen["too many elsewhere"] += isinstance(world.ended_by, FailedElsewhere) and world.too_many()
    wanted = {
        *("complete", "too_many_errors", "no_workers", "stopped", "failed", "by percent"),
        *("RecordSuccess, lost worker", "RecordFailure, lost worker", "Drop, lost worker"),
        *("RecordSuccess, worker in quarantine", "RecordFailure, worker in quarantine"),
        *("Drop, present worker", "returned", "back with attempts", "gone with attempts"),
        *(
            "RecordSplit, present worker",
            "RecordSplit, lost",
            "RecordLoss, lost",
            "isolated",
            "bisection off",
        ),
        *(
            "copy",
            "answer beside a copy",
            "rests",
            "retired",
            "quarantine",
            "whole node",
            "used again",
            "held",
        ),
        *("stopped with attempts out", "too many elsewhere", "several lost", "alone"),
    }
    assert {name: seen[name] for name in wanted if seen[name] < 3} == {}
