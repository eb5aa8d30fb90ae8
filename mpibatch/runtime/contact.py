"""When rank 0 was last heard of, and when it last heard of this worker."""

from __future__ import annotations

LONG_STEP_S = 1.0
"""After a longer pause we ourselves stood still."""


class Contact:
    """`now` in seconds, rising. Only what was not read counts as silence."""

    def __init__(self, now: float) -> None:
        self._heard_at = self._spoke_at = self._stepped_at = now

    def step(self, now: float) -> float:
        """Called often; for how long we stood still, if we did: what came meanwhile has not been read yet."""
        stall_s = now - self._stepped_at
        self._stepped_at = now
        if stall_s <= LONG_STEP_S:
            return 0.0
        self._heard_at += stall_s
        return stall_s

    def heard(self, now: float) -> None:
        self._heard_at = now

    def spoke(self, now: float) -> None:
        self._spoke_at = now

    def silence_s(self, now: float) -> float:
        """For how long nothing was heard."""
        return now - self._heard_at

    def own_silence_s(self, now: float) -> float:
        """For how long nothing was said."""
        return now - self._spoke_at
