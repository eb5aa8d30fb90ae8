"""Whether a processor that is ready gets on, as the memory that it shares with its worker shows."""

from __future__ import annotations

from mpibatch.core.liveness import OverTime
from mpibatch.runtime.clock import Clock
from mpibatch.work import Cause

SHORTEST_STANDSTILL_S = 5.0
LONGEST_STANDSTILL_S = 60.0
"""Between two mini-batches: as long as `run()` may take, within these. A busy node may let it wait a little."""
BEAT_S = 1.0
"""Rank 0 is told so often at most that the script says that it gets on."""


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
        self._seen: tuple[int, int] | None = None
        self._alive_at = 0.0
        self._beats = 0

    def stood_still(self, seconds: float) -> None:
        """We ourselves did: what came meanwhile has not been read yet."""
        self._alive_at += seconds

    def judge(
        self, clock: Clock, received: int, *, handed: bool, now: float, now_ns: int
    ) -> tuple[Cause, str] | None:
        """Why it is to be killed, if it is.

        `received`: bytes that have come from it, as a long answer takes its time; `handed`: whether it has work.
        """
        attempt, started_ns = clock.running()
        if self._over_time.judge(attempt, started_ns, now_ns):
            return "timed_out", f"over run_invocation_timeout: {self._timeout_s:g} s"
        seen = (clock.latest, received)
        if attempt or not handed or seen != self._seen:
            self._seen = seen
            self._alive_at = now
        elif now - self._alive_at > self._standstill_s:
            return "died", f"it stood still between two mini-batches for {self._standstill_s:g} s"
        return None

    def beaten(self, clock: Clock, now: float) -> bool:
        """Whether rank 0 is to be told that the script has said since the last time that it gets on."""
        if now - self._beaten_at < BEAT_S or clock.heartbeats == self._beats:
            return False
        self._beats = clock.heartbeats
        self._beaten_at = now
        return True
