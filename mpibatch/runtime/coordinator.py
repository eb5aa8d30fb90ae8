"""The coordinator: receives, translates, has the dispatcher decide, and carries out.

Everything that it knows of workers it knows from their messages; nonsense in one is an error that names
the worker, never an assertion.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Literal, assert_never

import msgspec

from mpibatch.core import dispatch
from mpibatch.core.accounting import Elsewhere, Verdict
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
from mpibatch.core.events import Due, Later, Quarantine, RecordSplit, Remark, Retire
from mpibatch.core.framing import FrameError, decoder, encode
from mpibatch.core.ranks import WorkerPlace
from mpibatch.messages import (
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
from mpibatch.runtime.accounts import Accounts
from mpibatch.runtime.assignments import assignments
from mpibatch.runtime.causes import Causes, kind_of
from mpibatch.runtime.farewell import Farewell
from mpibatch.runtime.forms import Forms
from mpibatch.runtime.planner import Plan
from mpibatch.runtime.pulls import Pulls
from mpibatch.runtime.transport import Port
from mpibatch.runtime.watch import Watch
from mpibatch.runtime.writer import MOST_BACKLOG_BYTES, Writer
from mpibatch.work import ErrorReport, Failed, Outcome, Succeeded

log = logging.getLogger(__name__)

MOST_PING_S = 10.0
PINGS = 6
"""Within the time after which somebody silent is lost, so that one that is late does no harm."""

_decode = decoder(ToCoordinator)

ALL_LOST = "all workers were lost"
"""Why a session has stopped that could go on elsewhere."""

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
        watch: Watch,
        heartbeat_timeout_s: float,
        progress_timeout_s: float | None,
        shutdown_timeout_s: float,
        remark: Callable[[str], None],
        clock: Callable[[], float],
        gone: Collection[int] = (),
    ) -> None:
        """`progress_timeout_s`: so long no mini-batch may end, unless a script says that it gets on; None: for
        ever. `remark` is told what people should know of workers and the work. `gone`: workers that an earlier
        session of this world has lost."""
        self._port = port
        self._plan = plan
        self._dispatcher = dispatcher
        self._writer = writer
        self._accounts = Accounts(writer, causes, forms)
        self._workers = workers
        self._number_of = {place.rank: number for number, place in workers.items()}
        self._farewell = Farewell(shutdown_timeout_s)
        self._clock = clock
        self._watch = watch
        self._ping_s = min(MOST_PING_S, heartbeat_timeout_s / PINGS)
        self._progress_timeout_s = progress_timeout_s
        self._progress_at = clock()
        self._remark = remark
        self._later: list[tuple[float, int]] = []
        self._ready: set[int] = set()
        self._lost: set[int] = set(gone)
        self._present = set(workers) - self._lost
        self._spoken: set[int] = set()
        """Who has said anything in this session."""
        self._watch.dead.update(self._lost)
        self._pulls = Pulls()
        self._phase: Phase = "running"
        self._at_once = False
        self._stepped = self._pinged = clock()
        self.verdict: Verdict = "stopped"
        self.reason = ""
        self.unusable: ErrorReport | None = None
        """No processor can do better: the script or its interpreter is wrong."""
        self.gave_up: tuple[int, ErrorReport] | None = None
        """The first worker that gave up, and why."""
        self.first_grant_at: float | None = None
        self.finalizes: bool | None = None
        """Whether the script has a `finalize()`; None as long as no processor was ready."""

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
    def lost(self) -> frozenset[int]:
        """Workers that will not come back. Who was only silent may."""
        return frozenset(self._lost & self._watch.dead)

    @property
    def ready_workers(self) -> int:
        return len(self._ready - self._lost)

    def begin(self, setups: Mapping[int, WorkerSetup]) -> None:
        """Tell each worker what to supervise."""
        now = self._clock()
        for number in self._present:
            self._send(number, setups[number])
            self._watch.heard(number, now)
        self._carry_out(self._dispatcher.begin(), None, -1)
        for number in self._lost:
            self._handle(dispatch.WorkerGone(number))

    def stop(self, reason: str, *, at_once: bool) -> None:
        """Nothing new starts; `at_once`: what is running is killed."""
        if self._phase == "running":
            self._at_once = self._at_once or at_once
            self._handle(dispatch.StopRequested(reason, at_once))

    def failed_elsewhere(self, elsewhere: Elsewhere) -> None:
        """So much has failed by now in the other shares of the array."""
        self._handle(dispatch.FailedElsewhere(elsewhere))

    def step(self) -> bool:
        """Do what can be done now; True if anything was."""
        now = self._clock()
        stall = now - self._stepped
        self._stepped = now
        listens = self._writer.backlog_bytes < MOST_BACKLOG_BYTES
        if stall > 1.0 or not listens:  # What workers said meanwhile has not been read yet.
            self._watch.extend(stall)
            self._progress_at += stall
        acted = False
        if listens:
            for rank, body in self._port.receive():
                acted = True
                self._take(rank, body, now)
        for number, attempt in self._pulls.next(present=self._present, lost=self._lost):
            self._send(number, Pull(attempt))
        self._writer.pump(now)
        self._keep_watch(now)
        while self._later and self._later[0][0] <= now:
            self._handle(Due(heapq.heappop(self._later)[1]))
        if self._farewell.due(now, durable=self._writer.durable_at is not None):
            self._release()
        if self._phase == "ending" and (not self._present or self._farewell.overdue(now)):
            self._phase = "over"
        return acted

    def _keep_watch(self, now: float) -> None:
        if now - self._pinged > self._ping_s:
            self._pinged = now
            # Also to those that have ended: they wait for their dismissal, and to see whether we live.
            for number in self._workers:
                if number not in self._watch.dead:
                    self._send(number, Ping())
        for number, why in self._watch.lost(now).items():
            if number in self._present and number not in self._lost:
                self._lose(number, why)
        limit = self._progress_timeout_s
        if limit is not None and self._phase == "running":
            if not self._dispatcher.busy:
                self._progress_at = now  # Nothing can end, so that nothing is amiss.
            elif now - self._progress_at > limit:
                self.stop(
                    f"no mini-batch has ended for {limit:g} s (progress_update_timeout): raise it, or call"
                    " context.heartbeat() in a long run()",
                    at_once=True,
                )

    def _lose(self, number: int, why: str) -> None:
        log.warning("worker %d (%s) %s: lost", number, self._place(number), why)
        self._remark(f"{self._place(number)} {why}: what it had is done elsewhere")
        self._lost.add(number)
        self._pulls.forget(number)
        self._handle(dispatch.WorkerLost(number))
        if self._farewell.released:
            self._present.discard(number)  # It was waited for, and will hardly say goodbye now.

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
        self._watch.heard(number, now)
        if number in self._lost:
            self._lost.discard(number)
            log.warning("worker %d (%s) is back", number, self._place(number))
            if number in self._ready:
                self._handle(dispatch.WorkerReady(number))
        # Of one that has been released it may be the first word: its processor was still starting.
        if isinstance(message, Goodbye) and number not in self._spoken and not self._farewell.released:
            log.info("worker %d (%s) ends a session before this one", number, self._place(number))
            return
        self._spoken.add(number)
        self._understand(number, message)

    def _understand(self, number: int, message: ToCoordinator) -> None:
        match message:
            case Outcomes(outcomes, announced):
                self._progress_at = self._clock()
                for outcome in outcomes:
                    self._pulls.came(number, outcome.attempt)
                    self._end_attempt(number, outcome)
                self._pulls.announced(number, announced)
            case Returned(attempts):
                self._handle(dispatch.AttemptsReturned(number, attempts))
            case Ready():
                log.info(
                    "worker %d (%s) ready: init() took %.3f s", number, self._place(number), message.init_s
                )
                self._ready.add(number)
                self.finalizes = message.finalizes
                self._handle(dispatch.WorkerReady(number))
            case GaveUp(error, unusable):
                self._gave_up(number, error, unusable)
            case Heartbeat(progress):
                if progress:
                    self._progress_at = self._clock()
            case StopAsked(reason):
                log.warning("worker %d (%s) asks to stop: got %s", number, self._place(number), reason)
                self.stop(f"{self._place(number)} got {reason}", at_once=False)
            case Goodbye():
                self._present.discard(number)
                self._ready.discard(number)
                self._watch.forget(number)
                self._pulls.forget(number)
                self._handle(dispatch.WorkerGone(number))
            case _:
                assert_never(message)

    def _end_attempt(self, number: int, outcome: Outcome) -> None:
        if self._phase != "running":
            log.debug(
                "dropped an answer of worker %d to attempt %d: all is concluded", number, outcome.attempt
            )
            return
        outcome = self._accounts.judged(outcome)
        event: Event
        if isinstance(outcome, Succeeded):
            event = dispatch.AttemptSucceeded(
                number, outcome.attempt, outcome.succeeded, outcome.rows, outcome.process_s
            )
        else:
            event = dispatch.AttemptFailed(
                number, outcome.attempt, outcome.run_s,
                alike=kind_of(outcome.error), out_of_memory=outcome.cause == "out_of_memory",
                deadly=outcome.deadly,
                indivisible=outcome.cause == "bad_rows",
            )  # fmt: skip
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
                    self._accounts.success(piece, worker, outcome)
                case dispatch.Grant(number, granted):
                    self._grant(number, granted)
                case RecordFailure(attempt, piece, tries, final):
                    assert isinstance(outcome, Failed)
                    outcome = msgspec.structs.replace(outcome, attempt=attempt)
                    self._accounts.failure(piece, worker, outcome, tries=tries, final=final)
                case RecordLoss(piece, losses):
                    self._accounts.loss(piece, losses)
                case RecordSplit(piece, at):
                    self._accounts.split(piece, at)
                case dispatch.Recall(number, attempts):
                    self._send(number, Recall(attempts))
                case Later(number, seconds):
                    heapq.heappush(self._later, (self._clock() + seconds, number))
                case Retire(number):
                    self._ready.discard(number)
                    self._send(number, Release(True))
                case Quarantine(workers, whole_node, failures):
                    self._tell(self._quarantine(workers, whole_node=whole_node, failures=failures))
                case Remark(text, workers):
                    self._tell(f"{text}: {self._places(workers)}" if workers else text)
                case Drop(number, attempt):
                    log.debug("dropped an answer of worker %d to attempt %d: too late", number, attempt)
                case Conclude(verdict, reason):
                    self._conclude(verdict, reason)
                case _:
                    assert_never(command)

    def _grant(self, number: int, granted: list[dispatch.Granted]) -> None:
        if self.first_grant_at is None:
            self.first_grant_at = self._clock()
        if log.isEnabledFor(logging.DEBUG):
            words = ", ".join(f"{one.attempt} at mini-batch {one.piece.mini_batch}" for one in granted)
            log.debug("granted worker %d (%s) attempts: %s", number, self._place(number), words)
        self._send(number, Grant(assignments(self._plan, granted)))

    def _quarantine(self, workers: list[int], *, whole_node: bool, failures: int) -> str:
        places = f"node {self._workers[workers[0]].host}" if whole_node else self._places(workers)
        return (
            f"{places} gets no more work: {failures} attempts in a row failed there, and what failed succeeded"
            " elsewhere. Look at its GPU, disk and memory; the logs of its processes tell what they met."
        )

    def _tell(self, text: str) -> None:
        log.warning("%s", text)
        self._remark(text)

    def _conclude(self, verdict: Verdict, reason: str) -> None:
        if self._phase != "running":
            return
        self._phase = "ending"
        if verdict == "no_workers" and self.gave_up is None:
            # Nothing is wrong with the job: what was lost with them may work at the next start.
            verdict, reason = "stopped", ALL_LOST
        self.verdict, self.reason = verdict, reason
        log.info("concluded: %s %s", verdict, reason)
        self._farewell.begin(self._clock(), complete=verdict == "complete")

    def _release(self) -> None:
        for number in self._present:
            self._send(number, Release(self._at_once))
        # A lost worker will hardly say goodbye.
        self._present -= self._lost

    def _send(self, number: int, message: ToWorker) -> None:
        self._port.send(self._workers[number].rank, encode(message))

    def _places(self, numbers: list[int]) -> str:
        return ", ".join(self._place(number) for number in numbers)

    def _place(self, number: int) -> str:
        place = self._workers[number]
        return f"rank {place.rank} on {place.host}"
