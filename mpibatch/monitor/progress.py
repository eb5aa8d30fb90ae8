"""What is seen while a run goes on: a bar on a terminal, elsewhere a line every ten seconds.

A run never fails, and never waits, because of who looks at it: when the terminal or the pipe goes away,
what is written is lost without a word; when a terminal is held (Ctrl-S), the bar stands still.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, TextIO

from mpibatch.monitor.figures import counted, duration, mini_batches, percent, rate, shown
from mpibatch.results import Snapshot

if TYPE_CHECKING:
    from rich.text import Text

log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0
DRAW_EVERY_S = 0.2
"""Often enough for the eye; a draw costs about half a millisecond."""

USUAL_COLUMNS = 80
NARROWEST_BAR = 10
WIDEST_BAR = 40
_ERASE_LINE = "\r\x1b[2K"


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
        for path in (tty_path, _device_of(stream)):
            terminal = _open_terminal(path, stream.encoding)
            if terminal is not None:
                return TerminalProgress(terminal, name, clock=clock, owned=True)
        if _is_terminal(stream):
            return TerminalProgress(stream, name, clock=clock)
    return PlainProgress(stream, clock)


class SurveyProgress:
    """A line every ten seconds while the inputs are surveyed; what its session says else is for the log."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._next_line = clock() + LINE_EVERY_S

    def update(self, snapshot: Snapshot) -> None:
        now = self._clock()
        if now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            parts = snapshot.mini_batches
            self._say(f"surveyed {parts.succeeded:,} of {parts.total:,} parts of the inputs")

    def say(self, text: str) -> None:
        log.info("survey: %s", text)


class PlainProgress:
    """A line at most every ten seconds, from the first ready worker on."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._outlet = _Outlet(stream)
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
        self._outlet.write(_lines(text))

    def close(self) -> None:
        """Nothing is open; the summary follows."""


def progress_line(snapshot: Snapshot) -> str:
    """How the run stands, in one line of plain text."""
    done, total = _ended(snapshot), snapshot.mini_batches.total
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
    return f"{shown(snapshot.name)}: {', '.join(parts)}"


class TerminalProgress:
    """A bar in the terminal's last line, drawn anew in place. `owned`: `close` closes the stream too.

    There is no thread and the cursor is not hidden, so that a killed rank leaves a usable terminal behind.
    """

    def __init__(
        self, stream: TextIO, name: str, *, clock: Callable[[], float] = time.monotonic, owned: bool = False
    ) -> None:
        self._outlet = _Outlet(stream)
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
        self._outlet.write(_ERASE_LINE + _lines(text) + self._line)

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
        line = _styled(self._bar_line(self._snapshot, _columns(stream) - 1))
        if line != self._line:
            self._line = line
            self._outlet.write(_ERASE_LINE + line)

    def _bar_line(self, snapshot: Snapshot, columns: int) -> Text:
        from rich.text import Text

        if not snapshot.workers_ready and not _ended(snapshot):
            workers = f"{snapshot.workers_ready} of {counted(snapshot.workers, 'worker')} ready"
            line = Text.assemble((self._name, "bold"), f"  starting, {workers}")
        else:
            room = columns - len(self._name) - 2
            words = _fitting(_bar_words(snapshot), room)
            line = Text(self._name, "bold")
            width = min(room - 2 - _width(words), WIDEST_BAR)
            if width >= NARROWEST_BAR:
                line.append("  ").append_text(self._bar(snapshot, width))
            for word in words:
                line.append("  ").append(word.text, word.style)
        line.truncate(columns)
        return line

    def _bar(self, snapshot: Snapshot, width: int) -> Text:
        from rich.text import Text

        full, empty = ("━", "━") if self._fancy else ("#", "-")
        done, total = _ended(snapshot), snapshot.mini_batches.total
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
    done, total = _ended(snapshot), snapshot.mini_batches.total
    items = snapshot.items
    words = [
        _Word(f"{done:,}/{mini_batches(total)}", "", 0),
        _Word(f"{items.succeeded + items.failed:,}/{counted(items.total, 'item')}", "", 2),
        _Word(f"{items.failed:,} failed", "bold red" if items.failed else "", 1),
        _Word(rate(snapshot.rows_per_s, "rows"), "", 3),
    ]
    if snapshot.remaining_s is not None and done < total:
        words.append(_Word(f"{duration(snapshot.remaining_s)} left", "", 1))
    return words


def _fitting(words: list[_Word], columns: int) -> list[_Word]:
    """The words that fit into `columns`, those of rank 2 and 3 only beside a bar."""
    while len(words) > 1:
        least = max(words, key=lambda word: word.rank)
        if _width(words) + (NARROWEST_BAR + 2 if least.rank > 1 else 0) <= columns:
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


def _ended(snapshot: Snapshot) -> int:
    return snapshot.mini_batches.succeeded + snapshot.mini_batches.failed


def _lines(text: str) -> str:
    return "".join(shown(line) + "\n" for line in text.splitlines())


_AT_ONCE = 1000
"""Characters that always fit into a pipe that takes any (4,096 bytes)."""


class _Outlet:
    """A text stream that may go away at any moment: from then on what is written is lost, silently."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        self.gone = False

    def write(self, text: str) -> None:
        if self.gone:
            return
        text = text.encode(self._encoding, "backslashreplace").decode(self._encoding)
        try:
            for start in range(0, len(text), _AT_ONCE):
                if not self._takes_more():
                    return
                self._stream.write(text[start : start + _AT_ONCE])
                self._stream.flush()
        except BlockingIOError:
            pass  # A terminal that is held: what does not fit is lost, later lines may come through.
        except (OSError, ValueError):  # EIO, EPIPE; or the stream is closed.
            self.gone = True

    def _takes_more(self) -> bool:
        """Whether writing a little would not wait for a reader: what nobody reads must not hold a run up."""
        try:
            fd = self._stream.fileno()
        except (OSError, ValueError):  # A stream in memory.
            return True
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        return bool(poll.poll(0))


def _open_terminal(path: str | None, encoding: str | None) -> TextIO | None:
    """The terminal `path` for writing; None where there is none (any more).

    Opened anew, as only so it can be non-blocking for this process alone.
    """
    if path is None:
        return None
    try:
        # O_NOCTTY: a rank's signals come from its launcher, so it must get no controlling terminal.
        fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    if not os.isatty(fd):
        os.close(fd)
        return None
    return open(fd, "w", encoding=encoding or "utf-8", errors="backslashreplace")


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError):
        return False


def _device_of(stream: TextIO) -> str | None:
    try:
        return os.ttyname(stream.fileno())
    except (OSError, ValueError):
        return None


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):
        return USUAL_COLUMNS
