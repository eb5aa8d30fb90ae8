"""Which worker gets what, what is tried again, when it ends: `handle(event) -> [command]`. Pure.

Rules that `check` holds after every event:

1. Each piece that has not ended waits, rests, or is live: granted to a worker that is not lost, and not answered.
2. A piece ends once: by the first success that arrives while it is open, by its last allowed failure,
   or by being split. While a copy of it is live it neither fails nor waits.
3. An attempt's number is never used again; an answer to an attempt that is not open changes nothing.
4. Only failures of user code cost tries, and not those that are the worker's fault (`bad_nodes`). A lost
   worker costs the piece that it was at, not those behind; of several, each, and then those run alone.
5. No worker starves: while anything waits that it may have (`feeding`), it has `LEAST_IN_FLIGHT` attempts, and
   two more than it runs where those are several.
6. It ends as soon as it can, and after `Conclude` nothing but `Drop` is commanded.

This keeps the order of things. What becomes of a piece is decided in `fates` and `bisection`, who is not to
be trusted in `bad_nodes` and `staffing`, who gets what in `feeding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from mpibatch.core.accounting import (
    NOWHERE_ELSE,
    Elsewhere,
    Tally,
    Thresholds,
    Verdict,
    exceeded,
    final_verdict,
    percent_exceeded,
)
from mpibatch.core.backlog import Backlog, Work
from mpibatch.core.bad_nodes import BadNodes
from mpibatch.core.crew import Crew
from mpibatch.core.events import (
    AttemptFailed,
    AttemptsReturned,
    AttemptSucceeded,
    Command,
    Conclude,
    Drop,
    Due,
    Event,
    FailedElsewhere,
    Grant,
    Granted,
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
from mpibatch.core.fates import MAX_LOSSES, Fates
from mpibatch.core.feeding import Feeding
from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.core.staffing import Staffing
from mpibatch.work import Piece

__all__ = [
    "MAX_LOSSES", "AttemptFailed", "AttemptSucceeded", "AttemptsReturned", "Command", "Conclude",
    "Dispatcher", "Drop", "Due", "Event", "FailedElsewhere", "Grant", "Granted", "Later", "Quarantine", "Recall",
    "RecordFailure", "RecordLoss", "RecordSplit", "RecordSuccess", "Remark", "Retire", "StopRequested",
    "WorkerGone", "WorkerLost", "WorkerReady",
]  # fmt: skip


class Dispatcher:
    """The state of a session's work.

    `workers`: how many may come to be ready, and `nodes`: the number of each one's node (None: all on one);
    `todo`: ranges (start, stop) of mini-batches not finished by earlier sessions, in order; `pieces`: besides
    those, what is left of mini-batches that earlier sessions have split; `item_count`: items of a mini-batch;
    `tally`: what earlier sessions finished; `isolate`: what has failed is split until its bad items are
    found; `backoff`: what has failed rests before its next try; `straggler_copies`: idle workers get copies;
    `elsewhere`: what has failed in other shares of the array; `concurrency`: attempts that a worker runs at a time.
    Call `begin` once, then `handle` for each event, and carry out what is returned, in order.
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
        nodes: Sequence[int] | None = None,
        pieces: Iterable[Piece] = (),
        isolate: bool = False,
        backoff: RetryBackoff | None = None,
        straggler_copies: bool = False,
        elsewhere: Elsewhere = NOWHERE_ELSE,
        concurrency: int = 1,
    ) -> None:
        self.tally = tally
        self._elsewhere = elsewhere
        self.concluded = False
        self._thresholds = thresholds
        self._by_percent = thresholds.failed_percent is not None
        self._backlog = Backlog(todo, item_count)
        self._crew = Crew(workers, nodes, concurrency)
        self._bad_nodes = BadNodes(self._crew)
        self._fates = Fates(
            tally, self._backlog, self._bad_nodes, run_max_try=run_max_try, isolate=isolate, backoff=backoff
        )
        self._fates.adopt(pieces, item_count)
        self._staffing = Staffing(self._crew, self._bad_nodes, self._fates)
        self._feeding = Feeding(self._crew, self._backlog, self._bad_nodes, copies=straggler_copies)
        self._stopping: str | None = None

    # What is asked of it

    @property
    def waiting(self) -> int:
        """Pieces that nobody has been given yet, or that are to be tried again now."""
        return self._backlog.waiting

    @property
    def in_flight(self) -> int:
        """Attempts that are granted and not answered, those of lost workers left out."""
        return self._crew.in_flight

    @property
    def busy(self) -> bool:
        """Whether there are any such."""
        return self._crew.busy

    @property
    def half_failed(self) -> int:
        """Mini-batches that count as failed, as a piece of them has, and of which other pieces are still tried."""
        return self._fates.half_failed

    def begin(self) -> list[Command]:
        """What is to be done before any event: conclude at once when nothing can be done or saved."""
        commands: list[Command] = []
        return commands if self._fates.open and self._too_many(commands) else self._conclude_if_over()

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
            case FailedElsewhere(elsewhere):
                return self._failed_elsewhere(elsewhere)
            case Due(number):
                self._backlog.due(number)
                return self._go_on(None)
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
        number = event.worker
        work = self._answered(number, event.attempt)
        if work is None:
            return [Drop(number, event.attempt), *self._go_on(number)]
        self._fates.succeeded(work, event)
        self._feeding.times.add(event.seconds)
        self._bad_nodes.succeeded(number)
        commands: list[Command] = [RecordSuccess(event.attempt, work.piece)]
        if event.succeeded < work.piece.count and self._too_many(commands):
            return commands
        if work.failed_on:
            for other in self._bad_nodes.absolved(number, work):
                commands += self._staffing.judge(other)
        return commands + self._go_on(number)

    def _failed(self, event: AttemptFailed) -> list[Command]:
        number = event.worker
        work = self._answered(number, event.attempt)
        if work is None:
            return [Drop(number, event.attempt), *self._go_on(number)]
        commands = self._fates.failed(work, event, rests=self._stopping is None)
        if work.ended and self._too_many(commands):
            return commands
        commands += self._staffing.out_of_memory(number) if event.out_of_memory else []
        return commands + self._staffing.judge(number) + self._go_on(number)

    def _returned(self, number: int, attempts: list[int]) -> list[Command]:
        self._crew.recall_answered(number)
        for attempt in attempts:
            work = self._answered(number, attempt)
            if work is not None:
                self._fates.put_back(work)
        commands = self._go_on(number)
        if not self.concluded and self._stopping is None:
            commands += self._feeding.recall_for_idle()  # To whom this answer brought nothing.
        return commands

    # Workers

    def _ready(self, number: int) -> list[Command]:
        worker = self._crew.workers.get(number)
        if worker is None:
            return []
        if worker.lost:
            for work in worker.attempts.values():
                self._backlog.withdraw(work)
        self._crew.enter(number, worker)
        if self._stopping is not None:
            return [*self._crew.recall_all([number])]
        return self._go_on(number)

    def _lost(self, number: int) -> list[Command]:
        worker = self._crew.workers.get(number)
        if worker is None or worker.lost:
            return []
        worker.lost = True
        self._crew.take_away(number, worker)
        commands: list[Command] = []
        several = self._crew.concurrency > 1
        for suspect in worker.suspects(self._crew.concurrency):
            if suspect.ended:  # With another one of its mini-batch.
                continue
            commands += self._fates.lost(suspect, alone=several)
            if suspect.ended and self._too_many(commands):
                return commands
        return commands + self._staffing.without(worker) + self._go_on(None)

    def _gone(self, number: int) -> list[Command]:
        worker = self._crew.workers.get(number)
        return [] if worker is None else self._staffing.gone(number, worker) + self._go_on(None)

    # What follows

    def _go_on(self, number: int | None) -> list[Command]:
        """What follows every event: the end, or work for whom there is some. `number` has just spoken."""
        if self.concluded:
            return []
        if self._fates.open == 0 or self._crew.alive == 0 or self._stopping is not None:
            return self._conclude_if_over()
        commands = self._feeding.go_on(number)
        judged = self._by_percent and not self._backlog.waiting
        if judged and (over := percent_exceeded(self.tally, self._thresholds)):
            commands.append(self._conclude("too_many_errors", over))
        return commands

    def _failed_elsewhere(self, elsewhere: Elsewhere) -> list[Command]:
        self._elsewhere = elsewhere
        commands: list[Command] = []
        return commands if self._too_many(commands) else self._go_on(None)

    def _stop(self, reason: str, at_once: bool) -> list[Command]:
        if at_once:
            return [self._conclude("stopped", reason)]
        if self._stopping is not None:
            return []
        self._stopping = reason
        return [*self._crew.recall_all(self._crew.workers), *self._conclude_if_over()]

    def _too_many(self, commands: list[Command]) -> bool:
        """Whether more has failed than may: then the run has ended."""
        over = exceeded(self.tally, self._thresholds, self._elsewhere)
        if over:
            commands.append(self._conclude("too_many_errors", over))
        return over is not None

    def _conclude_if_over(self) -> list[Command]:
        if self._fates.open == 0:
            return [self._conclude(*final_verdict(self.tally, self._thresholds, self._elsewhere))]
        if self._stopping is not None and not self._crew.has_live:
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
        kept = self._backlog.check()
        works = list({id(work): work for work in (*kept, *self._crew.check())}.values())
        is_open = [work for work in works if not work.ended]
        assert not any(work.ended for work in kept), "what has ended is kept"
        self._fates.check(is_open)
        if self.concluded:
            return
        for work in is_open:
            assert bool(work.live) + work.queued + bool(work.rest) == 1, (
                f"{work.piece}: live, waiting or resting?"
            )
            assert work.live or work.tries < self._fates.limit(work), f"{work.piece} has used up its tries"
            assert work.tries >= 0, f"{work.piece} has tries refunded that it did not have"
        assert self._fates.open and self._crew.usable, "it should have ended"
        if self._stopping is None:
            self._feeding.check()
        else:
            assert self._crew.has_live, "it should have stopped"
            self._crew.check_recalled()
