"""The end of a session: first, for a moment, the output; then workers are released; then they are waited for."""

from __future__ import annotations

import math

OUTPUT_FIRST_S = 0.25
"""Seconds that the output of a complete run gets before processors are told to end."""
GOODBYE_S = 10.0
"""Seconds that workers get, beyond `shutdown()`, to end after their release."""


class Farewell:
    """When to release, and until when to wait. `shutdown_timeout_s`: what `shutdown()` of a script may take."""

    def __init__(self, shutdown_timeout_s: float) -> None:
        self._shutdown_timeout_s = shutdown_timeout_s
        self._release_at = math.inf
        self._deadline = math.inf
        self.released = False

    def begin(self, now: float, *, complete: bool) -> None:
        """All is concluded. `complete`: an output is to be put into its place, and processors' ends compete with it
        for the machine."""
        self._release_at = now + (OUTPUT_FIRST_S if complete else 0.0)
        self._deadline = now + self._shutdown_timeout_s + GOODBYE_S + OUTPUT_FIRST_S

    def due(self, now: float, *, durable: bool) -> bool:
        """Whether workers are to be released now; says so once."""
        if self.released or not (now >= self._release_at or (self._release_at < math.inf and durable)):
            return False
        self.released = True
        return True

    def overdue(self, now: float) -> bool:
        """Whether whoever has not said goodbye is waited for no more."""
        return now > self._deadline
