"""Where a run shows something: a text stream or a terminal, either of which may go away at any moment.

What is written then is lost without a word; what a terminal is held for (Ctrl-S) does not make anybody wait.
"""

from __future__ import annotations

import os
import select
from typing import TextIO

from mpibatch.monitor.figures import shown

USUAL_COLUMNS = 80

_AT_ONCE = 1000
"""Characters that always fit into a pipe that takes any (4,096 bytes)."""


class Outlet:
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


def open_terminal(path: str | None, encoding: str | None) -> TextIO | None:
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


def is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError):
        return False


def device_of(stream: TextIO) -> str | None:
    try:
        return os.ttyname(stream.fileno())
    except (OSError, ValueError):
        return None


def columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except (OSError, ValueError):
        return USUAL_COLUMNS


def lines(text: str) -> str:
    """`text` as lines of which none moves the cursor."""
    return "".join(shown(line) + "\n" for line in text.splitlines())
