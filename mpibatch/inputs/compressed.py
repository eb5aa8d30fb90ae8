"""Compressed files: known by their suffix, read as a stream of blocks, and unpacked into the run folder.

A stream that is damaged or ends too early raises `Damaged`, always: a block that was handed out before may
be good, but the file is not.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import IO, cast

from mpibatch.errors import InputError
from mpibatch.inputs.new_files import aside, writing
from mpibatch.inputs.origin import shown

SUFFIXES = (b".gz", b".bz2", b".xz", b".zst")

_BROKEN = (EOFError, zlib.error, lzma.LZMAError)
_ZSTD_INPUT = 32 << 10
"""Compressed bytes at a time: they may become thousand times as many."""

Decoded = Callable[[Iterator[bytes]], Iterator[bytes]]


class Damaged(Exception):
    """A compressed file cannot be unpacked; the text says why, but not which file."""


def suffix_of(path: bytes) -> bytes | None:
    """By which method a file is compressed, as its name says; None: it is not."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix if suffix in SUFFIXES else None


def blocks(path: bytes, size: int) -> Iterator[bytes]:
    """What a compressed file holds, in blocks of about `size` bytes. Raises Damaged, and OSError."""
    try:
        suffix = suffix_of(path)
        if suffix == b".zst":
            yield from _zst_blocks(path)
            return
        with _open(path, suffix) as file:
            while block := file.read(size):
                yield block
    except _BROKEN as error:
        raise Damaged(f"it is damaged or truncated: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise Damaged(f"it is damaged, or not what its suffix says: {error}") from error


def _open(path: bytes, suffix: bytes | None) -> IO[bytes]:
    if suffix == b".gz":
        import gzip

        return cast(IO[bytes], gzip.open(path))
    if suffix == b".bz2":
        import bz2

        return cast(IO[bytes], bz2.open(path))
    return cast(IO[bytes], lzma.open(path)) if suffix == b".xz" else open(path, "rb")


def _zst_blocks(path: bytes) -> Iterator[bytes]:
    """All frames of the file. The stream reader of zstandard takes a truncated file for a whole one."""
    import zstandard

    with open(path, "rb") as file:
        frame, pending = None, b""
        while data := pending or file.read(_ZSTD_INPUT):
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                block = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise Damaged(f"it is damaged, or not what its suffix says: {error}") from error
            pending = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
            if block:
                yield block
        if frame is not None:
            raise Damaged("it is truncated: its last frame has no end")


def check_zstandard(paths: Iterator[bytes], origin: str) -> None:
    """Raises InputError where a file needs the package zstandard, and it is not there."""
    first = next((path for path in paths if suffix_of(path) == b".zst"), None)
    if first is None:
        return
    try:
        import zstandard  # noqa: F401
    except ImportError:
        raise InputError(
            f"{origin}: {shown(first)} is compressed with zstd, which Python cannot read by itself:"
            " install the package zstandard, or unpack the file."
        ) from None


def unpack(path: bytes, target: bytes, size: int = 1 << 20, decoded: Decoded = iter) -> int:
    """Unpacks a file to `target` and returns its size there. What is there already is complete.

    `decoded` makes of the blocks that were unpacked what is written. The file appears whole or not at all.
    Raises Damaged; OSError for what cannot be read, and NoRoom for what cannot be written.
    """
    with writing(target), contextlib.suppress(FileNotFoundError):
        return os.stat(target).st_size
    written = 0
    with aside(target) as path_aside:
        with writing(target):
            file = os.open(path_aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            for block in decoded(blocks(path, size)):
                with writing(target):
                    _write(file, block)
                written += len(block)
        finally:
            os.close(file)
    return written


def _write(file: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(file, view) :]
