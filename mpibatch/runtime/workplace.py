"""What a worker has for one session: one processor at a time, the work it is granted, and how both end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Literal, assert_never

from mpibatch.messages import (
    Finalized,
    FromProcessor,
    GaveUp,
    Goodbye,
    Grant,
    InitFailed,
    Outcomes,
    PassedOver,
    Ready,
    Returned,
    ToCoordinator,
    WorkerSetup,
)
from mpibatch.runtime.announcing import Announcing
from mpibatch.runtime.deaths import MOST_INIT_FAILURES, Death, Deaths
from mpibatch.runtime.holdings import Holdings, Running, described
from mpibatch.runtime.memory import MemoryWatch
from mpibatch.runtime.pulse import Pulse
from mpibatch.runtime.quarters import Quarters
from mpibatch.runtime.watched import Watched
from mpibatch.runtime.worker_log import WorkerLog
from mpibatch.work import Assignment, Cause, ErrorReport, Failed, Outcome, Succeeded

ABANDON_S = 5.0
"""How long an abandoned processor has to die of its SIGKILL."""

Phase = Literal["working", "finishing", "given_up", "over"]

_FULL: tuple[Cause, str] = ("died", "its memory was full")
"""Why a processor is renewed, which is nobody's failure."""


class Workplace:
    """`say` tells rank 0. `step` it until it is `over`; nothing in it blocks."""

    def __init__(
        self,
        setup: WorkerSetup,
        *,
        rank: int,
        host: str,
        clock: Callable[[], float],
        memory: MemoryWatch,
        say: Callable[[ToCoordinator], None],
    ) -> None:
        """Start the first processor, or give up at once."""
        self._setup = setup
        self._place = f"{host} (rank {rank})"
        self._clock = clock
        self._say = say
        self._phase: Phase = "working"
        self._log = WorkerLog(os.fsdecode(setup.log_file), setup.logging_level)
        self._holdings = Holdings(setup.processor.concurrency)
        self._announcing = Announcing()
        self._pulse = Pulse(setup.run_invocation_timeout_s)
        self._memory = memory
        self._deaths = Deaths(f"rank {rank} on {host}", memory, setup.processors_here)
        self._processor: Watched | None = None
        self._quarters: Quarters | None = None
        self._told_ready = False
        self._has_succeeded = False
        try:
            self._quarters = Quarters(setup)
        except OSError as error:
            self._give_up(ErrorReport("OSError", f"worker {setup.worker} on {host} cannot begin: {error}"))
            return
        if self._quarters.unwritable:
            self._log.warning(f"what processors print is lost: {self._quarters.unwritable}")
        self._start_processor()

    @property
    def over(self) -> bool:
        """Everything has ended and been said."""
        return self._phase == "over"

    @property
    def mean_s(self) -> float | None:
        """Measured seconds of a mini-batch while the processor has work, 0 before the first; None: it has none."""
        return self._holdings.mean_s if self._holdings.handed else None

    def fds(self) -> list[tuple[int, bool]]:
        """What may wake the worker: (file descriptor, whether also to be writable)."""
        return self._processor.child.fds() if self._processor is not None else []

    def step(self, now: float, stall_s: float) -> bool:
        """Hear and look after the processor; True if there was anything. `stall_s`: we stood still for so long."""
        self._pulse.stood_still(stall_s)
        processor = self._processor
        if processor is None:
            return False
        processor.child.flush()
        acted = self._listen(processor)
        self._memory.look(now)
        if processor.child.ended():
            self._died(processor)
            return True
        processor.look_after(now, handed=self._holdings.handed)
        return acted

    def progress(self, now: float) -> bool:
        """Whether rank 0 is to be told that the script says that it gets on."""
        return self._processor is not None and self._pulse.beaten(self._processor.child.clock, now)

    # From the coordinator

    def granted(self, assignments: list[Assignment]) -> None:
        self._holdings.granted(assignments)
        self._feed()

    def pulled(self, attempt: int) -> None:
        held = self._announcing.take(attempt)
        if held is not None:
            self._say(Outcomes([held]))

    def recalled(self, attempts: set[int]) -> None:
        clock = self._processor.child.clock if self._processor is not None else None
        # Also when there are none, so that the coordinator knows that no more will come back.
        self._say(Returned(self._holdings.give_back(attempts, clock)))

    def release(self, at_once: bool) -> None:
        """Nothing more will come. It may come at any time, and again."""
        if self.over:  # It was on its way when we said our last word.
            return
        handed = self._holdings.handed
        self._holdings.give_up()
        self._announcing.clear()
        processor = self._processor
        if processor is None:
            self._end()
            return
        idle = self._phase == "working" and processor.ready and not handed
        self._phase = "finishing"
        if at_once or not idle:
            processor.kill("died", "released")
        else:
            processor.finish(self._clock() + self._setup.kill_grace_s)

    def abandon(self) -> None:
        """Kill the processor and tidy up, without a word: the coordinator is gone."""
        processor = self._processor
        if processor is not None:
            processor.child.kill()
            if processor.child.ends_within(ABANDON_S):
                self._bury(processor)
        self._leave()

    # The processor

    def _start_processor(self) -> None:
        assert self._quarters is not None
        try:
            child = self._quarters.start()
        except OSError as error:
            self._give_up(ErrorReport("OSError", f"a processor cannot be started on {self._place}: {error}"))
            return
        now = self._clock()
        self._has_succeeded = False
        self._processor = Watched(child, self._pulse, self._log, now + self._setup.init_timeout_s)
        self._memory.begin(child.pid, now)
        given = f", with {self._setup.binding}" if self._setup.binding else ""
        self._log.info(f"{self._setup.processor.name} started, pid {child.pid}{given}")
        if self._quarters.unbound:
            self._log.warning(f"it is not bound to its CPUs: {self._quarters.unbound}")

    def _listen(self, processor: Watched) -> bool:
        heard = False
        for message in processor.listen():
            heard = True
            self._take_from(processor, message)
        return heard

    def _take_from(self, processor: Watched, message: FromProcessor) -> None:
        match message:
            case Outcomes(outcomes):
                self._deaths.fruitful()
                self._report(outcomes)
            case Ready():
                self._ready(processor, message)
            case PassedOver(attempt):
                if self._holdings.passed_over(attempt):
                    self._say(Returned([attempt]))
                    self._feed()
            case InitFailed(error, unusable):
                processor.kill("raised", "init failed")
                if self._phase == "working":
                    self._init_failed(error, unusable=unusable)
            case Finalized():
                processor.kill("died", "the script wrote into the connection to mpibatch")
            case _:
                assert_never(message)

    def _ready(self, processor: Watched, message: Ready) -> None:
        if self._phase != "working" or processor.ready:
            return
        processor.becomes_ready()
        self._deaths.init_succeeded()
        self._log.info(f"ready after {message.init_s:.3f} s")
        if not self._told_ready:  # Once; not only of the first processor, as that may die before.
            self._told_ready = True
            self._say(message)
        self._feed()

    def _feed(self) -> None:
        """Hand the processor what it should hold; many at a time where they are short."""
        processor = self._processor
        if self._phase == "working" and processor is not None and processor.ready:
            batch = self._holdings.next_batch()
            if batch:
                processor.send(Grant(batch))

    def _report(self, outcomes: Sequence[Outcome]) -> None:
        """Hand outcomes on; large fragments stay here until they are asked for."""
        told = self._announcing.sort([outcome for outcome in outcomes if self._was_granted(outcome)])
        # Before rank 0 is told, so that the processor has its next work sooner.
        self._feed()
        if told.outcomes or told.announced:
            self._say(told)
        for one in outcomes:
            if isinstance(one, Succeeded):
                self._has_succeeded = True
            elif self._has_succeeded and one.error.type == "MemoryError":
                self._renew()

    def _renew(self) -> None:
        """What has filled the processor's memory may still be there, and would fail all that comes. Not of a
        processor that has had no success yet: then it is the item that is too large."""
        processor = self._processor
        if processor is not None and self._phase == "working" and processor.killed_for is None:
            processor.kill(*_FULL)

    def _was_granted(self, outcome: Outcome) -> bool:
        """Whether it is an answer to what the processor had; it has it no more."""
        attempt = outcome.attempt
        seconds = outcome.run_s if isinstance(outcome, Failed) else outcome.process_s
        if not self._holdings.ended(attempt, seconds):
            self._log.warning(f"dropped an outcome of attempt {attempt}, which was not granted")
            return False
        if isinstance(outcome, Failed):
            self._log.info(f"attempt {attempt} failed: {outcome.error.type}: {outcome.error.message}")
        elif self._log.detailed:
            self._log.debug(f"attempt {attempt}: {outcome.succeeded} items, {outcome.run_s:.6f} s")
        return True

    # Deaths

    def _died(self, processor: Watched) -> None:
        self._listen(processor)  # What it sent before its death still counts.
        running = self._holdings.running(processor.child.clock, time.monotonic_ns())
        death = self._bury(processor)
        if self._phase == "finishing":
            self._end()
        elif self._phase == "working" and self._goes_on(processor, death, running):
            self._holdings.processor_died()
            self._start_processor()

    def _bury(self, processor: Watched) -> Death:
        assert self._quarters is not None
        self._processor = None
        return self._quarters.bury(processor.child)

    def _goes_on(self, processor: Watched, death: Death, running: list[Running]) -> bool:
        """Put the blame where it belongs; whether another processor is worth a try."""
        killed_for = processor.killed_for
        if killed_for == _FULL:
            return True  # Whatever has begun meanwhile is not to blame.
        if not processor.ready:
            if killed_for is not None and killed_for[0] == "raised":
                return True  # It has told of its failed init() itself.
            _, error = self._deaths.judge(death, killed_for, "while it loaded the script or in init()")
            return self._init_failed(error, unusable=False)
        guilty = [one for one in running if processor.blamed in (0, one.work.attempt)]
        if not guilty:  # What was to blame may have ended meanwhile: what else ran then is not.
            _, error = self._deaths.judge(death, killed_for, "between two mini-batches")
            self._log.warning(error.message)
            if self._deaths.fruitless():
                return True
            self._give_up(error)
            return False
        self._deaths.fruitful()
        cause, error = self._deaths.judge(death, killed_for, described(guilty))
        if len(guilty) == 1:
            deadly = self._setup.processor.concurrency > 1
            self._report([Failed(guilty[0].work.attempt, cause, error, guilty[0].run_s, deadly)])
        else:  # It will come out, and costs none a try that has done nothing.
            self._log.warning(f"{error.message}: each of them is tried again alone")
            self._holdings.suspect(guilty)
        return True

    def _init_failed(self, error: ErrorReport, *, unusable: bool) -> bool:
        """Whether this worker goes on."""
        failures = self._deaths.init_failed()
        self._log.warning(f"init failed ({failures}): {error.type}: {error.message}\n{error.details}")
        if not unusable and failures < MOST_INIT_FAILURES:
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
        if self._quarters is not None:
            self._quarters.leave()
            self._quarters = None
        self._log.info("ends")
        self._log.close()
