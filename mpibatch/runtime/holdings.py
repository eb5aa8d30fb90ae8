"""What a worker was granted and has not reported: some waits here, the next ones are with the processor.

The processor holds the mini-batch that it is at and some milliseconds' worth behind it, so that it never waits for
its worker. What it has not begun can be taken back although it is busy in `run()`: through the memory that both see.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from mpibatch.core.grants import LEAST_IN_FLIGHT, MOST_IN_FLIGHT, RunTimes
from mpibatch.runtime.clock import Clock
from mpibatch.work import Assignment

PROCESSOR_HORIZON_S = 0.01
"""Mini-batches shorter than this are handed to the processor several at a time."""


def handed_target(mean_s: float | None) -> int:
    """Mini-batches that the processor itself should hold, one that runs among them."""
    if mean_s is None:
        return LEAST_IN_FLIGHT
    by_time = math.ceil(PROCESSOR_HORIZON_S / max(mean_s, 1e-6))
    return min(MOST_IN_FLIGHT, max(LEAST_IN_FLIGHT, by_time))


class Running(msgspec.Struct, frozen=True):
    """An attempt that a processor is at. `run_s`: for how long."""

    work: Assignment
    run_s: float


def described(running: Sequence[Running]) -> str:
    """Where a processor was when it died."""
    if len(running) == 1:
        work = running[0].work
        return f"in mini-batch {work.mini_batch}, attempt {work.attempt}"
    numbers = sorted(one.work.mini_batch for one in running)
    return f"in mini-batches {', '.join(map(str, numbers))} at a time"


class Holdings:
    """Attempts rise in the order in which they are granted, and the processor has them in this order. `concurrency`:
    how many of them it runs at a time."""

    def __init__(self, concurrency: int = 1) -> None:
        self._concurrency = concurrency
        self._others = concurrency - 1
        self._waiting: deque[Assignment] = deque()
        self._handed: dict[int, Assignment] = {}
        self._times = RunTimes()

    @property
    def handed(self) -> bool:
        """Whether the processor has anything to do."""
        return bool(self._handed)

    @property
    def mean_s(self) -> float:
        """Measured seconds from the end of one mini-batch to that of the next; 0 before the first."""
        return (self._times.mean_s or 0.0) / self._concurrency

    def granted(self, assignments: list[Assignment]) -> None:
        self._waiting.extend(assignments)

    def next_batch(self) -> list[Assignment]:
        """What the processor is to be handed now: nothing, or enough to be worth a message."""
        if not self._waiting:
            return []
        held = len(self._handed) - self._others
        target = handed_target(self._times.mean_s and self.mean_s)
        if 2 * held > target:
            return []
        room = min(target - held, len(self._waiting))
        batch = [self._waiting.popleft() for _ in range(room)]
        self._handed.update((assignment.attempt, assignment) for assignment in batch)
        return batch

    def ended(self, attempt: int, seconds: float) -> bool:
        """Whether the processor had this attempt; it has it no more."""
        if self._handed.pop(attempt, None) is None:
            return False
        self._times.add(seconds)
        return True

    def running(self, clock: Clock, now_ns: int) -> list[Running]:
        """What the processor is at, of what was handed to it."""
        return [
            Running(self._handed[attempt], (now_ns - started_ns) / 1e9)
            for attempt, started_ns in clock.all_running()
            if attempt in self._handed
        ]

    def suspect(self, several: Iterable[Running]) -> None:
        """One of these has killed the processor: they are to run one at a time."""
        for one in several:
            attempt = one.work.attempt
            self._handed[attempt] = msgspec.structs.replace(self._handed[attempt], alone=True)

    def give_back(self, asked: set[int], clock: Clock | None) -> list[int]:
        """Of those asked for, the attempts that have not been begun: they are held no more."""
        mine = [assignment.attempt for assignment in self._waiting if assignment.attempt in asked]
        if mine:
            self._waiting = deque(one for one in self._waiting if one.attempt not in asked)
        if clock is not None and clock.may_revoke():
            mine += self._revoke(asked, clock)
        return mine

    def _revoke(self, asked: set[int], clock: Clock) -> list[int]:
        """The processor passes over a range of attempts, so only the last ones that it has can be taken."""
        last = list(itertools.takewhile(asked.__contains__, reversed(self._handed)))
        if not last:
            return []
        begun = clock.revoke(last[-1], last[0])
        taken = [attempt for attempt in reversed(last) if attempt > begun]
        for attempt in taken:
            del self._handed[attempt]
        return taken

    def passed_over(self, attempt: int) -> bool:
        """The processor has not made it. Whether it was still held, as it seemed to have begun when asked for."""
        return self._handed.pop(attempt, None) is not None

    def processor_died(self) -> None:
        """What it had and did not report goes to its successor, before all else."""
        self._waiting.extendleft(reversed(self._handed.values()))
        self._handed.clear()

    def give_up(self) -> list[int]:
        """Hold nothing more; what was held."""
        attempts = [*self._handed, *(assignment.attempt for assignment in self._waiting)]
        self._handed.clear()
        self._waiting.clear()
        return attempts
