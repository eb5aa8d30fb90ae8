"""Which worker gets what, what is tried again, when it ends: `handle(event) -> [command]`. Pure.

Rules that `check` holds after every event:

1. Each piece that has not ended waits, or is live: granted to a worker that is not lost, and not answered.
2. A piece ends once: by the first success that arrives while it is open, or by its last allowed failure.
3. An attempt's number is never used again; an answer to an attempt that is not open changes nothing.
4. Only failures of user code cost tries. A lost worker costs the piece that it was at, not those behind.
5. No worker starves: while anything waits, each that is ready has `LEAST_IN_FLIGHT` attempts.
6. It ends as soon as it can, and after `Conclude` nothing but `Drop` is commanded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from mpibatch.core.accounting import Tally, Thresholds, Verdict, exceeded, final_verdict, percent_exceeded
from mpibatch.core.backlog import Backlog, Work
from mpibatch.core.crew import Crew, Worker
from mpibatch.core.events import (
    AttemptFailed,
    AttemptsReturned,
    AttemptSucceeded,
    Command,
    Conclude,
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
from mpibatch.core.grants import LEAST_IN_FLIGHT, RunTimes, in_flight_target

__all__ = [
    "MAX_LOSSES", "AttemptFailed", "AttemptSucceeded", "AttemptsReturned", "Command", "Conclude",
    "Dispatcher", "Drop", "Event", "Grant", "Granted", "Recall", "RecordFailure", "RecordLoss",
    "RecordSuccess", "StopRequested", "WorkerGone", "WorkerLost", "WorkerReady",
]  # fmt: skip

MAX_LOSSES = 3
"""Lost workers that one piece may cost; with one more it is taken for what kills them."""


class Dispatcher:
    """The state of a session's work.

    `workers`: how many may come to be ready; `todo`: ranges (start, stop) of mini-batches not finished
    by earlier sessions, in order; `item_count`: items of a mini-batch; `tally`: what earlier sessions
    finished. Call `begin` once, then `handle` for each event, and carry out what is returned, in order.
    """

    def __init__(
        self,
        *,
        workers: int,
        todo: Iterable[tuple[int, int]],
        item_count: Callable[[int], int],
        run_max_try: int,
        thresholds: Thresholds,
        tally: Tally,
    ) -> None:
        self.tally = tally
        self.concluded = False
        self._thresholds = thresholds
        self._by_percent = thresholds.failed_percent is not None
        self._run_max_try = run_max_try
        self._backlog = Backlog(todo, item_count)
        self._open = self._backlog.waiting
        self._crew = Crew(workers)
        self._next_attempt = 1
        self._times = RunTimes()
        self._stopping: str | None = None

    # What is asked of it

    @property
    def waiting(self) -> int:
        """Pieces that nobody has been given yet, or that are to be tried again."""
        return self._backlog.waiting

    @property
    def in_flight(self) -> int:
        """Attempts that are granted and not answered, those of lost workers left out."""
        return self._crew.in_flight

    def begin(self) -> list[Command]:
        """What is to be done before any event: conclude at once when nothing can be done or saved."""
        over = exceeded(self.tally, self._thresholds)
        if over and self._open:
            return [self._conclude("too_many_errors", over)]
        return self._conclude_if_over()

    def handle(self, event: Event) -> list[Command]:
        """Take in one event. Never raises for what another process said."""
        if self.concluded:
            return self._too_late(event)
        match event:
            case AttemptSucceeded():
                return self._succeeded(event)
            case AttemptFailed():
                return self._failed(event)
            case WorkerReady(worker):
                return self._ready(worker)
            case AttemptsReturned(worker, attempts):
                return self._returned(worker, attempts)
            case WorkerLost(worker):
                return self._lost(worker)
            case WorkerGone(worker):
                return self._gone(worker)
            case StopRequested(reason, at_once):
                return self._stop(reason, at_once)
            case _:
                assert_never(event)

    # Answers

    def _answered(self, number: int, attempt: int) -> Work | None:
        """The open work of this attempt, which is over now; None if the answer means nothing to us."""
        worker = self._crew.workers.get(number)
        work = worker.attempts.pop(attempt, None) if worker is not None else None
        if worker is None or work is None:
            return None
        if worker.recalled:
            worker.recalled.discard(attempt)
        if not worker.lost:
            work.live -= 1
        return None if work.ended else work

    def _succeeded(self, event: AttemptSucceeded) -> list[Command]:
        work = self._answered(event.worker, event.attempt)
        if work is None:
            return [Drop(event.worker, event.attempt), *self._go_on(event.worker)]
        self._end(work)
        self._times.add(event.seconds)
        items = work.piece.count
        self.tally.attempts += 1
        self.tally.success(items, event.succeeded, event.rows)
        commands: list[Command] = [RecordSuccess(event.attempt, work.piece)]
        if event.succeeded < items and (over := exceeded(self.tally, self._thresholds)):
            return [*commands, self._conclude("too_many_errors", over)]
        return commands + self._go_on(event.worker)

    def _failed(self, event: AttemptFailed) -> list[Command]:
        work = self._answered(event.worker, event.attempt)
        if work is None:
            return [Drop(event.worker, event.attempt), *self._go_on(event.worker)]
        work.tries += 1
        self.tally.attempts += 1
        self._times.add(event.seconds)
        final = work.tries >= self._run_max_try
        commands: list[Command] = [RecordFailure(event.attempt, work.piece, work.tries, final)]
        if final:
            commands += self._end_failed(work)
        elif work.live == 0:
            self._backlog.put(work)
        return commands + self._go_on(event.worker)

    def _returned(self, number: int, attempts: list[int]) -> list[Command]:
        for attempt in attempts:
            work = self._answered(number, attempt)
            if work is not None and work.live == 0:
                self._backlog.put(work)
        commands = self._go_on(number)
        if self._crew.has_idle:
            commands += self._recall_for_idle()  # To whom this answer brought nothing.
        return commands

    def _end(self, work: Work) -> None:
        """No answer counts from now on, neither of a copy nor of a worker that was taken for lost."""
        work.ended = True
        self._open -= 1
        self._backlog.withdraw(work)

    def _end_failed(self, work: Work) -> list[Command]:
        self._end(work)
        self.tally.failure(work.piece.count)
        over = exceeded(self.tally, self._thresholds)
        return [self._conclude("too_many_errors", over)] if over else []

    # Workers

    def _ready(self, number: int) -> list[Command]:
        worker = self._crew.workers.get(number)
        if worker is None:
            return []
        worker.ready = True
        if worker.lost:
            self._crew.take_back(worker)
            for work in worker.attempts.values():
                self._backlog.withdraw(work)
        if self._stopping is not None:
            return [*self._crew.recall_all(number)]
        return self._go_on(number)

    def _lost(self, number: int) -> list[Command]:
        worker = self._crew.workers.get(number)
        if worker is None or worker.lost:
            return []
        worker.lost = True
        worker.ready = False
        self._crew.take_away(number, worker)
        commands: list[Command] = []
        suspect = worker.suspect()
        if suspect is not None:
            suspect.losses += 1
            if suspect.losses > MAX_LOSSES:
                commands = [RecordLoss(suspect.piece, suspect.losses), *self._end_failed(suspect)]
        return commands + self._go_on_without(worker)

    def _gone(self, number: int) -> list[Command]:
        worker = self._crew.workers.pop(number, None)
        if worker is None:
            return []
        if not worker.lost:
            self._crew.take_away(number, worker)
        return self._go_on_without(worker)

    def _go_on_without(self, worker: Worker) -> list[Command]:
        """Have others do what it had and nobody else is at. If it is only lost, its answers still count."""
        for work in worker.attempts.values():
            if work.live == 0 and not work.ended:
                self._backlog.put(work)
        return self._go_on(None)

    # Grants

    def _go_on(self, number: int | None) -> list[Command]:
        """What follows every event: the end, or work for whom there is some. `number` has just spoken."""
        if self.concluded:
            return []
        if self._open == 0 or self._crew.alive == 0 or self._stopping is not None:
            return self._conclude_if_over()
        commands: list[Command] = []
        if self._crew.hungry and self._backlog.waiting:
            commands = self._feed()
        worker = self._crew.workers.get(number) if number is not None else None
        if number is not None and worker is not None and worker.ready:
            in_flight = len(worker.attempts)
            # Only when half is done, so that short mini-batches do not travel singly.
            if in_flight < LEAST_IN_FLIGHT or 2 * in_flight <= self._target():
                commands += self._refill(number, worker, self._backlog.waiting)
                if not worker.attempts:
                    commands += self._recall_for_idle()
        if self._by_percent and not self._backlog.waiting:
            over = percent_exceeded(self.tally, self._thresholds)
            if over:
                commands.append(self._conclude("too_many_errors", over))
        return commands

    def _target(self) -> int:
        return in_flight_target(self._times.mean_s, self._backlog.waiting, max(1, self._crew.alive))

    def _refill(self, number: int, worker: Worker, most: int) -> list[Command]:
        """Grant what the worker has room for, at most `most`."""
        granted: list[Granted] = []
        for _ in range(min(most, self._target() - len(worker.attempts))):
            work = self._backlog.take()
            if work is None:
                break
            attempt = self._next_attempt
            self._next_attempt += 1
            work.live += 1
            worker.attempts[attempt] = work
            granted.append(Granted(attempt, work.piece, work.tries))
        if len(worker.attempts) < LEAST_IN_FLIGHT:
            self._crew.hungry.add(number)
        else:
            self._crew.hungry.discard(number)
        return [Grant(number, granted)] if granted else []

    def _feed(self) -> list[Command]:
        """Share what waits among those who found nothing before, the idle ones first.

        Else a recalled piece could go back to where it waited behind a running one, and so on for ever.
        """
        commands: list[Command] = []
        hungry = self._crew.hungriest_first()
        for place, number in enumerate(hungry):
            share = -(-self._backlog.waiting // (len(hungry) - place))
            if share == 0:
                break
            commands += self._refill(number, self._crew.workers[number], share)
        return commands

    def _recall_for_idle(self) -> list[Command]:
        """A worker is idle: if nothing waits, it gets what another one has not begun."""
        if self._backlog.waiting or self.concluded or self._stopping is not None:
            return []
        return [*self._crew.recall_half()]

    # Ends

    def _stop(self, reason: str, at_once: bool) -> list[Command]:
        if at_once:
            return [self._conclude("stopped", reason)]
        if self._stopping is not None:
            return []
        self._stopping = reason
        commands: list[Command] = []
        for number in self._crew.workers:
            commands += self._crew.recall_all(number)
        return commands + self._conclude_if_over()

    def _conclude_if_over(self) -> list[Command]:
        if self._open == 0:
            return [self._conclude(*final_verdict(self.tally, self._thresholds))]
        if self._stopping is not None and self.in_flight == 0:
            return [self._conclude("stopped", self._stopping)]
        if self._crew.alive == 0:
            return [self._conclude("no_workers", "no worker is left that could go on")]
        return []

    def _conclude(self, verdict: Verdict, reason: str) -> Conclude:
        self.concluded = True
        return Conclude(verdict, reason)

    @staticmethod
    def _too_late(event: Event) -> list[Command]:
        if isinstance(event, AttemptSucceeded | AttemptFailed):
            return [Drop(event.worker, event.attempt)]
        return []

    # For tests

    def check(self) -> None:
        """Assert the rules; for tests, as its cost grows with what is in flight."""
        queued = self._backlog.check()
        works = list({id(work): work for work in (*queued, *self._crew.check())}.values())
        is_open = [work for work in works if not work.ended]
        assert not any(work.ended for work in queued), "what has ended is queued"
        assert self._open == self._backlog.untouched + len(is_open), "a piece is lost or there twice"
        assert len({work.piece.mini_batch for work in is_open}) == len(is_open), "a mini-batch is open twice"
        ended = self.tally.mini_batches_total - self._open
        assert self.tally.mini_batches_ended == ended, "the tally does not add up"
        if self.concluded:
            return
        for work in is_open:
            assert work.live or work.queued, f"{work.piece} is neither live nor queued"
            assert work.tries < self._run_max_try, f"{work.piece} has used up its tries"
            assert work.losses <= MAX_LOSSES, f"{work.piece} has cost too many workers"
        assert self._open and self._crew.alive, "it should have ended"
        if self._stopping is None:
            self._crew.check_fed(self._backlog.waiting)
        else:
            assert self.in_flight, "it should have stopped"
            self._crew.check_recalled()
