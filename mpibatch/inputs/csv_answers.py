"""Answers the survey's questions about files of lines: reads a file, or a range of one, and says what is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import assert_never

from mpibatch.inputs import compressed
from mpibatch.inputs.csv_cells import ByRowsCells, BySizeCells, Collector, packed
from mpibatch.inputs.csv_encoding import BYTE_ORDER_MARK, as_utf8
from mpibatch.inputs.csv_exact import ExactScanner, first_record
from mpibatch.inputs.csv_questions import (
    Answer,
    Begins,
    Block,
    Look,
    Looked,
    One,
    Question,
    Rows,
    Scanned,
    Seen,
    Unpack,
    Unpacked,
    Way,
)
from mpibatch.inputs.csv_scan import NEWLINE, Piece, Scanner, Starts

_LONGEST_HEADER = 16 << 20
_HEAD = 64 << 10
"""Bytes that are read at a time where little is looked for."""

Pieces = Callable[[int, int], Iterator[Piece]]
"""A file's contents from a position on, in pieces of a size at most: of what is read as a stream, unpacked
and in UTF-8. A piece is good until the next one is asked for."""


class Changed(Exception):
    """A file is not as it was when it was listed, or its header has no end; the text says what."""


_FAILURES = (OSError, Changed, compressed.Damaged)


def answer(question: Question) -> Answer:
    """What is there. A file that cannot be read is told of in the answer, and raises nothing."""
    match question:
        case Look():
            return Looked([_look(file, question) for file in question.files])
        case Block():
            try:
                return _scan(question)
            except _FAILURES as error:
                return Scanned(error=_words(error))
        case Rows():
            try:
                return _find_rows(question)
            except _FAILURES as error:
                return Begins(error=_words(error))
        case Unpack(path, target):
            try:
                return Unpacked(compressed.unpack(path, target))
            except compressed.NoRoom as error:
                return Unpacked(no_room=str(error))
            except _FAILURES as error:
                return Unpacked(error=_words(error))
        case _:
            assert_never(question)


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# Whole files


def _look(file: One, question: Look) -> Seen:
    way = question.way
    try:
        with _contents(file, way) as pieces:
            begin, header, data = _head(pieces, way, file.header)
            if not question.rows:
                return Seen(header, data)
            start = data if file.header else begin
            found = None if question.exact else _by_parity(pieces, start, way, file.whole)
            cells = (found or _exactly(pieces, start, way, file.whole)).found()
            return Seen(header, data, cells)
    except _FAILURES as error:
        return Seen(error=_words(error))


@contextmanager
def _contents(file: One, way: Way) -> Iterator[Pieces]:
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


def _head(pieces: Pieces, way: Way, header: bool) -> tuple[int, bytes, int]:
    """Where the file's text begins, behind a byte-order mark; its first record; and where that one ends."""
    head, begin = b"", 0
    for piece in pieces(0, min(_HEAD, way.piece)):
        head += piece
        if len(head) < len(BYTE_ORDER_MARK):
            continue
        begin = len(BYTE_ORDER_MARK) if way.mark and head.startswith(BYTE_ORDER_MARK) else 0
        if not header:
            return begin, b"", begin
        if found := first_record(head[begin:], way.dialect, whole=False):
            return begin, head[begin + found[0] : begin + found[1]], begin + found[1]
        if len(head) > _LONGEST_HEADER:
            raise Changed(
                f"its header has no end in the first {len(head):,} bytes: is there a quote that is not closed?"
            )
    if not header:
        return begin, b"", begin
    first, end = first_record(head[begin:], way.dialect, whole=True) or (0, 0)
    return begin, head[begin + first : begin + end], begin + end


def _collector(way: Way, origin: int, whole: bool) -> Collector:
    if whole:
        return BySizeCells(0, 0)
    return ByRowsCells(way.step) if way.by_rows else BySizeCells(origin, way.step)


def _by_parity(pieces: Pieces, start: int, way: Way, whole: bool) -> Collector | None:
    """The records from `start` on; None where the parity of quotes cannot be relied on."""
    scanner, collector = Scanner(way.dialect, start), _collector(way, start, whole)
    if not scanner.trusted[0]:
        return None
    for piece in pieces(start, way.piece):
        collector.add(scanner.feed(piece).outside)
        if not scanner.trusted[0]:
            return None
    return collector  # A quote that is never closed is no matter: its record is the last one.


def _exactly(pieces: Pieces, start: int, way: Way, whole: bool) -> Collector:
    scanner, collector = ExactScanner(way.dialect, start), _collector(way, start, whole)
    for piece in pieces(start, way.piece):
        collector.add(scanner.feed(bytes(piece)))
    collector.add(scanner.feed(b"", last=True))
    return collector


# Ranges of a file


def _scan(block: Block) -> Scanned:
    way = block.way
    size = 0 if way.by_rows else way.step
    outside, inside = BySizeCells(block.origin, size), BySizeCells(block.origin, size)
    scanner = _scan_range(block, outside.add, inside.add)
    return Scanned(outside.found(), inside.found(), scanner.odd, scanner.trusted)


def _find_rows(question: Rows) -> Begins:
    cells = ByRowsCells(question.block.way.step, question.before)
    if question.inside:
        _scan_range(question.block, _ignore, cells.add)
    else:
        _scan_range(question.block, cells.add, _ignore)
    return Begins(packed(cells.starts()))


def _scan_range(block: Block, outside: Callable[..., None], inside: Callable[..., None]) -> Scanner:
    piece = block.way.piece
    descriptor = os.open(block.file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = NEWLINE
        if block.start > block.origin:
            before = next(read_range(descriptor, block.start - 1, block.start, 1))[0]
        scanner = Scanner(block.way.dialect, block.start, before)
        for data in read_range(descriptor, block.start, block.stop, piece):
            _hand_out(scanner.feed(data), outside, inside)
        # Is the last line a record, or only white space? What follows tells.
        following = read_range(descriptor, block.stop, block.file.size, min(_HEAD, piece))
        while scanner.pending and (data := next(following, b"")):
            _hand_out(scanner.resolve(data), outside, inside)
    finally:
        os.close(descriptor)
    return scanner


def _hand_out(starts: Starts, outside: Callable[..., None], inside: Callable[..., None]) -> None:
    outside(starts.outside)
    inside(starts.inside)


def _ignore(starts: object) -> None:
    pass
