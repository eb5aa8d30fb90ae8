"""Whether a processor that is ready gets on, as the memory that it shares with its worker shows."""

from __future__ import annotations

from typing import assert_never

import msgspec

from mpibatch.core.liveness import OverTime
from mpibatch.core.loop_watch import LoopWatch
from mpibatch.runtime.clock import Clock
from mpibatch.work import Cause

SHORTEST_STANDSTILL_S = 5.0
LONGEST_STANDSTILL_S = 60.0
"""Between two mini-batches: as long as `run()` may take, within these. A busy node may let it wait a little."""
LOOK_S = 0.1
"""A processor with an event loop is looked at so often at most, as it may have a thousand attempts to look at."""
BEAT_S = 1.0
"""Rank 0 is told so often at most that the script says that it gets on."""


class Wrong(msgspec.Struct, frozen=True):
    """Why a processor is to be killed. `attempt`: the one to blame, where several may run; 0: that is not known."""

    cause: Cause
    why: str
    attempt: int = 0


class Pulse:
    """Of one processor at a time, from `begin` on. `now`: in seconds."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s`: of one `run()`."""
        self._timeout_s = timeout_s
        self._over_time = OverTime(timeout_s)
        self._standstill_s = min(LONGEST_STANDSTILL_S, max(SHORTEST_STANDSTILL_S, timeout_s))
        self._beaten_at = float("-inf")
        self.begin()

    def begin(self) -> None:
        """Another processor."""
        self._over_time = OverTime(self._timeout_s)
        self._loop = LoopWatch(self._timeout_s, self._standstill_s)
        self._looked_at = float("-inf")
        self._seen: tuple[int, int] | None = None
        self._alive_at = 0.0
        self._beats = 0

    def stood_still(self, seconds: float) -> None:
        """We ourselves did: what came meanwhile has not been read yet."""
        self._alive_at += seconds
        self._loop.stood_still(seconds)

    def judge(self, clock: Clock, received: int, *, handed: bool, now: float, now_ns: int) -> Wrong | None:
        """Why it is to be killed, if it is.

        `received`: bytes that have come from it, as a long answer takes its time; `handed`: whether it has work.
        """
        if clock.has_loop:
            return self._judge_loop(clock, received, handed=handed, now=now)
        attempt, started_ns = clock.running()
        if self._over_time.judge(attempt, started_ns, now_ns):
            return Wrong("timed_out", self._over)
        seen = (clock.latest, received)
        if attempt or not handed or seen != self._seen:
            self._seen = seen
            self._alive_at = now
        elif now - self._alive_at > self._standstill_s:
            return Wrong("died", self._stood_still)
        return None

    def _judge_loop(self, clock: Clock, received: int, *, handed: bool, now: float) -> Wrong | None:
        if now - self._looked_at < LOOK_S:
            return None
        self._looked_at = now
        stuck = self._loop.judge(clock.loop(), received, handed=handed, now=now)
        if stuck is None:
            return None
        match stuck.why:
            case "over_time":
                return Wrong(
                    "timed_out", f"{self._over}, and it went on when it was cancelled", stuck.attempt
                )
            case "blocked":
                why = f"{self._over}, and the event loop stood still, as code in run() that is not awaited holds it"
                return Wrong("timed_out", why, stuck.attempt)
            case "standstill":
                return Wrong("died", self._stood_still)
            case _:
                assert_never(stuck.why)

    @property
    def _over(self) -> str:
        return f"over run_invocation_timeout: {self._timeout_s:g} s"

    @property
    def _stood_still(self) -> str:
        return f"it stood still between two mini-batches for {self._standstill_s:g} s"

    def beaten(self, clock: Clock, now: float) -> bool:
        """Whether rank 0 is to be told that the script has said since the last time that it gets on."""
        if now - self._beaten_at < BEAT_S or clock.heartbeats == self._beats:
            return False
        self._beats = clock.heartbeats
        self._beaten_at = now
        return True
