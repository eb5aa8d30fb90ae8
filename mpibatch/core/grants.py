"""How many pieces go in one message. Pure arithmetic.

Short mini-batches travel in hundreds, so that no message costs more than its work; long ones singly,
so that the tail stays balanced; and always two are in flight, so that no processor waits for a round trip.
"""

from __future__ import annotations

import math
from collections.abc import Collection

HORIZON_S = 0.02
"""Seconds of work that a worker should have in flight: many round trips, nothing that a person notices."""

LEAST_IN_FLIGHT = 2
MOST_IN_FLIGHT = 512
MOST_CONCURRENT = 1024
"""Mini-batches that may run in one processor at a time."""


def beyond(concurrency: int) -> int:
    """Pieces that a worker has in flight besides those of one that runs them one by one: as many as run at a time,
    so that there are always two behind them."""
    return concurrency if concurrency > 1 else 0


def may_begin(alone: bool, running: Collection[bool], concurrency: int) -> bool:
    """Whether the next one may begin beside those that run. Of each: whether it has to run alone."""
    if not running:
        return True
    return len(running) < concurrency and not alone and not any(running)


def in_flight_target(mean_s: float | None, waiting: int, workers: int) -> int:
    """Pieces that one worker should have in flight, `beyond` what is owed to concurrency.

    `mean_s`: measured seconds of a mini-batch, None before the first; `waiting`: pieces not handed out
    yet. Near the end each worker gets half of its share of what is left (guided self-scheduling).
    """
    if mean_s is None:
        return LEAST_IN_FLIGHT
    by_time = math.ceil(HORIZON_S / mean_s) if mean_s > HORIZON_S / MOST_IN_FLIGHT else MOST_IN_FLIGHT
    fair_share = waiting // (2 * workers)
    return max(LEAST_IN_FLIGHT, min(by_time, fair_share))


class RunTimes:
    """Mean seconds of a mini-batch, recent ones weighing more."""

    __slots__ = ("_weight", "mean_s")

    def __init__(self) -> None:
        self.mean_s: float | None = None
        self._weight = 0.5  # The first mini-batch often pays for warming up: forget it fast.

    def add(self, seconds: float) -> None:
        """Take in one measured time; what cannot be one (a negative, no number) is left out."""
        if not 0 <= seconds < math.inf:
            return
        if self.mean_s is None:
            self.mean_s = seconds
            return
        self.mean_s += (seconds - self.mean_s) * self._weight
        if self._weight > 0.02:
            self._weight *= 0.9
