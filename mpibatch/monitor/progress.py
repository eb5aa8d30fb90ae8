"""What is seen while a run goes on: a bar on a terminal, elsewhere a line every ten seconds.

A run never fails, and never waits, because of who looks at it: when the terminal or the pipe goes away,
what is written is lost without a word; when a terminal is held (Ctrl-S), the bar stands still.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

from mpibatch.monitor.bar import TerminalProgress, ended
from mpibatch.monitor.figures import counted, duration, mini_batches, percent, rate, shown
from mpibatch.monitor.outlet import Outlet, device_of, is_terminal, lines, open_terminal
from mpibatch.results import Snapshot

log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0


class Progress(Protocol):
    """What the session calls; no method raises because of the stream, and none blocks on a terminal."""

    def update(self, snapshot: Snapshot) -> None:
        """Call as often as is convenient: how often something is shown is decided here."""

    def say(self, text: str) -> None:
        """Show a line of its own at once: a warning."""

    def close(self) -> None:
        """Leave the last state and a clean line behind; to be called once more does no harm."""


def make_progress(
    stream: TextIO,
    tty_path: str | None,
    name: str,
    clock: Callable[[], float] = time.monotonic,
    *,
    environment: Mapping[str, str] = os.environ,
) -> Progress:
    """The bar on the terminal `tty_path`, failing that on `stream` where it is one, else lines on `stream`.

    `tty_path`: the device of the user's terminal, for a rank that the launcher gave only pipes.
    """
    if environment.get("TERM", "") not in ("dumb", "unknown"):
        for path in (tty_path, device_of(stream)):
            terminal = open_terminal(path, stream.encoding)
            if terminal is not None:
                return TerminalProgress(terminal, name, clock=clock, owned=True)
        if is_terminal(stream):
            return TerminalProgress(stream, name, clock=clock)
    return PlainProgress(stream, clock)


_STOPPING = "stopping ("
"""So a session begins to say that it stops."""


class SurveyProgress:
    """A line every ten seconds while the inputs are surveyed, and that this stops. What its session says else, of
    items and mini-batches, would puzzle, and is for the log."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._next_line = clock() + LINE_EVERY_S

    def update(self, snapshot: Snapshot) -> None:
        now = self._clock()
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            self._say(f"surveyed {ended(snapshot):,} of {snapshot.mini_batches.total:,} parts of the inputs")

    def say(self, text: str) -> None:
        log.info("survey: %s", text)
        if text.startswith(_STOPPING):
            self._say(f"the survey of the inputs is {text}")


class PlainProgress:
    """A line at most every ten seconds, from the first ready worker on."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._outlet = Outlet(stream)
        self._clock = clock
        self._next_line: float | None = None

    def update(self, snapshot: Snapshot) -> None:
        if self._next_line is None and not snapshot.workers_ready:
            return
        now = self._clock()
        if self._next_line is None or now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            self._outlet.write(progress_line(snapshot) + "\n")

    def say(self, text: str) -> None:
        self._outlet.write(lines(text))

    def close(self) -> None:
        """Nothing is open; the summary follows."""


def progress_line(snapshot: Snapshot) -> str:
    """How the run stands, in one line of plain text."""
    done, total = ended(snapshot), snapshot.mini_batches.total
    items = snapshot.items
    parts = [
        f"{done:,} of {mini_batches(total)} ({percent(done, total)})",
        f"{items.succeeded + items.failed:,} of {counted(items.total, 'item')}",
        f"{items.failed:,} failed",
        rate(snapshot.rows_per_s, "rows"),
        f"{snapshot.workers_ready} of {counted(snapshot.workers, 'worker')}",
    ]
    if snapshot.remaining_s is not None and done < total:
        parts.append(f"{duration(snapshot.remaining_s)} left")
    if snapshot.finalizing:
        parts.append("finalize() is running")
    return f"{shown(snapshot.name)}: {', '.join(parts)}"
