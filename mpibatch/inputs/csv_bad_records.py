"""Parts CSV text, in UTF-8, into records and fields by the rules of pandas' C parser. Pure.

They are: a quote opens a quoted field where it stands first; within it a doubled quote is one; behind the
closing one all is text up to the separator. An escape character makes text of what follows it, but not
directly behind a closing quote. CR, newline and both together end a record. Lines of spaces and tabs (where
these do not separate) are no records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from mpibatch.core.tables import CsvOptions


class Span(NamedTuple):
    """Bytes [start, stop) of a text."""

    start: int
    stop: int


class Rules:
    """How the text of an input is parted."""

    def __init__(self, options: CsvOptions) -> None:
        self.sep = options.sep.encode()
        self.quote = (options.quotechar or "").encode()
        self.escape = (options.escapechar or "").encode()
        self.spans_lines = options.multiline
        """Newlines within quotes are text."""
        self._blank = b" \t".replace(self.sep, b"") + b"\r\n"
        field, open_field = _fields(self.sep, self.quote, self.escape)
        any_field = field + b"|" + open_field if open_field else field
        self._field = re.compile(any_field, re.DOTALL)
        sep = re.escape(self.sep)
        self._closed = re.compile(b"(?:%b)(?:%b(?:%b))*+(?:\r\n|\n|\r|\\Z)" % (field, sep, field), re.DOTALL)
        # Where newlines always end a record, what stands between two of them is one, closed or not.
        self._record = (
            re.compile(b"(?:%b)(?:%b(?:%b))*+(?:\r\n|\n|\r|\\Z)" % (any_field, sep, any_field), re.DOTALL)
            if options.multiline
            else re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r|\Z)")
        )

    def records(self, data: bytes) -> list[Span]:
        """All records, the ends of their lines included; blank lines are none."""
        return list(self._records(data))

    def first(self, data: bytes, count: int) -> list[bytes]:
        """The first records, `count` at most."""
        return [data[start:stop] for start, stop in islice(self._records(data), count)]

    def fields(self, record: bytes) -> list[Span]:
        """Where the fields of a record are, their quotes included."""
        found: list[Span] = []
        at = 0
        while True:
            field = self._field.match(record, at)
            stop = len(record) if field is None else field.end()
            found.append(Span(at, stop))
            if not record.startswith(self.sep, stop):
                return found
            at = stop + 1

    def field_count(self, record: bytes) -> int:
        return len(self.fields(record)) if self.may_be_open(record) else record.count(self.sep) + 1

    def may_be_open(self, record: bytes) -> bool:
        """There are quotes or escape characters in it."""
        return bool(self.quote and self.quote in record) or bool(self.escape and self.escape in record)

    def without_empty_end(self, record: bytes) -> bytes | None:
        """The record, with a newline, without its last field and the separator before it, if that is empty."""
        start, stop = self.fields(record)[-1]
        if record[start:stop] not in (b"", self.quote * 2):
            return None
        return record[: start - len(self.sep)] + b"\n"

    def is_closed(self, record: bytes) -> bool:
        """No quoted field is open at its end, and no escape character either."""
        if not self.spans_lines:
            record = record.rstrip(b"\r\n")  # Else an escape character would hide the newline behind it.
        closed = self._closed.match(record)
        return closed is not None and closed.end() == len(record)

    def end_of_first(self, data: bytes) -> int:
        """Where the first record, a header, ends."""
        return next(self._records(data), Span(0, len(data))).stop

    def _records(self, data: bytes) -> Iterator[Span]:
        match, blank, at, end = self._record.match, self._blank, 0, len(data)
        while at < end:
            record = match(data, at)
            # Only an escape character with nothing behind it, at the very end, is part of no field.
            stop = record.end() if record is not None and record.end() > at else end
            if data[at:stop].strip(blank):
                yield Span(at, stop)
            elif data.startswith(b"\r", stop - 1) and data.startswith(self.sep, stop):
                stop += 1  # An oddity of pandas: what it looks for there is a newline, or else a separator.
            at = stop


def _fields(sep: bytes, quote: bytes, escape: bytes) -> tuple[bytes, bytes]:
    """Patterns of a field that is complete, and of a quoted one that is not; empty where there are no quotes."""
    ends = re.escape(sep) + rb"\r\n"
    escaped = b"|" + re.escape(escape) + b"." if escape else b""
    text = b"(?:[^%b%b]++%b)*+" % (ends, re.escape(escape), escaped)
    if not quote:
        return text, b""
    quoted = re.escape(quote)
    inner = b"%b(?:[^%b%b]++|%b%b%b)*+" % (quoted, quoted, re.escape(escape), quoted, quoted, escaped)
    behind = b"(?:[^%b]%b)?+" % (ends, text)
    return b"%b%b%b|(?!%b)%b" % (inner, quoted, behind, quoted, text), inner + rb"\Z"
