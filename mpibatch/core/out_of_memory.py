"""Nodes whose memory does not do for all of their workers. Pure."""

from __future__ import annotations

from collections import Counter

from mpibatch.core.crew import Crew

KILLS = 2
"""Processors of a node that the kernel kills for memory until one worker less is used there."""


class MemoryKills:
    """Tell it of each processor that was killed for memory."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._kills: Counter[int] = Counter()

    def killed(self, number: int) -> bool:
        """Returns whether this worker is to be retired. The last one of a node never is."""
        worker = self._crew.workers.get(number)
        if worker is None or worker.lost:
            return False
        self._kills[worker.node] += 1
        if self._kills[worker.node] % KILLS:
            return False
        return self._crew.usable_on(worker.node) - (not worker.barred) > 0
