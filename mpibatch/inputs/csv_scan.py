"""Where the records of a CSV file begin, found in its bytes at the speed of reading, even in mid-file.

Whoever begins in mid-file does not know whether that is within quotes. So everything is found twice, for a
start outside of quotes and for one inside; whoever joins the ranges of a file knows which one it was. What
is inside is known by the parity of the quotes before it. That holds only where each quote stands at an end
of its field, or is doubled within it; other quotes make a range *not trusted*: the parser of pandas takes
them for text, so the file needs `csv_exact`.

All bytes are looked at 64 at a time: a set of positions is an array of 64-bit words, a bit for each byte.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bits = NDArray[np.uint64]
    Positions = NDArray[np.int64]

Piece = bytes | bytearray

NEWLINE, RETURN = b"\n\r"
_SPACE = 32
_STEPS = 16
"""Bytes of white space in front of a line that are looked at for all lines at once."""


class Dialect(msgspec.Struct, frozen=True):
    """The bytes that mean something. All of them are ASCII."""

    sep: int
    quote: int | None
    escape: int | None = None
    returns: bool = True
    """A lone carriage return ends a line too."""
    blanks: bytes = b" \t"
    """A line of these only is no record."""


class Starts(NamedTuple):
    """Where records begin: if the scan began outside of quotes, and if inside. Ascending."""

    outside: Positions
    inside: Positions


class Scanner:
    """Is fed with a range of a file piece by piece, and tells where the records begin that begin in it.

    `odd`: the quotes so far are odd in number. `trusted`: whether the parity of quotes can be relied on,
    for a start outside of quotes and for one inside.
    """

    def __init__(self, dialect: Dialect, position: int, before: int = NEWLINE) -> None:
        """`before`: the byte in front of the range; a newline where a record may begin with it."""
        import numpy as np

        self.odd = False
        self.trusted = [dialect.escape is None, dialect.escape is None]
        self._dialect = dialect
        self._position = position
        self._before = before
        self._pending: tuple[int, bool] | None = None
        """A line of only white space so far: where it begins, and whether in quotes, for a start outside."""
        self._blanks = re.compile(b"[" + re.escape(dialect.blanks) + b"]*+")
        self._mask = np.empty(0, np.bool_)
        self._is_blank = np.isin(np.arange(256), list(dialect.blanks))

    def feed(self, piece: Piece) -> Starts:
        """The starts of records in this piece, and maybe that of a line which the last piece left open."""
        import numpy as np

        resolved = self.resolve(piece)
        if not piece:
            return resolved
        data = np.frombuffer(piece, np.uint8)
        if len(piece) % 64:
            # Newlines do no harm behind the end: lines that begin there are left out.
            data = np.concatenate((data, np.full(-len(piece) % 64, NEWLINE, np.uint8)))
        lines, inside = self._without_blank(data, piece, *self._lines(data, piece))
        lines += self._position
        starts = Starts(lines[~inside], lines[inside]) if inside.any() else Starts(lines, lines[:0])
        self._position += len(piece)
        self._before = piece[-1]
        if len(resolved.outside) or len(resolved.inside):
            starts = Starts(*(np.concatenate((one, other)) for one, other in zip(resolved, starts)))
        return starts

    def resolve(self, data: Piece) -> Starts:
        """What follows decides whether the line that was left open is a record: its start, if so."""
        import numpy as np

        none = np.zeros(0, np.int64)
        first = 0 if self._pending is None else _end(self._blanks, data, 0)
        if self._pending is None or first == len(data):
            return Starts(none, none)
        (position, inside), self._pending = self._pending, None
        if data[first] in (NEWLINE, RETURN):
            return Starts(none, none)
        start = np.array([position], np.int64)
        return Starts(none, start) if inside else Starts(start, none)

    @property
    def pending(self) -> bool:
        """The last line was of white space so far: `resolve` it with what follows in the file, if anything."""
        return self._pending is not None

    def _lines(self, data: NDArray[np.uint8], piece: Piece) -> tuple[Positions, NDArray[np.bool_]]:
        """Where lines begin, and which of them inside quotes, for a start outside."""
        import numpy as np

        dialect, before = self._dialect, self._before
        newline = self._equal(data, NEWLINE)
        ends = _bits(newline)
        lines = _positions(ends, newline)
        lines += 1
        if before == NEWLINE:
            lines = np.concatenate((np.zeros(1, np.int64), lines))
        # What is in front of the piece matters as well: a return may have ended a line, a quote a field.
        has_returns = dialect.returns and (before == RETURN or RETURN in piece)
        has_quotes = dialect.quote is not None and (before == dialect.quote or dialect.quote in piece)
        if has_returns:
            lines = self._with_returns(lines, ends, data)
        lines = lines[: np.searchsorted(lines, len(piece))]
        if not has_quotes:
            return lines, np.full(len(lines), self.odd)
        inside = self._inside(data, ends)
        return lines, (inside[lines >> 6] >> (lines & 63).view(np.uint64) & np.uint64(1)).astype(np.bool_)

    def _equal(self, data: NDArray[np.uint8], byte: int) -> NDArray[np.bool_]:
        """Where a byte is, until the next call: always in the same memory, as new memory costs more than that."""
        import numpy as np

        if len(data) > len(self._mask):
            self._mask = np.empty(len(data), np.bool_)
        return np.equal(data, byte, out=self._mask[: len(data)])

    def _with_returns(self, lines: Positions, ends: Bits, data: NDArray[np.uint8]) -> Positions:
        """Adds the lines that begin behind a lone return, and to `ends`, the newlines, all returns."""
        import numpy as np

        returns = _bits(self._equal(data, RETURN))
        alone = _after(returns, self._before == RETURN) & ~ends
        ends |= returns
        if not alone.any():
            return lines
        # Behind a blank line that ends so, the parser of pandas swallows a separator: no matter for this scan.
        if (alone & _bits(self._equal(data, self._dialect.sep))).any():
            self.trusted = [False, False]
        more = np.flatnonzero(np.unpackbits(alone.view(np.uint8), bitorder="little"))
        return np.sort(np.concatenate((lines, more)))

    def _inside(self, data: NDArray[np.uint8], ends: Bits) -> Bits:
        """Of each byte: whether what stands before it left a quote open."""
        import numpy as np

        quotes = _bits(self._equal(data, self._dialect.quote or 0))
        ends |= quotes
        ends |= _bits(self._equal(data, self._dialect.sep))
        inside = _parity(quotes, self.odd)
        self.odd = bool(inside[-1] >> np.uint64(63))
        inside ^= quotes
        self._distrust(quotes, ends, inside)
        return inside

    def _distrust(self, quotes: Bits, ends: Bits, inside: Bits) -> None:
        """A quote must open at the begin of a field, and a closing one be followed by the field's end."""
        before = self._before
        at_begin = _after(ends, before in (NEWLINE, RETURN, self._dialect.sep, self._dialect.quote))
        wrong = quotes & ~at_begin  # If it opens.
        wrong_after = _after(quotes, before == self._dialect.quote) & ~ends  # If what it follows has closed.
        wrong |= wrong_after
        if wrong.any():
            self.trusted[0] = self.trusted[0] and not (wrong & ~inside).any()
            self.trusted[1] = self.trusted[1] and not (wrong & inside).any()

    def _without_blank(
        self,
        data: NDArray[np.uint8],
        piece: Piece,
        lines: Positions,
        inside: NDArray[np.bool_],
    ) -> tuple[Positions, NDArray[np.bool_]]:
        """Leaves out lines of nothing or of white space; remembers one that the piece's end leaves open."""
        first = data[lines]
        if not (first <= _SPACE).any():
            return lines, inside
        keep = first != NEWLINE
        if self._dialect.returns:
            keep &= first != RETURN
        spaced = (keep & self._is_blank[first]).nonzero()[0]
        if len(spaced):
            ends = self._behind_blanks(data, piece, lines[spaced])
            if ends[-1] == len(piece):
                self._pending = (int(lines[spaced[-1]]) + self._position, bool(inside[spaced[-1]]))
                keep[spaced[-1]] = False
                spaced, ends = spaced[:-1], ends[:-1]
            following = data[ends]
            keep[spaced] = (following != NEWLINE) & (following != RETURN)
        return lines[keep], inside[keep]

    def _behind_blanks(self, data: NDArray[np.uint8], piece: Piece, lines: Positions) -> Positions:
        """Where white space at the begin of these lines ends; the piece's end at most."""
        import numpy as np

        ends, open_ = lines.copy(), np.arange(len(lines))
        for _ in range(_STEPS):
            ends[open_] += 1
            open_ = open_[ends[open_] < len(piece)]
            open_ = open_[self._is_blank[data[ends[open_]]]]
            if not len(open_):
                return ends
        for number in open_:
            ends[number] = _end(self._blanks, piece, ends[number])
        return ends


def _end(pattern: re.Pattern[bytes], data: Piece, at: int) -> int:
    """Where a match that begins at `at` ends; there, if nothing matches."""
    found = pattern.match(data, at)
    return found.end() if found else at


def _bits(mask: NDArray[np.bool_]) -> Bits:
    import numpy as np

    return np.packbits(mask, bitorder="little").view("<u8")


def _positions(bits: Bits, mask: NDArray[np.bool_]) -> Positions:
    """Where the bits are, which stand in `mask` too: a few in each word are found much faster there."""
    import numpy as np

    if not hasattr(np, "bitwise_count"):  # numpy 1
        return np.flatnonzero(mask)
    words = np.flatnonzero(bits)
    rest = bits[words]
    found: list[Positions] = []
    while len(words):
        less = rest - np.uint64(1)
        found.append((words << 6) + np.bitwise_count(less & ~rest))  # The lowest bit of each.
        rest &= less
        more = np.flatnonzero(rest)
        if 2 * len(more) > len(found[0]):
            return np.flatnonzero(mask)
        words, rest = words[more], rest[more]
    positions = np.concatenate(found) if found else words
    if len(found) > 1:
        positions.sort(kind="stable")  # Some sorted runs: so they are merged.
    return positions


def _after(bits: Bits, first: bool) -> Bits:
    """The positions that follow those of `bits`; `first`: the very first one follows one too."""
    import numpy as np

    following = bits << np.uint64(1)
    following[1:] |= bits[:-1] >> np.uint64(63)
    following[0] |= np.uint64(first)
    return following


def _parity(bits: Bits, odd: bool) -> Bits:
    """Of each position: whether the positions of `bits` up to it, and `odd` more before, are odd in number."""
    import numpy as np

    within, shifted = bits.copy(), np.empty_like(bits)
    for step in (1, 2, 4, 8, 16, 32):
        within ^= np.left_shift(within, np.uint64(step), out=shifted)
    before = np.bitwise_xor.accumulate(within >> np.uint64(63))
    before = np.concatenate((np.array([0], np.uint64), before[:-1])) ^ np.uint64(odd)
    return within ^ (np.uint64(0) - before)
