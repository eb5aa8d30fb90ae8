"""What the entry script prints: it goes to log files, and never ends an attempt because a disk is full."""

from __future__ import annotations

import errno
import io
import sys

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


class _Dropping(io.FileIO):
    """A file whose writes never fail for want of room: what does not fit is lost."""

    def write(self, data: object, /) -> int:
        """`data`: whatever has a buffer."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        try:
            written = super().write(view)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return len(view)
        return len(view) if written is None else written


def let_print() -> None:
    """Have `print` write by lines, so that what was printed is in the log also if this process is killed; a name
    that is not UTF-8 must not make it fail, nor a full disk."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.fileno() == fd:
            setattr(sys, name, _stream(fd, f"<{name}>"))
            setattr(sys, f"__{name}__", getattr(sys, name))


def _stream(fd: int, name: str) -> io.TextIOWrapper:
    raw = _Dropping(fd, "wb", closefd=False)
    raw.name = name
    stream = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    setattr(stream, "mode", "w")  # noqa: B010 - As that of the stream that it replaces.
    return stream
