"""The coordinator: receives, translates, has the dispatcher decide, and carries out.

Everything that it knows of workers it knows from their messages; nonsense in one is an error that names
the worker, never an assertion.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal, assert_never

from mpibatch.core import dispatch
from mpibatch.core.accounting import Verdict
from mpibatch.core.dispatch import (
    Command,
    Conclude,
    Dispatcher,
    Drop,
    Event,
    RecordFailure,
    RecordLoss,
    RecordSuccess,
)
from mpibatch.core.framing import FrameError, decoder, encode
from mpibatch.core.liveness import Liveness
from mpibatch.core.ranks import WorkerPlace
from mpibatch.messages import (
    Announced,
    GaveUp,
    Goodbye,
    Grant,
    Heartbeat,
    Outcomes,
    Ping,
    Pull,
    Ready,
    Recall,
    Release,
    Returned,
    StopAsked,
    ToCoordinator,
    ToWorker,
    WorkerSetup,
)
from mpibatch.runtime.causes import Causes
from mpibatch.runtime.forms import Forms
from mpibatch.runtime.planner import Plan
from mpibatch.runtime.transport import Port
from mpibatch.runtime.writer import MOST_BACKLOG_BYTES, Writer
from mpibatch.work import Assignment, ErrorReport, Failed, Outcome, Piece, Succeeded

log = logging.getLogger(__name__)

SILENCE_S = 60.0
PING_S = 10.0
MOST_PULLED_BYTES = 256 << 20
"""Announced fragments on their way to rank 0 at one time."""
OUTPUT_FIRST_S = 0.25
"""Seconds that the output of a complete run gets before processors are told to end."""
GOODBYE_S = 10.0
"""Seconds that workers get, beyond `shutdown()`, to end after their release."""

_decode = decoder(ToCoordinator)

Phase = Literal["running", "ending", "over"]


class Coordinator:
    """Step it until it is `over`; then `verdict` and `reason` say how the session ended."""

    def __init__(
        self,
        *,
        port: Port,
        plan: Plan,
        dispatcher: Dispatcher,
        writer: Writer,
        causes: Causes,
        forms: Forms | None,
        workers: Mapping[int, WorkerPlace],
        shutdown_timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._port = port
        self._plan = plan
        self._dispatcher = dispatcher
        self._writer = writer
        self._causes = causes
        self._forms = forms
        self._workers = workers
        self._number_of = {place.rank: number for number, place in workers.items()}
        self._shutdown_timeout_s = shutdown_timeout_s
        self._clock = clock
        self._liveness = Liveness(SILENCE_S)
        self._ready: set[int] = set()
        self._lost: set[int] = set()
        self._present = set(workers)
        self._announced: deque[tuple[int, Announced]] = deque()
        self._pulled: dict[tuple[int, int], int] = {}
        self._phase: Phase = "running"
        self._deadline = 0.0
        self._at_once = False
        self._release_at = math.inf
        self._stepped = self._pinged = clock()
        self.verdict: Verdict = "stopped"
        self.reason = ""
        self.unusable: ErrorReport | None = None
        """No processor can do better: the script or its interpreter is wrong."""
        self.gave_up: tuple[int, ErrorReport] | None = None
        """The first worker that gave up, and why."""
        self.first_grant_at: float | None = None

    @property
    def over(self) -> bool:
        """All workers have ended or are given up."""
        return self._phase == "over"

    @property
    def concluded(self) -> bool:
        return self._phase != "running"

    @property
    def orderly(self) -> bool:
        """Whether every worker has ended by itself, so that MPI can be ended too."""
        return not self._lost and not self._present

    @property
    def ready_workers(self) -> int:
        return len(self._ready - self._lost)

    def begin(self, setups: Mapping[int, WorkerSetup]) -> None:
        """Tell each worker what to supervise."""
        now = self._clock()
        for number, setup in setups.items():
            self._send(number, setup)
            self._liveness.heard(number, now)
        self._carry_out(self._dispatcher.begin(), None, -1)

    def stop(self, reason: str, *, at_once: bool) -> None:
        """Nothing new starts; `at_once`: what is running is killed."""
        if self._phase == "running":
            self._at_once = at_once
            self._handle(dispatch.StopRequested(reason, at_once))

    def step(self) -> bool:
        """Do what can be done now; True if anything was."""
        now = self._clock()
        stall = now - self._stepped
        self._stepped = now
        listens = self._writer.backlog_bytes < MOST_BACKLOG_BYTES
        if stall > 1.0 or not listens:  # What workers said meanwhile has not been read yet.
            self._liveness.extend(stall)
        acted = False
        if listens:
            for rank, body in self._port.receive():
                acted = True
                self._take(rank, body, now)
        self._pull()
        self._writer.pump(now)
        if now - self._pinged > PING_S:
            self._watch(now)
        if now >= self._release_at or (self._release_at < math.inf and self._writer.durable_at is not None):
            self._release()
        if self._phase == "ending" and (not self._present or now > self._deadline):
            self._phase = "over"
        return acted

    def _watch(self, now: float) -> None:
        self._pinged = now
        # Also to those that have ended: they wait for their dismissal, and to see whether we live.
        for number in self._workers:
            self._send(number, Ping())
        for number in self._liveness.silent(now):
            log.warning(
                "worker %d (%s) has been silent for %g s: lost", number, self._place(number), SILENCE_S
            )
            self._liveness.forget(number)
            self._lost.add(number)
            self._forget_fragments(number)
            self._handle(dispatch.WorkerLost(number))

    # From workers

    def _take(self, rank: int, body: bytes, now: float) -> None:
        number = self._number_of.get(rank)
        try:
            message = _decode(body)
        except FrameError as error:
            log.error("rank %d sent what is no message of ours: %s", rank, error)
            return
        if number is None or number not in self._present:
            log.warning("rank %d, which is no worker any more, sent %s", rank, type(message).__name__)
            return
        self._liveness.heard(number, now)
        if number in self._lost:
            self._lost.discard(number)
            log.warning("worker %d (%s) is back", number, self._place(number))
            if number in self._ready:
                self._handle(dispatch.WorkerReady(number))
        self._understand(number, message)

    def _understand(self, number: int, message: ToCoordinator) -> None:
        match message:
            case Outcomes(outcomes, announced):
                for outcome in outcomes:
                    self._pulled.pop((number, outcome.attempt), None)
                    self._end_attempt(number, outcome)
                self._announced.extend((number, announcement) for announcement in announced)
            case Returned(attempts):
                self._handle(dispatch.AttemptsReturned(number, attempts))
            case Ready():
                log.info(
                    "worker %d (%s) ready: init() took %.3f s", number, self._place(number), message.init_s
                )
                self._ready.add(number)
                self._handle(dispatch.WorkerReady(number))
            case GaveUp(error, unusable):
                self._gave_up(number, error, unusable)
            case Heartbeat():
                pass
            case StopAsked(reason):
                log.warning("worker %d (%s) asks to stop: got %s", number, self._place(number), reason)
                self.stop(f"{self._place(number)} got {reason}", at_once=False)
            case Goodbye():
                self._present.discard(number)
                self._ready.discard(number)
                self._liveness.forget(number)
                self._forget_fragments(number)
                self._handle(dispatch.WorkerGone(number))
            case _:
                assert_never(message)

    def _end_attempt(self, number: int, outcome: Outcome) -> None:
        if self._phase != "running":
            log.debug(
                "dropped an answer of worker %d to attempt %d: all is concluded", number, outcome.attempt
            )
            return
        if self._forms is not None:
            outcome = self._forms.judged(outcome)
        event: Event
        if isinstance(outcome, Succeeded):
            event = dispatch.AttemptSucceeded(
                number, outcome.attempt, outcome.succeeded, outcome.rows, outcome.process_s
            )
        else:
            event = dispatch.AttemptFailed(number, outcome.attempt, outcome.run_s)
        self._carry_out(self._dispatcher.handle(event), outcome, number)

    def _gave_up(self, number: int, error: ErrorReport, unusable: bool) -> None:
        log.error("worker %d (%s) gave up: %s: %s", number, self._place(number), error.type, error.message)
        self._ready.discard(number)
        self.gave_up = self.gave_up or (number, error)
        if unusable:
            self.unusable = self.unusable or error
            self._conclude("failed", f"{error.type}: {error.message}")
        # Not as if it had given back what it had: it would be granted something else in its place.
        self._handle(dispatch.WorkerGone(number))

    def _pull(self) -> None:
        """Ask for announced fragments, as many as may be on their way at one time."""
        kept = []
        while self._announced and (not self._pulled or sum(self._pulled.values()) < MOST_PULLED_BYTES):
            number, announced = self._announced.popleft()
            if number in self._lost:
                kept.append((number, announced))  # It may come back.
            elif number in self._present:
                self._pulled[number, announced.outcome.attempt] = announced.length
                self._send(number, Pull(announced.outcome.attempt))
        self._announced.extendleft(reversed(kept))

    def _forget_fragments(self, number: int) -> None:
        """What a worker announced and will not send any more must not keep others from sending."""
        self._pulled = {key: length for key, length in self._pulled.items() if key[0] != number}

    # Carrying out

    def _handle(self, event: Event) -> None:
        if self._phase == "running":
            self._carry_out(self._dispatcher.handle(event), None, -1)

    def _carry_out(self, commands: list[Command], outcome: Outcome | None, worker: int) -> None:
        """`outcome` is the one that the commands answer, and `worker` had it."""
        for command in commands:
            match command:
                case RecordSuccess(_, piece):
                    assert isinstance(outcome, Succeeded)
                    self._note_form(outcome)
                    self._writer.success(piece, worker, outcome)
                    self._causes.success(piece, outcome, worker)
                case dispatch.Grant(number, granted):
                    self._grant(number, granted)
                case RecordFailure(_, piece, tries, final):
                    assert isinstance(outcome, Failed)
                    self._writer.failure(piece, worker, outcome, tries=tries, final=final)
                    self._failed(piece, worker, outcome, tries, final)
                case RecordLoss(piece, losses):
                    error = ErrorReport("WorkerLost", f"{losses} workers were lost while they had it")
                    self._writer.loss(piece, error)
                    self._causes.failure(piece, None, error)
                case dispatch.Recall(number, attempts):
                    self._send(number, Recall(attempts))
                case Drop(number, attempt):
                    log.debug("dropped an answer of worker %d to attempt %d: too late", number, attempt)
                case Conclude(verdict, reason):
                    self._conclude(verdict, reason)
                case _:
                    assert_never(command)

    def _note_form(self, outcome: Succeeded) -> None:
        """Before the success itself, so that no session finds rows whose form it does not know."""
        own = self._forms.first(outcome) if self._forms is not None else None
        if own is not None and self._forms is not None:
            self._writer.form(own, self._forms.add(own))

    def _failed(self, piece: Piece, worker: int, outcome: Failed, tries: int, final: bool) -> None:
        if final:
            self._causes.failure(piece, worker, outcome.error)
        log.info(
            "mini-batch %d, try %d on worker %d %s: %s: %s",
            piece.mini_batch, tries, worker, "failed for good" if final else "failed",
            outcome.error.type, outcome.error.message,
        )  # fmt: skip

    def _grant(self, number: int, granted: list[dispatch.Granted]) -> None:
        if self.first_grant_at is None:
            self.first_grant_at = self._clock()
        plan = self._plan
        assignments = [
            Assignment(
                attempt, piece.mini_batch, piece.first, piece.count, retry,
                plan.position(piece), plan.input_of(piece.mini_batch), plan.source(piece),
                plan.keys(piece.mini_batch),
            )
            for attempt, piece, retry in ((one.attempt, one.piece, one.retry) for one in granted)
        ]  # fmt: skip
        self._send(number, Grant(assignments))

    def _conclude(self, verdict: Verdict, reason: str) -> None:
        if self._phase != "running":
            return
        self._phase = "ending"
        self.verdict, self.reason = verdict, reason
        self._deadline = self._clock() + self._shutdown_timeout_s + GOODBYE_S
        log.info("concluded: %s %s", verdict, reason)
        self._release_at = self._clock() + (OUTPUT_FIRST_S if verdict == "complete" else 0.0)
        self._deadline += OUTPUT_FIRST_S

    def _release(self) -> None:
        """Let all workers end, but first, for a moment, the output: their ends compete with it for the machine."""
        self._release_at = math.inf
        for number in self._present:
            self._send(number, Release(self._at_once))
        # A lost worker will hardly say goodbye.
        self._present -= self._lost

    def _send(self, number: int, message: ToWorker) -> None:
        self._port.send(self._workers[number].rank, encode(message))

    def _place(self, number: int) -> str:
        place = self._workers[number]
        return f"rank {place.rank} on {place.host}"
