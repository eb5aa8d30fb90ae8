"""A worker: supervises one processor. It hands on what it is granted, times it, replaces it when it dies,
and reports. `step` does what can be done now and never blocks.

The processor holds the mini-batch that it is at and the next ones, some milliseconds' worth, so that it never
waits for us. The rest of what is granted waits here. What has not been begun can be given back although the
processor is busy in `run()`: through the memory they share.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, assert_never

import msgspec

from mpibatch.core.framing import FrameError, decoder, encode
from mpibatch.core.grants import LEAST_IN_FLIGHT, MOST_IN_FLIGHT, RunTimes
from mpibatch.core.liveness import OverTime
from mpibatch.messages import (
    Announced,
    Dismissed,
    Finish,
    FromProcessor,
    GaveUp,
    Goodbye,
    Grant,
    Heartbeat,
    InitFailed,
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
from mpibatch.runtime.supervisor import Child, Death, Guardian, interpreter_command, processor_environment
from mpibatch.runtime.transport import COORDINATOR, Port
from mpibatch.runtime.worker_log import WorkerLog
from mpibatch.work import Assignment, Cause, ErrorReport, Failed, Outcome

ANNOUNCE_BYTES = 256 << 10
"""A longer fragment is announced, and sent when it is asked for."""
MOST_INIT_FAILURES = 3
"""In a row; then the worker gives up (CONTRACT section 2)."""
MOST_FRUITLESS_DEATHS = 3
"""In a row, of processors that died between mini-batches without one outcome."""
EOF_GRACE_S = 1.0
"""Between the end of a processor's connection and its death; then it has only closed the connection."""
OVER_PATIENCE = 60
"""How many times longer a worker that is over waits for rank 0."""
SHORTEST_PATIENCE_S = 0.02
LONGEST_PATIENCE_S = 0.1
"""A recall, a stop or a pulled fragment may wait so long while the processor is busy."""
CHILD_HORIZON_S = 0.01
"""Mini-batches shorter than this are handed to the processor several at a time."""

_CALL = "from mpibatch.runtime.processor import main; raise SystemExit(main({fd}, {clock}))"
_decode = decoder(ToWorker)

Phase = Literal["waiting", "starting", "ready", "finishing", "given_up", "over"]


def child_target(mean_s: float | None) -> int:
    """Mini-batches that the processor itself should hold, the running one among them."""
    if mean_s is None:
        return LEAST_IN_FLIGHT
    return min(MOST_IN_FLIGHT, max(LEAST_IN_FLIGHT, math.ceil(CHILD_HORIZON_S / max(mean_s, 1e-6))))


class Worker:
    """Step it until it is `over`. `port` leads to the coordinator, on rank `COORDINATOR`."""

    def __init__(
        self, port: Port, *, rank: int, host: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._port = port
        self._rank = rank
        self._host = host
        self._clock = clock
        self._phase: Phase = "waiting"
        self._setup: WorkerSetup | None = None
        self._log = WorkerLog(None, "INFO")
        self._child: Child | None = None
        self._child_number = 0
        self._child_started = 0.0
        self._deadline = math.inf
        self._scratch = ""
        self._guardian: Guardian | None = None
        self._queue: deque[Assignment] = deque()
        self._window: dict[int, Assignment] = {}
        self._held: dict[int, Outcome] = {}
        self._times = RunTimes()
        self._over_time = OverTime(math.inf)
        self._killed_for: tuple[Cause, str] | None = None
        self._eof_at = math.inf
        self._init_failures = 0
        self._fruitless_deaths = 0
        self._heard = self._spoke = self._stepped = clock()
        self.dismissed: Dismissed | None = None
        """The coordinator's last word: the rank is to end."""

    @property
    def over(self) -> bool:
        """Everything has ended and been said."""
        return self._phase == "over"

    def fds(self) -> list[tuple[int, bool]]:
        """What may wake this worker: (file descriptor, whether also to be writable)."""
        return self._child.fds() if self._child is not None else []

    @property
    def patience_s(self) -> float | None:
        """How long rank 0 can wait, while the processor has work: its outcome comes first, and wakes us.

        None while something of rank 0 may be urgent. Long enough that with short mini-batches the
        outcome always comes first, as with many workers on a node each wake counts.
        """
        if not self._window or not self._port.idle():
            return None
        return min(LONGEST_PATIENCE_S, max(SHORTEST_PATIENCE_S, 2 * (self._times.mean_s or 0.0)))

    def step(self) -> bool:
        """Do what can be done now; True if anything was."""
        now = self._clock()
        if now - self._stepped > 1.0:  # We stood still: what came meanwhile has not been read yet.
            self._heard += now - self._stepped
        self._stepped = now
        # First the processor, which may be waiting.
        acted = self._child is not None and self._step_child(self._child, now)
        for _, body in self._port.receive():
            acted = True
            self._heard = now
            self._take(_decode(body))
        if self._setup is not None and now - self._spoke > self._setup.heartbeat_s and not self.over:
            self._say(Heartbeat())
        return acted

    def coordinator_silent(self) -> bool:
        """Whether rank 0 has not been heard of for too long: then this rank has to end."""
        if self._setup is None:
            return False
        # Nothing is at stake once all is said, and rank 0 may be looking at a million inputs before it ends.
        patience_s = self._setup.silence_s * (OVER_PATIENCE if self.over else 1)
        return self._clock() - self._heard > patience_s

    def ask_to_stop(self, reason: str) -> None:
        """Tell the coordinator that the run should stop."""
        self._say(StopAsked(reason))

    def abandon(self) -> None:
        """Kill the processor and tidy up, without a word: the coordinator is gone."""
        if self._child is not None:
            self._child.kill()
            self._bury(self._child)
        self._leave()

    # From the coordinator

    def _take(self, message: ToWorker) -> None:
        match message:
            case Grant(assignments):
                self._queue.extend(assignments)
                self._feed()
            case Pull(attempt):
                if attempt in self._held:
                    self._say(Outcomes([self._held.pop(attempt)]))
            case Recall(attempts):
                self._give_back(set(attempts))
            case Ping():
                pass
            case Release(at_once):
                self._release(at_once)
            case Dismissed():
                self.dismissed = message
            case WorkerSetup():
                self._begin(message)
            case _:
                assert_never(message)

    def _begin(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._log = WorkerLog(os.fsdecode(setup.log_file), setup.logging_level)
        self._over_time = OverTime(setup.run_invocation_timeout_s)
        try:
            for file in (setup.stdout_file, setup.stderr_file, setup.processor.error_file):
                os.makedirs(os.path.dirname(file), exist_ok=True)
            self._scratch = tempfile.mkdtemp(prefix=f"mpibatch-{os.getpid()}-")
            self._guardian = Guardian(self._scratch)
        except OSError as error:
            self._give_up(
                ErrorReport("OSError", f"worker {setup.worker} on {self._host} cannot begin: {error}")
            )
            return
        self._start_child()

    def _give_back(self, attempts: set[int]) -> None:
        mine = [assignment.attempt for assignment in self._queue if assignment.attempt in attempts]
        if mine:
            self._queue = deque(a for a in self._queue if a.attempt not in attempts)
        mine += self._take_back(attempts)
        # Also when there are none, so that the coordinator knows that no more will come back.
        self._say(Returned(mine))

    def _take_back(self, asked: set[int]) -> list[int]:
        """Of the last ones that the processor holds, those that are asked for and that it has not begun."""
        if self._child is None or not self._child.clock.may_revoke():
            return []
        last = list(itertools.takewhile(asked.__contains__, reversed(self._window)))
        if not last:
            return []
        begun = self._child.clock.revoke(last[-1], last[0])
        taken = [attempt for attempt in reversed(last) if attempt > begun]
        for attempt in taken:
            del self._window[attempt]
        return taken

    def _release(self, at_once: bool) -> None:
        self._queue.clear()
        self._held.clear()
        child = self._child
        if child is None:
            self._end()
        elif at_once or self._phase != "ready" or self._window:
            self._phase = "finishing"
            self._killed_for = ("died", "released")
            child.kill()
        else:
            assert self._setup is not None
            self._phase = "finishing"
            self._deadline = self._clock() + self._setup.kill_grace_s
            child.send(Finish())

    # The processor

    def _start_child(self) -> None:
        assert self._setup is not None
        setup = self._setup
        cwd = os.path.join(self._scratch, f"{setup.processor.name}-{self._child_number}")
        variables = {name: os.fsdecode(value) for name, value in setup.environment.items()}
        try:
            os.mkdir(cwd)
            child = Child(
                interpreter_command(os.fsdecode(setup.python) if setup.python else None, _CALL),
                environment=processor_environment(setup.environment_keep, variables),
                cwd=cwd,
                stdout_file=os.fsdecode(setup.stdout_file),
                stderr_file=os.fsdecode(setup.stderr_file),
            )
        except OSError as error:
            self._give_up(
                ErrorReport(
                    "OSError", f"a processor cannot be started on {self._host} (rank {self._rank}): {error}"
                )
            )
            return
        self._child = child
        self._child_number += 1
        self._killed_for = None
        self._eof_at = math.inf
        self._phase = "starting"
        self._child_started = self._clock()
        self._deadline = self._child_started + setup.init_timeout_s
        assert self._guardian is not None
        self._guardian.watch(child.pid)
        child.send(setup.processor)
        self._log.info(f"{setup.processor.name} started, pid {child.pid}")

    def _step_child(self, child: Child, now: float) -> bool:
        child.flush()
        acted = self._listen(child)
        if child.ended():
            self._died(child)
            return True
        if child.eof and self._killed_for is None and self._phase in ("starting", "ready"):
            # A dying process closes its files some moments before it is dead.
            self._eof_at = min(self._eof_at, now)
            if now - self._eof_at > EOF_GRACE_S:
                self._kill(child, "died", "it closed its connection to mpibatch")
        if self._phase == "ready":
            attempt, started_ns = child.clock.running()
            if self._over_time.judge(attempt, started_ns, time.monotonic_ns()) and self._killed_for is None:
                self._kill(child, "timed_out", f"over run_invocation_timeout: {self._timeout_s:g} s")
        elif now > self._deadline:
            self._deadline = math.inf
            if self._phase == "starting":
                self._kill(child, "timed_out", "over init_timeout")
            else:
                self._kill(child, "died", "shutdown() took too long")
        return acted

    @property
    def _timeout_s(self) -> float:
        return self._setup.run_invocation_timeout_s if self._setup is not None else math.inf

    def _kill(self, child: Child, cause: Cause, why: str) -> None:
        self._killed_for = (cause, why)
        self._log.warning(f"killing pid {child.pid}: {why}")
        child.kill()

    def _listen(self, child: Child) -> bool:
        heard = False
        try:
            for message in child.receive():
                heard = True
                self._take_from_child(child, message)
        except FrameError as error:
            if self._killed_for is None:
                self._kill(child, "died", f"the script wrote into the connection to mpibatch: {error}")
        return heard

    def _take_from_child(self, child: Child, message: FromProcessor) -> None:
        match message:
            case Outcomes(outcomes):
                self._fruitless_deaths = 0
                self._report(outcomes)
            case Ready(init_s):
                if self._phase != "starting":
                    return
                self._phase = "ready"
                self._init_failures = 0
                self._log.info(f"ready after {init_s:.3f} s")
                if self._child_number == 1:
                    self._say(message)
                self._feed()
            case InitFailed(error, unusable):
                self._killed_for = ("raised", "init failed")
                child.kill()
                self._init_failed(error, unusable=unusable)
            case _:
                assert_never(message)

    def _feed(self) -> None:
        """Hand the processor what it should hold; many at a time where they are short."""
        if self._phase != "ready" or not self._queue or self._child is None:
            return
        target = child_target(self._times.mean_s)
        room = target - len(self._window)
        if room <= 0 or 2 * len(self._window) > target:
            return
        batch = [self._queue.popleft() for _ in range(min(room, len(self._queue)))]
        for assignment in batch:
            self._window[assignment.attempt] = assignment
        self._child.send(Grant(batch))

    def _report(self, outcomes: list[Outcome]) -> None:
        """Hand outcomes on; large fragments stay here until they are asked for."""
        at_once: list[Outcome] = []
        announced: list[Announced] = []
        for outcome in outcomes:
            if self._window.pop(outcome.attempt, None) is None:
                self._log.warning(f"dropped an outcome of attempt {outcome.attempt}, which was not granted")
                continue
            if isinstance(outcome, Failed):
                self._times.add(outcome.run_s)
                self._log.info(
                    f"attempt {outcome.attempt} failed: {outcome.error.type}: {outcome.error.message}"
                )
                at_once.append(outcome)
                continue
            self._times.add(outcome.process_s)
            if self._log.detailed:
                self._log.debug(
                    f"attempt {outcome.attempt}: {outcome.succeeded} items, {outcome.run_s:.6f} s"
                )
            if len(outcome.fragment) > ANNOUNCE_BYTES:
                self._held[outcome.attempt] = outcome
                bare = msgspec.structs.replace(outcome, fragment=b"")
                announced.append(Announced(bare, len(outcome.fragment)))
            else:
                at_once.append(outcome)
        # Before rank 0 is told, so that the processor has its next work sooner.
        self._feed()
        if at_once or announced:
            self._say(Outcomes(at_once, announced))

    # Deaths

    def _died(self, child: Child) -> None:
        self._listen(child)  # What it sent before its death still counts.
        running, started_ns = child.clock.running()
        death = self._bury(child)
        if self._phase == "finishing":
            self._end()
            return
        if self._phase == "given_up":
            return
        cause, why = self._killed_for or ("died", "")
        goes_on = True
        if self._phase == "ready":
            goes_on = self._blame(running, time.monotonic_ns() - started_ns, death, cause, why)
        elif cause != "raised":  # Else it has told of its failed init() itself.
            error = self._death_report(death, cause, why, "while it loaded the script or in init()")
            goes_on = self._init_failed(error, unusable=False)
        if goes_on:
            # What it was given and did not start goes to its successor, before all else.
            self._queue.extendleft(reversed(self._window.values()))
            self._window.clear()
            self._start_child()

    def _bury(self, child: Child) -> Death:
        death = child.bury()
        child.close()
        self._child = None
        if self._guardian is not None:
            self._guardian.watch(0)
        return death

    def _blame(self, running: int, run_ns: int, death: Death, cause: Cause, why: str) -> bool:
        """The attempt that was running has failed. If none was, nobody is to blame, but not for ever.

        Whether this worker goes on.
        """
        assignment = self._window.get(running)
        if assignment is None:
            self._fruitless_deaths += 1
            error = self._death_report(death, cause, why, "between two mini-batches")
            self._log.warning(error.message)
            if self._fruitless_deaths < MOST_FRUITLESS_DEATHS:
                return True
            self._give_up(error)
            return False
        self._fruitless_deaths = 0
        error = self._death_report(
            death, cause, why, f"in mini-batch {assignment.mini_batch}, attempt {running}"
        )
        self._report([Failed(running, cause, error, run_ns / 1e9)])
        return True

    def _death_report(self, death: Death, cause: Cause, why: str, when: str) -> ErrorReport:
        assert self._setup is not None
        place = f"(pid {death.pid} of rank {self._rank} on {self._host}, {when})"
        if cause == "timed_out":
            return ErrorReport("TimedOut", f"the processor was killed: {why} {place}", death.stderr_tail)
        how = f"{why}, so it was killed" if why else f"it died: {death.words}"
        return ErrorReport("Died", f"{how} {place}", death.stderr_tail)

    def _init_failed(self, error: ErrorReport, *, unusable: bool) -> bool:
        """Whether this worker goes on."""
        self._init_failures += 1
        self._log.warning(
            f"init failed ({self._init_failures}): {error.type}: {error.message}\n{error.details}"
        )
        if not unusable and self._init_failures < MOST_INIT_FAILURES:
            return True
        self._give_up(error, unusable=unusable)
        return False

    def _give_up(self, error: ErrorReport, *, unusable: bool = False) -> None:
        self._phase = "given_up"
        attempts = [*self._window, *(assignment.attempt for assignment in self._queue)]
        self._window.clear()
        self._queue.clear()
        self._log.warning(f"gives up: {error.type}: {error.message}")
        self._say(GaveUp(error, unusable, attempts))

    # The end

    def _end(self) -> None:
        self._leave()
        self._say(Goodbye())
        self._phase = "over"

    def _leave(self) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None
        self._log.info("ends")
        self._log.close()

    def _say(self, message: ToCoordinator) -> None:
        self._spoke = self._clock()
        self._port.send(COORDINATOR, encode(message))
