"""Bytes of files: a range of a file that stays open, a whole file as a stream, and the numbers of lines."""

from __future__ import annotations

import io
import lzma
import os
import zlib
from collections.abc import Callable
from typing import IO, BinaryIO, cast

from mpibatch.inputs.origin import shown
from mpibatch.inputs.seen import SeenFiles
from mpibatch.inputs.survey import Unreadable

_BLOCK = 1 << 20
_FARTHEST_LINE = 1 << 30
"""Bytes that are read to number a line; if there are more before it, its byte is told instead."""

BROKEN_STREAM = (EOFError, zlib.error, lzma.LZMAError)
"""What reading a damaged or truncated compressed file raises, beside OSError and what `zstandard` has."""


class KeptFile:
    """Reads ranges of files; the one that was read last stays open. One that has changed meanwhile is Unreadable."""

    def __init__(self) -> None:
        self._path: bytes | None = None
        self._file = -1
        self._seen = SeenFiles()

    def read(self, path: bytes, start: int, size: int) -> bytes:
        """At most `size` bytes from `start` on: fewer at the end of the file, and maybe elsewhere."""
        try:
            block = os.pread(self._open(path), size, start)
            self._seen.check(path, self._file)
            return block
        except OSError as error:
            raise unreadable(path, error) from error

    def read_all(self, path: bytes, start: int, stop: int) -> bytes:
        """The bytes [start, stop). Raises Unreadable where the file ends before."""
        block = self.read(path, start, stop - start)
        if len(block) == stop - start:
            return block
        blocks = [block]
        at = start + len(block)
        while at < stop:
            block = self.read(path, at, stop - at)
            if not block:
                self._seen.forget(path)
                raise Unreadable(
                    f"{shown(path)} ends at byte {at:,}, but its rows were planned up to byte {stop:,}:"
                    " it has changed since it was planned. Start a new run, with --fresh."
                )
            blocks.append(block)
            at += len(block)
        return b"".join(blocks)

    def close(self) -> None:
        if self._path is not None:
            os.close(self._file)
            self._path = None

    def _open(self, path: bytes) -> int:
        if path != self._path:
            self.close()
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._path = path
        return self._file


class Lines:
    """Numbers lines of files. It goes on from where it has counted to last, if that lies before."""

    def __init__(self, file: KeptFile) -> None:
        self._file = file
        self._path = b""
        self._at = self._newlines = self._returns = 0

    def numbers(self, path: bytes, start: int, text: bytes) -> Callable[[int], str]:
        """Where the byte of `text` with this number is, for people: `line 17`. The text begins at `start`.

        The file is only read when the first one is asked for; ascending numbers are cheap.
        """
        at = newlines = returns = 0

        def number(offset: int) -> str:
            nonlocal at, newlines, returns
            if start - (self._at if self._known(path, start) else 0) > _FARTHEST_LINE:
                return f"byte {start + offset:,}"
            self._count(path, start)
            if offset < at:
                at = newlines = returns = 0
            newlines += text.count(b"\n", at, offset)
            returns += text.count(b"\r", at, offset)
            at = offset
            # Where there are no newlines, CRs end the lines.
            return f"line {1 + (self._newlines + newlines or self._returns + returns):,}"

        return number

    def _known(self, path: bytes, start: int) -> bool:
        return path == self._path and self._at <= start

    def _count(self, path: bytes, stop: int) -> None:
        if not self._known(path, stop):
            self._path = path
            self._at = self._newlines = self._returns = 0
        while self._at < stop:
            block = self._file.read(path, self._at, min(_BLOCK, stop - self._at))
            if not block:
                break
            self._newlines += block.count(b"\n")
            self._returns += block.count(b"\r")
            self._at += len(block)


def open_stream(path: bytes) -> BinaryIO:
    """A whole file from its beginning, unpacked where its name says that it is compressed."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == b".zst":
            return _open_zst(path)
        if suffix == b".gz":
            import gzip

            return cast(BinaryIO, gzip.open(path))
        if suffix == b".bz2":
            import bz2

            return cast(BinaryIO, bz2.open(path))
        return cast(BinaryIO, lzma.open(path)) if suffix == b".xz" else open(path, "rb")
    except OSError as error:
        raise unreadable(path, error) from error


def read_stream(path: bytes, stream: IO[bytes], size: int = -1) -> bytes:
    """`size` bytes, or all, of what `open_stream` gave. Raises Unreadable where it is damaged."""
    try:
        return stream.read(size)
    except (OSError, *BROKEN_STREAM) as error:
        raise unreadable(path, error) from error
    except Exception as error:  # zstandard is not loaded here if it is not needed: known by its name.
        if type(error).__name__ != "ZstdError":
            raise
        raise unreadable(path, error) from error


def unreadable(path: bytes, error: Exception) -> Unreadable:
    """What reading a file raised, in words."""
    if isinstance(error, FileNotFoundError):
        return Unreadable(f"{shown(path)} does not exist any more.")
    if isinstance(error, OSError) and error.strerror:
        return Unreadable(f"{shown(path)} cannot be read: {error.strerror}.")
    return Unreadable(f"{shown(path)} cannot be unpacked, it is damaged or truncated: {error}")


def _open_zst(path: bytes) -> BinaryIO:
    try:
        import zstandard
    except ImportError as error:
        raise Unreadable(
            f"{shown(path)} is compressed with zstd: install the package zstandard for the processors' Python."
        ) from error
    raw = zstandard.ZstdDecompressor().stream_reader(
        open(path, "rb"),  # noqa: SIM115  (closed with the stream)
        read_across_frames=True,
        closefd=True,
    )
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, raw), _BLOCK))
