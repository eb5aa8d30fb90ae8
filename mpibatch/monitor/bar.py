"""The bar on a terminal: how a run stands, in the terminal's last line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TextIO

from mpibatch.monitor.figures import counted, duration, mini_batches, rate, shown
from mpibatch.monitor.outlet import Outlet, columns, lines
from mpibatch.results import Snapshot

if TYPE_CHECKING:
    from rich.text import Text

DRAW_EVERY_S = 0.2
"""Often enough for the eye; a draw costs about half a millisecond."""

NARROWEST_BAR = 10
WIDEST_BAR = 40
_ERASE_LINE = "\r\x1b[2K"


def ended(snapshot: Snapshot) -> int:
    """Mini-batches that will not be tried any more."""
    return snapshot.mini_batches.succeeded + snapshot.mini_batches.failed - snapshot.half_failed


class TerminalProgress:
    """A bar in the terminal's last line, drawn anew in place. `owned`: `close` closes the stream too.

    There is no thread and the cursor is not hidden, so that a killed rank leaves a usable terminal behind.
    """

    def __init__(
        self, stream: TextIO, name: str, *, clock: Callable[[], float] = time.monotonic, owned: bool = False
    ) -> None:
        self._outlet = Outlet(stream)
        self._stream: TextIO | None = stream
        self._name = shown(name)
        self._clock = clock
        self._owned = owned
        self._snapshot: Snapshot | None = None
        self._next_draw: float | None = None
        self._line = ""
        self._fancy = (stream.encoding or "utf-8").lower().replace("-", "") == "utf8"

    def update(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        now = self._clock()
        if self._next_draw is None or now >= self._next_draw:
            self._next_draw = now + DRAW_EVERY_S
            self._draw()

    def say(self, text: str) -> None:
        self._outlet.write(_ERASE_LINE + lines(text) + self._line)

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if self._snapshot is not None:
            self._draw(stream)
            self._outlet.write("\n")
        # What is said after this stands below the bar.
        self._snapshot, self._line = None, ""
        if self._owned:
            try:
                stream.close()
            except (OSError, ValueError):  # The terminal is gone or held: so is what was not shown yet.
                pass

    def _draw(self, stream: TextIO | None = None) -> None:
        stream = stream or self._stream
        if stream is None or self._snapshot is None or self._outlet.gone:
            return
        # One column stays free, as a terminal may wrap a line that fills it.
        line = _styled(self._bar_line(self._snapshot, columns(stream) - 1))
        if line != self._line:
            self._line = line
            self._outlet.write(_ERASE_LINE + line)

    def _bar_line(self, snapshot: Snapshot, width: int) -> Text:
        from rich.text import Text

        if not snapshot.workers_ready and not ended(snapshot):
            workers = f"{snapshot.workers_ready} of {counted(snapshot.workers, 'worker')} ready"
            line = Text.assemble((self._name, "bold"), f"  starting, {workers}")
        else:
            room = width - len(self._name) - 2
            words = _fitting(_bar_words(snapshot), room)
            line = Text(self._name, "bold")
            bar = min(room - 2 - _width(words), WIDEST_BAR)
            if bar >= NARROWEST_BAR:
                line.append("  ").append_text(self._bar(snapshot, bar))
            for word in words:
                line.append("  ").append(word.text, word.style)
        line.truncate(width)
        return line

    def _bar(self, snapshot: Snapshot, width: int) -> Text:
        from rich.text import Text

        full, empty = ("━", "━") if self._fancy else ("#", "-")
        done, total = ended(snapshot), snapshot.mini_batches.total
        filled = width * done // total if total else width
        style = "green" if done == total else "cyan"
        return Text.assemble((full * filled, style), (empty * (width - filled), "bright_black"))


class _Word(NamedTuple):
    """A part of the line behind the bar."""

    text: str
    style: str
    rank: int
    """The higher, the sooner it gives way on a narrow terminal; those of 0 and 1 stay longer than the bar."""


def _bar_words(snapshot: Snapshot) -> list[_Word]:
    done, total = ended(snapshot), snapshot.mini_batches.total
    items = snapshot.items
    words = [
        _Word(f"{done:,}/{mini_batches(total)}", "", 0),
        _Word(f"{items.succeeded + items.failed:,}/{counted(items.total, 'item')}", "", 2),
        _Word(f"{items.failed:,} failed", "bold red" if items.failed else "", 1),
        _Word(rate(snapshot.rows_per_s, "rows"), "", 3),
    ]
    if snapshot.remaining_s is not None and done < total:
        words.append(_Word(f"{duration(snapshot.remaining_s)} left", "", 1))
    if snapshot.finalizing:
        words.append(_Word("finalize() is running", "", 1))
    return words


def _fitting(words: list[_Word], room: int) -> list[_Word]:
    """The words that fit into `room` columns, those of rank 2 and 3 only beside a bar."""
    while len(words) > 1:
        least = max(words, key=lambda word: word.rank)
        if _width(words) + (NARROWEST_BAR + 2 if least.rank > 1 else 0) <= room:
            break
        words = [word for word in words if word is not least]
    return words


def _width(words: list[_Word]) -> int:
    return sum(len(word.text) + 2 for word in words) - 2


def _styled(line: Text) -> str:
    """The line with the colours that this terminal has; `NO_COLOR` is heeded."""
    import io

    from rich.console import Console

    console = Console(
        file=io.StringIO(), force_terminal=True, force_jupyter=False, width=len(line) + 1, highlight=False
    )
    with console.capture() as capture:
        console.print(line, end="", no_wrap=True, overflow="ignore", crop=False)
    return capture.get()
