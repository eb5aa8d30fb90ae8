"""One processor under its worker's eyes, from its start to its death."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from mpibatch.core.framing import FrameError
from mpibatch.messages import Finish, FromProcessor, ToProcessor
from mpibatch.runtime.pulse import Pulse
from mpibatch.runtime.supervisor import Child
from mpibatch.runtime.worker_log import WorkerLog
from mpibatch.work import Cause

EOF_GRACE_S = 1.0
"""Between the end of a processor's connection and its death; then it has only closed the connection."""


class Watched:
    """`listen` and `look_after` it often. What gets stuck is killed; that it has `ended` shows later."""

    def __init__(self, child: Child, pulse: Pulse, log: WorkerLog, deadline: float) -> None:
        """`deadline`: when it has to be ready."""
        self.child = child
        self.ready = False
        """`init()` is done."""
        self.killed_for: tuple[Cause, str] | None = None
        """Why we have killed it."""
        self.blamed = 0
        """The attempt for which we have, of several that ran; 0: that is not known."""
        self._finishing = False
        self._pulse = pulse
        self._log = log
        self._deadline = deadline
        self._eof_at = math.inf
        pulse.begin()

    def becomes_ready(self) -> None:
        self.ready = True
        self._deadline = math.inf

    def send(self, message: ToProcessor) -> None:
        self.child.send(message)

    def finish(self, deadline: float) -> None:
        """It is to end by itself, until then."""
        self._finishing = True
        self._deadline = deadline
        self.child.send(Finish())

    def kill(self, cause: Cause, why: str) -> None:
        self.killed_for = (cause, why)
        self._log.info(f"killing pid {self.child.pid}: {why}")
        self.child.kill()

    def listen(self) -> Iterator[FromProcessor]:
        """What it has said; it is killed where that is nonsense."""
        try:
            yield from self.child.receive()
        except FrameError as error:
            if self.killed_for is None:
                self.kill("died", f"the script wrote into the connection to mpibatch: {error}")

    def look_after(self, now: float, *, handed: bool) -> None:
        """Kill it where it has got stuck. `handed`: it has work."""
        if self.killed_for is not None:
            return
        if self.child.eof and not self._finishing:
            # A dying process closes its files some moments before it is dead.
            self._eof_at = min(self._eof_at, now)
            if now - self._eof_at > EOF_GRACE_S:
                self.kill("died", "it closed its connection to mpibatch")
        elif now > self._deadline:
            if self._finishing:
                self.kill("died", "shutdown() took too long")
            else:
                self.kill("timed_out", "over init_timeout")
        elif self.ready and not self._finishing:
            wrong = self._pulse.judge(
                self.child.clock, self.child.received, handed=handed, now=now, now_ns=time.monotonic_ns()
            )
            if wrong is not None:
                self.blamed = wrong.attempt
                self.kill(wrong.cause, wrong.why)
