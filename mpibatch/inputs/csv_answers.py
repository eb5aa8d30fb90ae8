"""Answers the survey's questions about files of lines: reads a file, or a range of one, and says what is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import assert_never

from mpibatch.inputs import compressed
from mpibatch.inputs.csv_cells import ByRowsCells, BySizeCells, Collector, packed
from mpibatch.inputs.csv_contents import HEAD, Changed, Head, Pieces, contents, head_of, read_range
from mpibatch.inputs.csv_encoding import marked_utf8
from mpibatch.inputs.csv_exact import ExactScanner
from mpibatch.inputs.csv_first import first_of
from mpibatch.inputs.csv_questions import (
    Answer,
    Begins,
    Block,
    First,
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
from mpibatch.inputs.csv_scan import NEWLINE, Scanner, Starts
from mpibatch.inputs.new_files import NoRoom

_FAILURES = (OSError, Changed, compressed.Damaged, UnicodeError)


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
        case Unpack():
            try:
                return Unpacked(_unpack(question))
            except NoRoom as error:
                return Unpacked(no_room=str(error))
            except _FAILURES as error:
                return Unpacked(error=_words(error))
        case _:
            assert_never(question)


def _unpack(question: Unpack) -> int:
    if question.encoding is None:
        return compressed.unpack(question.path, question.target)
    decoded = partial(marked_utf8, encoding=question.encoding)
    return compressed.unpack(question.path, question.target, decoded=decoded)


def _words(error: Exception) -> str:
    if isinstance(error, UnicodeError):  # UTF-16 whose order of bytes nothing tells.
        return f"it is not in the encoding that the job says: {error}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# Whole files


def _look(file: One, question: Look) -> Seen:
    way = question.way
    try:
        with contents(file, way) as pieces:
            head = head_of(pieces, way, file.header)
            first = _first(head, question)
            if not question.rows:
                return Seen(head.header, head.data, first=first)
            found = None if question.exact else _by_parity(pieces, head.data, way, file.whole)
            cells = (found or _exactly(pieces, head.data, way, file.whole)).found()
            return Seen(head.header, head.data, cells, first=first)
    except _FAILURES as error:
        return Seen(error=_words(error))


def _first(head: Head, question: Look) -> First:
    options = question.records
    if options is None:
        return First()
    encoding = options.encoding if question.way.encoding is None else "utf-8"
    return first_of(head.rest, head.header, options, encoding)


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
        following = read_range(descriptor, block.stop, block.file.size, min(HEAD, piece))
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
