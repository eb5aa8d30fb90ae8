"""A worker: supervises one processor. It hands on what it is granted, times it, replaces it when it dies,
and reports. `step` does what can be done now and never blocks.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Literal, assert_never

import msgspec

from mpibatch.core.framing import FrameError, decoder, encode
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
    PassedOver,
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
from mpibatch.runtime.holdings import Holdings
from mpibatch.runtime.supervisor import Child, Death, Guardian, interpreter_command, processor_environment
from mpibatch.runtime.transport import COORDINATOR, Port
from mpibatch.runtime.worker_log import WorkerLog
from mpibatch.work import Cause, ErrorReport, Failed, Outcome

ANNOUNCE_BYTES = 256 << 10
"""A longer fragment, with the bad items, is announced, and sent when it is asked for."""
MOST_INIT_FAILURES = 3
"""In a row; then the worker gives up (CONTRACT section 2)."""
MOST_FRUITLESS_DEATHS = 3
"""In a row, of processors that died between mini-batches without one outcome."""
EOF_GRACE_S = 1.0
"""Between the end of a processor's connection and its death; then it has only closed the connection."""
OVER_PATIENCE = 60
"""How many times longer a worker that is over waits for rank 0."""
SHORTEST_PATIENCE_S = 0.01
LONGEST_PATIENCE_S = 0.1
"""A recall, a stop or a pulled fragment may wait so long while the processor is busy."""

_CALL = "from mpibatch.runtime.processor import main; raise SystemExit(main({fd}, {clock}))"
_decode = decoder(ToWorker)

Phase = Literal["waiting", "starting", "ready", "finishing", "given_up", "over"]


class Worker:
    """Step it until it is `over`. `port` leads to the coordinator, on rank `COORDINATOR`."""

    def __init__(
        self, port: Port, *, rank: int, host: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._port = port
        self._rank = rank
        self._host = host
        self._clock = clock
        self._setup: WorkerSetup | None = None
        self._child: Child | None = None
        self._guardian: Guardian | None = None
        self._heard = self._spoke = self._stepped = clock()
        self.dismissed: Dismissed | None = None
        """The coordinator's last word: the rank is to end."""
        self._start_anew()

    def _start_anew(self) -> None:
        """As before the first setup: a session may be followed by another one."""
        self._phase: Phase = "waiting"
        self._log = WorkerLog(None, "INFO")
        self._child_number = 0
        self._child_folder = ""
        self._child_started = 0.0
        self._deadline = math.inf
        self._scratch = ""
        self._holdings = Holdings()
        self._held: dict[int, Outcome] = {}
        self._over_time = OverTime(math.inf)
        self._killed_for: tuple[Cause, str] | None = None
        self._eof_at = math.inf
        self._init_failures = 0
        self._fruitless_deaths = 0

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

        None while something of rank 0 may be urgent. Long enough that mostly the outcome comes first, as with
        many workers on a node each wake counts; its next work the processor has already.
        """
        if not self._holdings.handed or self._port.pressing():
            return None
        return min(LONGEST_PATIENCE_S, max(SHORTEST_PATIENCE_S, 1.25 * self._holdings.mean_s))

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
                self._holdings.granted(assignments)
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
        if self.over:
            self._start_anew()
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
        clock = self._child.clock if self._child is not None else None
        # Also when there are none, so that the coordinator knows that no more will come back.
        self._say(Returned(self._holdings.give_back(attempts, clock)))

    def _release(self, at_once: bool) -> None:
        handed = self._holdings.handed
        self._holdings.give_up()
        self._held.clear()
        child = self._child
        if child is None:
            self._end()
        elif at_once or self._phase != "ready" or handed:
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
        self._child_folder = os.path.join(self._scratch, f"{setup.processor.name}-{self._child_number}")
        variables = {name: os.fsdecode(value) for name, value in setup.environment.items()}
        try:
            os.mkdir(self._child_folder)
            child = Child(
                interpreter_command(os.fsdecode(setup.python) if setup.python else None, _CALL),
                environment=processor_environment(setup.environment_keep, variables),
                cwd=self._child_folder,
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
            case PassedOver(attempt):
                if self._holdings.passed_over(attempt):
                    self._say(Returned([attempt]))
                    self._feed()
            case InitFailed(error, unusable):
                self._killed_for = ("raised", "init failed")
                child.kill()
                self._init_failed(error, unusable=unusable)
            case _:
                assert_never(message)

    def _feed(self) -> None:
        """Hand the processor what it should hold; many at a time where they are short."""
        if self._phase == "ready" and self._child is not None:
            batch = self._holdings.next_batch()
            if batch:
                self._child.send(Grant(batch))

    def _report(self, outcomes: list[Outcome]) -> None:
        """Hand outcomes on; large fragments stay here until they are asked for."""
        at_once: list[Outcome] = []
        announced: list[Announced] = []
        for outcome in outcomes:
            seconds = outcome.run_s if isinstance(outcome, Failed) else outcome.process_s
            if not self._holdings.ended(outcome.attempt, seconds):
                self._log.warning(f"dropped an outcome of attempt {outcome.attempt}, which was not granted")
                continue
            if isinstance(outcome, Failed):
                self._log.info(
                    f"attempt {outcome.attempt} failed: {outcome.error.type}: {outcome.error.message}"
                )
                at_once.append(outcome)
                continue
            if self._log.detailed:
                self._log.debug(
                    f"attempt {outcome.attempt}: {outcome.succeeded} items, {outcome.run_s:.6f} s"
                )
            length = outcome.length
            if length > ANNOUNCE_BYTES:
                self._held[outcome.attempt] = outcome
                bare = msgspec.structs.replace(outcome, fragment=b"", bad=[])
                announced.append(Announced(bare, length))
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
            self._holdings.processor_died()
            self._start_child()

    def _bury(self, child: Child) -> Death:
        death = child.bury()
        child.close()
        shutil.rmtree(self._child_folder, ignore_errors=True)
        self._child = None
        if self._guardian is not None:
            self._guardian.watch(0)
        return death

    def _blame(self, running: int, run_ns: int, death: Death, cause: Cause, why: str) -> bool:
        """The attempt that was running has failed. If none was, nobody is to blame, but not for ever.

        Whether this worker goes on.
        """
        assignment = self._holdings.at(running)
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
        return death.report(cause, why, f"rank {self._rank} on {self._host}, {when}")

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
        self._log.warning(f"gives up: {error.type}: {error.message}")
        self._say(GaveUp(error, unusable, self._holdings.give_up()))

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
