"""A worker: supervises one processor. It hands on what it is granted, times it, replaces it when it dies,
and reports. `step` does what can be done now and never blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import assert_never

from mpibatch.core.framing import decoder, encode
from mpibatch.messages import (
    Dismissed,
    Goodbye,
    Grant,
    Heartbeat,
    Ping,
    Pull,
    Recall,
    Release,
    StopAsked,
    ToCoordinator,
    ToWorker,
    WorkerSetup,
)
from mpibatch.runtime.contact import Contact
from mpibatch.runtime.memory import MemoryWatch
from mpibatch.runtime.transport import COORDINATOR, Port
from mpibatch.runtime.workplace import Workplace

OVER_PATIENCE_S = 3600.0
"""Seconds that a worker that is over waits for rank 0."""
SHORTEST_PATIENCE_S = 0.01
LONGEST_PATIENCE_S = 0.1
"""A recall, a stop or a pulled fragment may wait so long while the processor is busy."""

_decode = decoder(ToWorker)


class Worker:
    """Step it until it is `over`. `port` leads to the coordinator, on rank `COORDINATOR`.

    Several sessions may follow each other; each begins with a `WorkerSetup`.
    """

    def __init__(
        self,
        port: Port,
        *,
        rank: int,
        host: str,
        clock: Callable[[], float] = time.monotonic,
        memory: MemoryWatch | None = None,
    ) -> None:
        self._port = port
        self._rank = rank
        self._host = host
        self._clock = clock
        self._memory = memory or MemoryWatch()
        self._contact = Contact(clock())
        self._setup: WorkerSetup | None = None
        self._workplace: Workplace | None = None
        self._over = False
        self.dismissed: Dismissed | None = None
        """The coordinator's last word: the rank is to end."""

    @property
    def over(self) -> bool:
        """Everything has ended and been said."""
        return self._over if self._workplace is None else self._workplace.over

    def fds(self) -> list[tuple[int, bool]]:
        """What may wake this worker: (file descriptor, whether also to be writable)."""
        return self._workplace.fds() if self._workplace is not None else []

    @property
    def patience_s(self) -> float | None:
        """How long rank 0 can wait, while the processor has work: its outcome comes first, and wakes us.

        None while something of rank 0 may be urgent. Long enough that mostly the outcome comes first, as with
        many workers on a node each wake counts; its next work the processor has already.
        """
        mean_s = self._workplace.mean_s if self._workplace is not None else None
        if mean_s is None or self._port.pressing():
            return None
        return min(LONGEST_PATIENCE_S, max(SHORTEST_PATIENCE_S, 1.25 * mean_s))

    def step(self) -> bool:
        """Do what can be done now; True if anything was."""
        now = self._clock()
        stall_s = self._contact.step(now)
        # First the processor, which may be waiting.
        acted = self._workplace is not None and self._workplace.step(now, stall_s)
        for _, body in self._port.receive():
            acted = True
            self._contact.heard(now)
            self._take(_decode(body))
        self._show_life(now)
        return acted

    def coordinator_silent(self) -> bool:
        """Whether rank 0 has not been heard of for too long: then this rank has to end."""
        if self._setup is None:
            return False
        # Nothing is at stake once all is said, and rank 0 may be looking at a million inputs before it ends.
        patience_s = max(self._setup.silence_s, OVER_PATIENCE_S if self.over else 0.0)
        return self._contact.silence_s(self._clock()) > patience_s

    def ask_to_stop(self, reason: str) -> None:
        """Tell the coordinator that the run should stop."""
        self._say(StopAsked(reason))

    def abandon(self) -> None:
        """Kill the processor and tidy up, without a word: the coordinator is gone."""
        if self._workplace is not None:
            self._workplace.abandon()

    def _take(self, message: ToWorker) -> None:
        place = self._workplace
        match message:
            case WorkerSetup():
                self._begin(message)
            case Dismissed():
                self.dismissed = message
            case Ping():
                pass
            case Release(at_once):
                if place is not None:
                    place.release(at_once)
                elif not self._over:  # Nothing was begun here.
                    self._over = True
                    self._say(Goodbye())
            case Grant(assignments):
                if place is not None:
                    place.granted(assignments)
            case Pull(attempt):
                if place is not None:
                    place.pulled(attempt)
            case Recall(attempts):
                if place is not None:
                    place.recalled(set(attempts))
            case _:
                assert_never(message)

    def _begin(self, setup: WorkerSetup) -> None:
        """A session begins, after another one where there was one."""
        if self._workplace is not None and not self._workplace.over:
            self._workplace.abandon()  # Rank 0 has waited for its end, and goes on without.
        self._setup = setup
        self._workplace = Workplace(
            setup, rank=self._rank, host=self._host, clock=self._clock, memory=self._memory, say=self._say
        )

    def _show_life(self, now: float) -> None:
        if self._setup is None or self._workplace is None or self.over:
            return
        progress = self._workplace.progress(now)
        if progress or self._contact.own_silence_s(now) > self._setup.heartbeat_s:
            self._say(Heartbeat(progress))

    def _say(self, message: ToCoordinator) -> None:
        self._contact.spoke(self._clock())
        self._port.send(COORDINATOR, encode(message))
