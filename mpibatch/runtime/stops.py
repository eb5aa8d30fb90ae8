"""Who asks a session to stop: signals, the stop file, and the parent that started the world here.

A first request lets what is running finish; a second one gives it up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import msgspec

from mpibatch.errors import InterruptedByUser, StoppedError
from mpibatch.runtime.lease import process_started

POLL_S = 0.5
LOCAL_FOLDER = "MPIBATCH_LOCAL"
"""Variable: the folder through which the parent that started this world and rank 0 speak."""
PARENT = "MPIBATCH_PARENT"
"""Variable: that parent, as "process id:start"."""
SIGNALS_FILE = "signals"
"""There: the names of the signals that the parent got, one a line."""
BEGUN_FILE = "begun"
"""There: rank 0 has begun, so that what goes wrong from now on is no fault of the launcher."""
EXIT_CODE_FILE = "exit_code"
AT_ONCE = "now"
"""Content of a stop file that gives up what is running."""

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
        self._parents_signals = _parents_signals()
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._signals = signals
        self._clock = clock
        self._term_grace_s = term_grace_s
        self._stop_file = stop_file
        self._parents_signals = _parents_signals()
        self._asked_by_file = False
        self._next_look = 0.0
        self._termed_at: float | None = None
        self.interrupted = False
        """A person has pressed Ctrl-C: exit code 130."""

    def poll(self) -> StopAsk | None:
        """What is asked now, if anything is. A request stands: it is given again with each call."""
        now = self._clock()
        if self._signals.got:
            return self._by_signals([number.name for number in self._signals.got], now)
        if now < self._next_look:
            return None
        self._next_look = now + POLL_S
        if parent_has_died():
            return StopAsk("the mpibatch that started this has died", True)
        names = (_content(self._parents_signals) or "").split()
        if names:
            return self._by_signals(names, now)
        asked = _content(self._stop_file)
        if asked is None:
            return None
        self._asked_by_file = True
        return StopAsk(f"asked to by {self._stop_file}", asked.strip() == AT_ONCE)

    def _by_signals(self, names: list[str], now: float) -> StopAsk:
        self.interrupted = self.interrupted or "SIGINT" in names
        if "SIGTERM" in names and self._termed_at is None:
            self._termed_at = now
        expired = self._termed_at is not None and now > self._termed_at + self._term_grace_s
        return StopAsk(f"got {names[0]}", len(names) + self._asked_by_file > 1 or expired)


def _parents_signals() -> Path | None:
    local = os.environ.get(LOCAL_FOLDER)
    return Path(local) / SIGNALS_FILE if local else None


def _content(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(errors="replace")
    except OSError:
        return None


# What a rank of a world that was started here leaves for its parent


def parent_has_died() -> bool:
    """Whether a parent started this world here and is no more."""
    pid, _, started = os.environ.get(PARENT, "").partition(":")
    return bool(pid) and process_started(int(pid)) != int(started)


def tell_parent(name: str, content: str = "") -> bool:
    """Leave a file for the parent, if one started this world: whether it is there. If the parent has died,
    its folder is removed."""
    local = os.environ.get(LOCAL_FOLDER)
    if not local:
        return False
    try:
        (Path(local) / name).write_text(content)
        told = True
    except OSError:  # A full disk, and the parent sees less.
        told = False
    if parent_has_died():
        shutil.rmtree(local, ignore_errors=True)
    return told
