"""What stands in files of lines, piece by piece, and how they begin: for the answers to the survey's questions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mpibatch.inputs import compressed
from mpibatch.inputs.csv_encoding import BYTE_ORDER_MARK, as_utf8
from mpibatch.inputs.csv_exact import first_record
from mpibatch.inputs.csv_questions import One, Way
from mpibatch.inputs.csv_scan import Piece

HEAD = 64 << 10
"""Bytes that are read at a time where little is looked for."""
_LONGEST_HEADER = 16 << 20

Pieces = Callable[[int, int], Iterator[Piece]]
"""A file's contents from a position on, in pieces of a size at most: of what is read as a stream, unpacked
and in UTF-8. A piece is good until the next one is asked for."""


class Changed(Exception):
    """A file is not as it was when it was listed, or its header has no end; the text says what."""


@contextmanager
def contents(file: One, way: Way) -> Iterator[Pieces]:
    """Of a file that is open meanwhile."""
    if file.whole:
        yield lambda start, size: _stream(file.path, way.encoding, start, size)
        return
    descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield lambda start, size: read_range(descriptor, start, file.size, size)
    finally:
        os.close(descriptor)


def read_range(descriptor: int, start: int, stop: int, size: int) -> Iterator[Piece]:
    """The bytes [start, stop) in pieces. Raises Changed where the file ends before."""
    buffer = bytearray(min(size, max(stop - start, 0)))
    view = memoryview(buffer)
    while start < stop:
        read = os.preadv(descriptor, [view[: stop - start]], start)
        if not read:
            raise Changed(f"it ends at byte {start:,}, but had {stop:,} bytes when it was listed")
        yield buffer if read == len(buffer) else bytes(view[:read])
        start += read


def _stream(path: bytes, encoding: str | None, start: int, size: int) -> Iterator[Piece]:
    blocks = compressed.blocks(path, size)
    if encoding is not None:
        blocks = as_utf8(blocks, encoding)
    for block in blocks:
        if start < len(block):
            yield block[start:] if start else block
        start = max(0, start - len(block))


class Head(NamedTuple):
    """The begin of a file."""

    header: bytes = b""
    """Its first record, if that is one."""
    data: int = 0
    """Where what follows begins."""
    rest: bytes = b""
    """The first bytes there."""


def head_of(pieces: Pieces, way: Way, header: bool) -> Head:
    """The file's begin, behind a byte-order mark. Raises Changed where the header has no end."""
    head, begin = b"", 0
    for piece in pieces(0, min(HEAD, way.piece)):
        head += piece
        if len(head) < len(BYTE_ORDER_MARK):
            continue
        begin = len(BYTE_ORDER_MARK) if way.mark and head.startswith(BYTE_ORDER_MARK) else 0
        if not header:
            return Head(b"", begin, head[begin:])
        if found := first_record(head[begin:], way.dialect, whole=False):
            first, end = begin + found[0], begin + found[1]
            return Head(head[first:end], end, head[end:])
        if len(head) > _LONGEST_HEADER:
            raise Changed(
                f"its header has no end in the first {len(head):,} bytes: is there a quote that is not closed?"
            )
    if not header:
        return Head(b"", begin, head[begin:])
    first, end = first_record(head[begin:], way.dialect, whole=True) or (0, 0)
    return Head(head[begin + first : begin + end], begin + end, head[begin + end :])
