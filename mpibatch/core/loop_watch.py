"""Whether the event loop of a processor gets on, and which mini-batch holds it up if it does not. Pure.

The loop itself ends what is over its time: it cancels it. What is left to be seen from outside is a mini-batch that
does not end when it is cancelled, and a loop that stands still because something in it does not wait, but works or
sleeps without giving the others their turn.
"""

from __future__ import annotations

from typing import Literal

import msgspec

TICK_S = 0.25
"""A loop that has work counts so often that it has come round."""
TICKS_TO_END = 8
"""For a mini-batch that has been cancelled, to close what it has open. In rounds of the loop, so that it is not held
for obstinate while others kept the loop from it."""
STANDSTILL_GRACE_S = 1.0
"""So much longer than its own time may a mini-batch hold the loop, which has to be able to cancel it first."""


CANCELLED = "it was cancelled"
"""How the words on a mini-batch begin that the loop has ended as its time was up."""


class LoopReading(msgspec.Struct, frozen=True, gc=False):
    """What the memory shows that worker and processor share."""

    moves: int
    """Changes with each step of a mini-batch and each round."""
    ticks: int
    step: int
    """The attempt whose code holds the loop; 0: none."""
    running: bool
    """Whether any attempt runs."""
    cancelled: list[int]
    """Attempts that were cancelled, as their time was up, and have not ended."""


class Stuck(msgspec.Struct, frozen=True, gc=False):
    """The processor has to be killed."""

    why: Literal["over_time", "blocked", "standstill"]
    """It did not end when it was cancelled; it holds the loop for too long; nothing runs, and yet nothing begins."""
    attempt: int
    """Which one it is that is to blame; 0: that cannot be told."""


class LoopWatch:
    """Of one processor. `timeout_s`: of one mini-batch; `standstill_s`: how long nothing may begin."""

    def __init__(self, timeout_s: float, standstill_s: float) -> None:
        self._blocked_s = timeout_s + STANDSTILL_GRACE_S
        self._standstill_s = standstill_s
        self._seen: tuple[int, int] | None = None
        self._alive_at = 0.0
        self._told_at: dict[int, int] = {}
        """By attempt that was cancelled: the tick at which that was seen first."""

    def stood_still(self, seconds: float) -> None:
        """We ourselves did: what happened meanwhile has not been seen yet."""
        self._alive_at += seconds

    def judge(self, reading: LoopReading, received: int, *, handed: bool, now: float) -> Stuck | None:
        """Whether it is stuck. `received`: bytes that have come from it; `handed`: whether it has work."""
        seen = (reading.moves, received)
        if not handed or seen != self._seen:
            self._seen = seen
            self._alive_at = now
        self._told_at = {one: self._told_at.get(one, reading.ticks) for one in reading.cancelled}
        for attempt, tick in self._told_at.items():
            if reading.ticks - tick >= TICKS_TO_END:
                return Stuck("over_time", attempt)
        quiet_s = now - self._alive_at
        if reading.running and quiet_s > self._blocked_s:
            return Stuck("blocked", reading.step)
        if not reading.running and quiet_s > self._standstill_s:
            return Stuck("standstill", 0)
        return None
