"""Who asks a session to stop: signals, the stop file, and the parent that started the world here.

A first request lets what is running finish; a second one gives it up.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import msgspec

from mpibatch.runtime.lease import process_started

POLL_S = 0.5
LOCAL_FOLDER = "MPIBATCH_LOCAL"
"""Variable: the folder through which the parent that started this world and rank 0 speak."""
PARENT = "MPIBATCH_PARENT"
"""Variable: that parent, as "process id:start"."""
STOP_FILE = "stop"
EXIT_CODE_FILE = "exit_code"
AT_ONCE = "now"
"""Content of a stop file that gives up what is running."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class StopAsk(msgspec.Struct, frozen=True):
    reason: str
    at_once: bool


class Signals:
    """Counts the signals that ask to stop. Install in the main thread."""

    def __init__(self) -> None:
        self.got: list[signal.Signals] = []

    def install(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.got.append(signal.Signals(number))


class Stops:
    """Ask `poll` often. `term_grace_s`: what remains after SIGTERM before a machine is taken away."""

    def __init__(
        self,
        signals: Signals,
        stop_file: Path,
        *,
        term_grace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._signals = signals
        self._clock = clock
        self._term_grace_s = term_grace_s
        local = os.environ.get(LOCAL_FOLDER)
        self._files = [stop_file, *([Path(local) / STOP_FILE] if local else [])]
        self._parent = _parent()
        self._next_look = 0.0
        self._termed_at: float | None = None
        self.interrupted = False
        """A person has pressed Ctrl-C: exit code 130."""

    def poll(self) -> StopAsk | None:
        """What is asked now, if anything is. A request stands: it is given again with each call."""
        now = self._clock()
        got = self._signals.got
        if got:
            self.interrupted = self.interrupted or signal.SIGINT in got
            if signal.SIGTERM in got and self._termed_at is None:
                self._termed_at = now
            expired = self._termed_at is not None and now > self._termed_at + self._term_grace_s
            return StopAsk(f"got {got[0].name}", len(got) > 1 or expired)
        if now < self._next_look:
            return None
        self._next_look = now + POLL_S
        if self._parent is not None and process_started(self._parent[0]) != self._parent[1]:
            return StopAsk("the mpibatch that started this has died", True)
        for file in self._files:
            try:
                content = file.read_text()
            except OSError:
                continue
            return StopAsk(f"asked to by {file}", content.strip() == AT_ONCE)
        return None


def _parent() -> tuple[int, int] | None:
    value = os.environ.get(PARENT)
    if not value:
        return None
    pid, _, started = value.partition(":")
    return int(pid), int(started)
