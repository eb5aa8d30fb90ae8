"""A processor whose `run()` is async: several mini-batches at a time, in one event loop, in this thread.

Their items are read and their rows encoded in the loop too, between what they wait for. What of the script holds the
loop is written into the clock at each step, as the loop cannot see to anything then, and its worker has to.
"""

from __future__ import annotations

import asyncio
import math
import os
import types
from collections import deque
from collections.abc import Coroutine, Generator
from time import monotonic_ns, perf_counter
from typing import Any, assert_never

import msgspec

from mpibatch.core.framing import FrameError
from mpibatch.core.grants import may_begin
from mpibatch.core.loop_watch import CANCELLED, TICK_S
from mpibatch.inputs.survey import Batch
from mpibatch.messages import Finish, Grant, PassedOver, ProcessorSpec, ToProcessor
from mpibatch.outputs.input_key import name_rows
from mpibatch.runtime.clock import (
    LATEST,
    MOVES,
    REVOKED_FIRST,
    REVOKED_LAST,
    SLOT_ATTEMPT,
    SLOT_CANCELLED,
    SLOT_STARTED,
    SLOTS,
    STEP,
    TICKS,
    place_of,
)
from mpibatch.runtime.entry_script import Hooks
from mpibatch.runtime.forking import end_copy
from mpibatch.runtime.processor import SEND_AFTER_S, Processor
from mpibatch.runtime.reading import item_keys
from mpibatch.runtime.script_loop import finished
from mpibatch.work import Assignment, Failed, Outcome, Succeeded


class TimedOut(Exception):
    """A mini-batch was cancelled as its time was up."""


class _Running:
    """An attempt that has begun. `place`: that of its slot in the clock."""

    __slots__ = ("over", "place", "task", "work")

    def __init__(self, work: Assignment, place: int) -> None:
        self.work = work
        self.place = place
        self.task: asyncio.Task[None] | None = None
        self.over = False
        """Its time is up."""


class AsyncProcessor(Processor):
    """Begins what is granted in its order, as many as may run, and sends each outcome when it is there."""

    def __init__(self, spec: ProcessorSpec, script: Hooks, *rest: Any) -> None:
        super().__init__(spec, script, *rest)
        assert script.loop is not None
        self._event_loop = script.loop
        self._queue: deque[Assignment] = deque()
        self._running: dict[int, _Running] = {}
        self._free = [place_of(slot) for slot in reversed(range(self._spec.concurrency))]
        self._finishing = False
        self._is_told = asyncio.Event()
        """Something has changed that `serve` has to look at."""
        self._trouble: Exception | None = None
        self._flushes = False
        """What is unsent will be sent soon."""
        self._ticking = False
        self._clock[SLOTS] = self._spec.concurrency

    def serve(self) -> None:
        """Return at `Finish`."""
        self._event_loop.complete(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._hear(may_read=False)
        loop.add_reader(self._link.source, self._hear)
        while not (self._finishing and not self._queue and not self._running):
            await self._is_told.wait()
            self._is_told.clear()
            if self._trouble is not None:
                raise self._trouble
        loop.remove_reader(self._link.source)
        self._flush()

    def _hear(self, *, may_read: bool = True) -> None:
        try:
            for message in self._link.arrived(may_read=may_read):
                self._take(message)
            self._begin_some()
        except Exception as error:
            self._end_with(error)

    def _end_with(self, error: Exception) -> None:
        """Where the loop would only tell of it, and go on."""
        self._trouble = error
        self._is_told.set()

    def _take(self, message: ToProcessor) -> None:
        match message:
            case Grant():
                self._queue.extend(message.assignments)
            case Finish():
                self._finishing = True
                self._is_told.set()
            case ProcessorSpec():
                raise FrameError("ProcessorSpec came twice")
            case _:
                assert_never(message)

    # What runs

    def _begin_some(self) -> None:
        running, concurrency = self._running, self._spec.concurrency
        while self._queue:
            if running and not may_begin(
                self._queue[0].alone, [one.work.alone for one in running.values()], concurrency
            ):
                break
            self._begin(self._queue.popleft())
        if self._running and not self._ticking:
            self._ticking = True
            self._tick()

    def _begin(self, work: Assignment) -> None:
        """Or pass over it, if it was taken back. In the order in which `Processor` does it."""
        clock = self._clock
        place = self._free.pop()
        clock[place + SLOT_STARTED] = monotonic_ns()
        clock[LATEST] = work.attempt
        clock[place + SLOT_ATTEMPT] = work.attempt
        if clock[REVOKED_FIRST] <= work.attempt <= clock[REVOKED_LAST]:
            self._leave(place)
            if self._staging is not None:
                self._staging.used(work)
            self._link.send(PassedOver(work.attempt))
            return
        one = self._running[work.attempt] = _Running(work, place)
        one.task = asyncio.get_running_loop().create_task(self._see_to(one))

    def _leave(self, place: int) -> None:
        self._clock[place + SLOT_ATTEMPT] = 0
        self._clock[place + SLOT_CANCELLED] = 0
        self._free.append(place)

    async def _see_to(self, one: _Running) -> None:
        outcome = await self._step_by_step(self._try(one), one.work.attempt)
        try:
            del self._running[one.work.attempt]
            self._leave(one.place)
            if self._staging is not None:
                self._staging.used(one.work)
            self._answer(outcome)
            self._begin_some()
        except Exception as error:
            self._end_with(error)
        if self._finishing:
            self._is_told.set()

    async def _try(self, one: _Running) -> Outcome:
        work = one.work
        started = called = perf_counter()
        self._clock[one.place + SLOT_STARTED] = monotonic_ns()  # Before, it waited for its turn in the loop.
        timer = self._set_timer(one)
        run_s = 0.0
        read = False
        try:
            batch: Batch = (
                self._readers.read(work) if self._staging is None else self._staged(work, self._staging)
            )
            read = True
            given = work.count - len(batch.bad)
            if self._spec.add_input_key:
                name_rows(batch.data)
            called = perf_counter()
            result = await finished(self._call(work, batch)) if given else []
            collected = self._encoder.collect(result)
            run_s = perf_counter() - called
            rows = self._encoder.encode(collected, given, lambda: item_keys(work, batch))
        except BaseException as error:
            return self._came_to_nothing(one, error, run_s or perf_counter() - called, read=read)
        finally:
            if timer is not None:
                timer.cancel()
        if one.over:  # It was cancelled, and has gone on all the same.
            return self._came_to_nothing(one, None, run_s, read=True)
        return self._succeeded(work, batch, rows, run_s, perf_counter() - started)

    def _came_to_nothing(
        self, one: _Running, error: BaseException | None, run_s: float, *, read: bool
    ) -> Failed:
        if not one.over:
            assert error is not None
            return self._failed(one.work, error, run_s, read=read)
        work = one.work
        late = TimedOut(
            f"{CANCELLED}: over run_invocation_timeout: {self._spec.run_timeout_s:g} s"
            f" (pid {os.getpid()}, in mini-batch {work.mini_batch}, attempt {work.attempt})"
        )
        late.__cause__ = error  # Its traceback says for what it waited.
        return msgspec.structs.replace(self._failed(work, late, run_s, read=read), cause="timed_out")

    @types.coroutine
    def _step_by_step(
        self, coroutine: Coroutine[Any, Any, Outcome], attempt: int
    ) -> Generator[Any, Any, Outcome]:
        """Drives it, and writes into the clock when it has the loop."""
        clock, link = self._clock, self._link
        given: Any = None
        error: BaseException | None = None
        while True:
            clock[STEP] = attempt
            clock[MOVES] += 1
            try:
                awaited = coroutine.send(given) if error is None else coroutine.throw(error)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            finally:
                if link.forked:  # Before it writes into the clock, or goes on in a loop that is not its own.
                    end_copy()
                clock[STEP] = 0
            given = error = None
            try:
                given = yield awaited
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:
                trace = thrown.__traceback__
                error = thrown.with_traceback(trace and trace.tb_next)  # Without our own line.

    # Time

    def _set_timer(self, one: _Running) -> asyncio.TimerHandle | None:
        timeout_s = self._spec.run_timeout_s
        if math.isinf(timeout_s):
            return None
        return asyncio.get_running_loop().call_later(timeout_s, self._time_is_up, one)

    def _time_is_up(self, one: _Running) -> None:
        one.over = True
        self._clock[one.place + SLOT_CANCELLED] = one.work.attempt
        assert one.task is not None
        one.task.cancel()

    def _tick(self) -> None:
        """Count that the loop has come round, while anything runs."""
        self._clock[TICKS] += 1
        self._clock[MOVES] += 1
        if self._running:
            asyncio.get_running_loop().call_later(TICK_S, self._tick)
        else:
            self._ticking = False

    # Outcomes

    def _answer(self, outcome: Outcome) -> None:
        self._times.add(outcome.process_s if isinstance(outcome, Succeeded) else outcome.run_s)
        self._unsent.append(outcome)
        is_full = self._has_succeeded and isinstance(outcome, Failed) and outcome.error.type == "MemoryError"
        self._has_succeeded |= isinstance(outcome, Succeeded)
        if is_full or (self._times.mean_s or 0.0) > SEND_AFTER_S:
            self._flush()
        elif not self._flushes:  # Short ones together, those that end in the same round.
            self._flushes = True
            asyncio.get_running_loop().call_soon(self._flush_soon)
        if is_full:  # As `Processor` does; what runs beside it is tried again.
            os._exit(1)

    def _flush_soon(self) -> None:
        self._flushes = False
        try:
            self._flush()
        except Exception as error:
            self._end_with(error)
