"""Who asks a session to stop: signals, the stop file, the parent that started the world here, and the wall time.

A first request lets what is running finish; a second one gives it up, and so does the end of the wall time.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Literal

import msgspec

from mpibatch.core.settings import printable
from mpibatch.errors import InterruptedByUser, StoppedError
from mpibatch.runtime.local_folder import parent_has_died, parents_signals
from mpibatch.runtime.wall_time import WallTime

POLL_S = 0.5
EARLY_S = 75.0
"""Slurm may send its signal up to a minute before it should."""
AT_ONCE = "now"
"""Content of a stop file that gives up what is running."""
OF_BATCH_SCRIPTS = "the batch script got "
"""How what batch scripts write there begins: which signal they got."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)


def catch_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Have the signals that ask to stop call `handler`, but for those that are ignored: `nohup` wants it so,
    and a shell for what it starts in the background. For the main thread."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


class StopAsk(msgspec.Struct, frozen=True):
    reason: str
    at_once: bool


class Signals:
    """Counts the signals that ask to stop. Install in the main thread."""

    def __init__(self) -> None:
        self.got: list[signal.Signals] = []
        self._parents_signals = parents_signals()
        self._breaking_off = False

    def install(self) -> None:
        catch_signals(self._note)

    @contextlib.contextmanager
    def breaking_off(self) -> Iterator[None]:
        """While nothing is lost by it: a signal that asks to stop raises StoppedError, there and then."""
        self._breaking_off = True
        before = signal.signal(signal.SIGALRM, self._look)
        if self._parents_signals is not None:
            signal.setitimer(signal.ITIMER_REAL, POLL_S, POLL_S)
        try:
            self._break_off([number.name for number in self.got])
            yield
        finally:
            self._breaking_off = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Within `breaking_off`: meanwhile signals are only noted, as somebody polls `Stops`. What has come by then
        breaks off afterwards."""
        before, self._breaking_off = self._breaking_off, False
        try:
            yield
        finally:
            self._breaking_off = before
        self._break_off([number.name for number in self.got])

    def no_return(self) -> None:
        """What is being done from now on must not be broken off: signals are noted."""
        self._breaking_off = False

    def raise_asked(self, doing: str) -> None:
        """Raises StoppedError, which says what was being done, if a signal has asked to stop."""
        names = [number.name for number in self.got] or (_content(self._parents_signals) or "").split()
        if names:
            kind = InterruptedByUser if "SIGINT" in names else StoppedError
            raise kind(f"got {names[0]} {doing}")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.got.append(signal.Signals(number))
        self._break_off([signal.Signals(number).name])

    def _look(self, number: int, frame: FrameType | None) -> None:
        self._break_off((_content(self._parents_signals) or "").split())

    def _break_off(self, names: list[str]) -> None:
        if names and self._breaking_off:
            self._breaking_off = False
            kind = InterruptedByUser if "SIGINT" in names else StoppedError
            raise kind(f"stopped before any work was begun (got {names[0]})")


class Stops:
    """Ask `poll` often. `term_grace_s`: what remains after SIGTERM before a machine is taken away."""

    def __init__(
        self,
        signals: Signals,
        stop_file: Path,
        *,
        term_grace_s: float,
        wall_time: WallTime | None = None,
        above: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`above`: a second stop file, that of the pipeline whose step this is."""
        self._signals = signals
        self._wall_time = wall_time
        self._clock = clock
        self._term_grace_s = term_grace_s
        self._stop_files = [stop_file, *([above] if above is not None else [])]
        self._parents_signals = parents_signals()
        self._asked_by_file = False
        self._next_look = 0.0
        self._termed_at: float | None = None
        self.interrupted = False
        """A person has pressed Ctrl-C: exit code 130."""
        self.asker: Literal["signal", "file", "wall_time"] | None = None
        """Who was the first to ask: a stop file is a person's."""
        self.time_was_up = False
        """The wall time was nearly over then, whoever asked: batch scripts touch the stop file for it."""

    def poll(self) -> StopAsk | None:
        """What is asked now, if anything is. A request stands: it is given again with each call."""
        now = self._clock()
        if not self._signals.got and now < self._next_look:
            return None
        self._next_look = now + POLL_S
        asked = self._by_somebody(now)
        told = self._wall_time.ask(now) if self._wall_time is not None else None
        if self.asker is None and asked is not None:
            self.asker = "file" if self._asked_by_file else "signal"
            self.time_was_up = self._is_nearly_over(now)
        if told is None:
            return asked
        self.time_was_up = self.time_was_up or self.asker is None
        self.asker = self.asker or "wall_time"
        reason, at_once = told
        # No second request: batch systems send their signal at about that time.
        return StopAsk(asked.reason if asked else reason, at_once or (asked is not None and asked.at_once))

    def _is_nearly_over(self, now: float) -> bool:
        left = self._wall_time.left(now) if self._wall_time is not None else None
        return self._wall_time is not None and left is not None and left < self._wall_time.margin_s + EARLY_S

    def _by_somebody(self, now: float) -> StopAsk | None:
        if self._signals.got:
            return self._by_signals([number.name for number in self._signals.got], now)
        if parent_has_died():
            return StopAsk("the mpibatch that started this has died", True)
        names = (_content(self._parents_signals) or "").split()
        if names:
            return self._by_signals(names, now)
        for file in self._stop_files:
            asked = _content(file)
            if asked is not None:
                return self._by_file(file, asked.strip())
        return None

    def _by_file(self, file: Path, words: str) -> StopAsk:
        self._asked_by_file = True
        if words.startswith(OF_BATCH_SCRIPTS):
            return StopAsk(printable(words), False)
        return StopAsk(f"asked to by {file}", words == AT_ONCE)

    def _by_signals(self, names: list[str], now: float) -> StopAsk:
        self.interrupted = self.interrupted or "SIGINT" in names
        if "SIGTERM" in names and self._termed_at is None:
            self._termed_at = now
        expired = self._termed_at is not None and now > self._termed_at + self._term_grace_s
        return StopAsk(f"got {names[0]}", len(names) + self._asked_by_file > 1 or expired)


def _content(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(errors="replace")
    except OSError:
        return None
