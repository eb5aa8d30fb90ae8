"""The output file while it grows aside: one file object for all formats, so that each error names it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class PartialFile(io.RawIOBase):
    """A file of ours that libraries can write to; HDF5 reads it back and seeks in it too.

    `begin` it first. Once writing has failed, `error` is that OSError, with its `filename`, and what is
    written after it is dropped: so a library can be let go of that wants to write to the last.

    `quiet`: writing raises nothing, only `naming` does, for HDF5, which may crash where closing fails.
    """

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        self._path = path
        self._quiet = quiet
        self._fd = -1
        self._position = 0
        self._drops = True
        self.error: OSError | None = None

    def begin(self) -> None:
        """Empty it. The first time, create it: FileExistsError if there is one, as it is another session's."""
        if self._fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o666)
        else:
            self._cut(0)
        self._position = 0
        self._drops = self.error is not None

    def drop(self) -> None:
        """What is written from now on is dropped, until it begins anew."""
        self._drops = True

    def write(self, data: ReadableBuffer) -> int:
        """All of it, always. OSError names the file."""
        view = memoryview(data).cast("B")
        size = len(view)
        stop = self._position + size
        try:
            while view and not self._drops:
                written = os.pwrite(self._fd, view, self._position)
                self._position += written
                view = view[written:]
        except OSError as error:
            self._fail(error)
        self._position = stop
        return size

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Around calls of a library: raises our error, where one is behind what the library raised or not."""
        try:
            yield
        except Exception as error:
            if self.error is not None and error is not self.error:
                raise self.error from error
            raise
        if self.error is not None:
            raise self.error

    def sync(self) -> None:
        """All that is written is durable. OSError names the file."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        """Let go of it, finished or not."""
        self._drops = True
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    # For HDF5

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (self._size() if start is None else start)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while self._fd >= 0 and done < len(view):  # Linux reads at most 2 GiB in one call.
            data = os.pread(self._fd, min(len(view) - done, 1 << 30), self._position)
            if not data:
                break
            view[done : done + len(data)] = data
            self._position += len(data)
            done += len(data)
        return done

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        if not self._drops:
            self._cut(size)
        return size

    def _size(self) -> int:
        return 0 if self._fd < 0 else os.fstat(self._fd).st_size

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        error.filename = str(self._path)
        self.error = error
        self._drops = True
        if not self._quiet:
            raise error
