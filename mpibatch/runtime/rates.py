"""How fast a run is going: over the last seconds, so that a slow start is forgotten."""

from __future__ import annotations

from collections import deque

from mpibatch.core.accounting import Tally

WINDOW_S = 15.0


class Rates:
    """Remembers (time, mini-batches ended, rows) of the last `WINDOW_S`."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, tally: Tally) -> None:
        self._seen.append((now, tally.mini_batches_ended, tally.rows))
        while len(self._seen) > 2 and self._seen[1][0] < now - WINDOW_S:
            self._seen.popleft()

    def _over_window(self) -> tuple[float, int, int]:
        if len(self._seen) < 2:
            return 0.0, 0, 0
        first, last = self._seen[0], self._seen[-1]
        return last[0] - first[0], last[1] - first[1], last[2] - first[2]

    @property
    def mini_batches_per_s(self) -> float:
        seconds, mini_batches, _ = self._over_window()
        return mini_batches / seconds if seconds > 0 else 0.0

    @property
    def rows_per_s(self) -> float:
        seconds, _, rows = self._over_window()
        return rows / seconds if seconds > 0 else 0.0

    def remaining_s(self, tally: Tally) -> float | None:
        """Estimate; None before anything has ended."""
        rate = self.mini_batches_per_s
        return (tally.mini_batches_total - tally.mini_batches_ended) / rate if rate > 0 else None
