"""Where the records of a CSV file begin by all rules that the parser of pandas has, for any text. Slower.

The rules: a quote opens a quoted field only as its very first byte, elsewhere in an unquoted field it is
text. In a quoted field a doubled quote is text, a single one closes it; what follows it up to the separator
is text whatever it is. An escape character makes the next byte text, newlines too, but not directly
behind a closing quote, where it is text itself. A file that ends within quotes ends its last record.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from mpibatch.inputs.csv_scan import RETURN, Dialect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _Patterns(NamedTuple):
    line: re.Pattern[bytes]
    """At the begin of a line: one that is blank, or a record with its end, or `rest`: what lacks its end."""
    field: re.Pattern[bytes]
    """Within a record, outside of quotes: up to its end, or to a quote whose partner is not there."""
    quoted: re.Pattern[bytes]
    """Within quotes: up to and with the one that closes, or to the end."""
    uncertain: bytes
    """What may mean one thing or another, depending on what follows."""


@lru_cache(maxsize=8)
def _patterns(dialect: Dialect) -> _Patterns:
    escaped = b"" if dialect.escape is None else re.escape(bytes([dialect.escape]))
    sep = re.escape(bytes([dialect.sep]))
    quote = b"" if dialect.quote is None else re.escape(bytes([dialect.quote]))
    ending = rb"(?:\r\n|\r|\n)" if dialect.returns else rb"\n"
    others = [b"[^" + quote + escaped + (rb"\r\n]++" if dialect.returns else rb"\n]++")]
    inner = [b"[^" + quote + escaped + b"]++"]
    if escaped:
        others.append(escaped + b"(?s:.)" + (quote + b"*+" if quote else b""))
        inner.append(escaped + b"(?s:.)")
    begin, quoted = b"", b"(?!)"
    if quote:
        inner.append(quote + quote)
        quoted = b"(?:" + b"|".join(inner) + b")*+" + quote + (escaped + b"?+" if escaped else b"")
        others += [b"(?<=" + sep + b")" + quote + quoted, b"(?<!" + sep + b")" + quote]
        begin = b"(?:" + quote + quoted + b"|(?!" + quote + b"))"
    field = b"(?:" + b"|".join(others) + b")*+"
    white = b"[" + re.escape(dialect.blanks) + b"]"
    # Behind a blank line that ends with a lone return, the parser of pandas swallows a separator, and
    # gives it back where white space and then something else follow.
    swallowed = b"(?:" + sep + b"(?!" + white + rb"++[^\r\n]))?+"
    blank_ending = rb"(?:\r\n|\r" + swallowed + rb"|\n)" if dialect.returns else rb"\n"
    blank = b"(" + white + b"*+" + blank_ending + b")"
    return _Patterns(
        re.compile(blank + b"|" + begin + field + ending + b"|(?P<rest>(?s:.)+)"),
        re.compile(field),
        re.compile(quoted),
        dialect.blanks + b"\r\n" + bytes(b for b in (dialect.quote, dialect.escape) if b is not None),
    )


class ExactScanner:
    """Is fed with a file from a begin of a record on, piece by piece; keeps no more than a piece."""

    def __init__(self, dialect: Dialect, position: int) -> None:
        self._dialect = dialect
        self._patterns = _patterns(dialect)
        self._state: Literal["line", "field", "quoted"] = "line"
        self._data = b""
        """What was not looked at yet, with one byte in front of it if `_offset` is 1."""
        self._offset = 0
        self._position = position  # Of the first byte of `_data`.

    def feed(self, piece: bytes, last: bool = False) -> NDArray[np.int64]:
        """The starts of records that are certain now. `last`: the file ends with this piece."""
        import numpy as np

        data = self._data + piece
        end = len(data) if last else _certain(data, self._dialect)
        starts: list[int] = []
        at = self._offset
        while at < end:
            match self._state:
                case "line":
                    at = self._in_lines(data, at, end, starts)
                case "field":
                    at = self._in_field(data, at, end)
                case "quoted":
                    at = self._in_quotes(data, at, end)
        found = np.array(starts, np.int64) + self._position
        self._offset = min(at, 1)
        self._data = data[at - self._offset :]
        self._position += at - self._offset
        return found

    def _in_lines(self, data: bytes, at: int, end: int, starts: list[int]) -> int:
        for found in self._patterns.line.finditer(data, at, end):
            if found.lastindex is None:
                starts.append(found.start())
            elif found.lastgroup == "rest":
                return self._open_record(data, found.start(), end, starts)
        return end

    def _open_record(self, data: bytes, at: int, end: int, starts: list[int]) -> int:
        if not data[at:end].strip(self._dialect.blanks):
            return end  # The file ends with it: a line of white space.
        starts.append(at)
        quoted = data[at] == self._dialect.quote
        self._state = "quoted" if quoted else "field"
        return at + quoted

    def _in_field(self, data: bytes, at: int, end: int) -> int:
        found = self._patterns.field.match(data, at, end)
        at = found.end() if found else at
        if at == end or data[at] == self._dialect.escape:
            return end  # An escape character that is the file's last byte.
        if data[at] == self._dialect.quote:
            self._state = "quoted"
            return at + 1
        self._state = "line"
        return at + (2 if data[at] == RETURN and data[at + 1 : at + 2] == b"\n" else 1)

    def _in_quotes(self, data: bytes, at: int, end: int) -> int:
        found = self._patterns.quoted.match(data, at, end)
        if found is None:
            return end
        self._state = "field"
        return found.end()


def _certain(data: bytes, dialect: Dialect) -> int:
    """Up to where `data` means the same whatever follows."""
    uncertain = _patterns(dialect).uncertain
    end = len(data.rstrip(uncertain))
    # Behind an escaped separator a quote is text, which nobody sees who begins there; and see `swallowed`.
    while end > 1 and (
        data[end - 2] == dialect.escape or (data[end - 2] == RETURN and data[end - 1] == dialect.sep)
    ):
        end = len(data[: end - 2].rstrip(uncertain))
    return end


def first_record(data: bytes, dialect: Dialect, whole: bool) -> tuple[int, int] | None:
    """Begin and end, its newline included, of the first record; None if its end is not in `data`.

    `whole`: the file ends with `data`; then (n, n), with n the length, means that it has no record.
    """
    patterns = _patterns(dialect)
    end = len(data) if whole else _certain(data, dialect)
    for found in patterns.line.finditer(data, 0, end):
        if found.lastindex is None:
            return found.span()
        if found.lastgroup == "rest" and whole:
            blank = not found[0].strip(dialect.blanks)
            return (len(data), len(data)) if blank else (found.start(), len(data))
    return (len(data), len(data)) if whole else None
