"""What pandas reads a CSV mini-batch from: bytes of a file, in UTF-8, without copies in between.

pandas hands what a file-like object's `read` gives to its C parser as it is, if that object is none of io's
binary classes: these it would wrap, to decode all of it and encode it again.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Self

from mpibatch.inputs.csv_encoding import BYTE_ORDER_MARK, MARKED, is_utf8


def to_utf8(data: bytes, encoding: str, *, at_beginning: bool) -> bytes:
    """The same text in UTF-8, without a byte-order mark; what does not decode is no UTF-8 afterwards."""
    if not is_utf8(encoding):
        data = data.decode(encoding, MARKED).encode("utf-8", "surrogateescape")
    return data.removeprefix(BYTE_ORDER_MARK) if at_beginning else data


class Text:
    """A file-like object for `pandas.read_csv`: what `read_block` gives.

    `read_block(size)` gives at most `size` bytes in `encoding`, none at the end. `at_beginning`: these are
    the first of a file, which may have a byte-order mark. As a context it closes what it reads from.
    """

    def __init__(
        self,
        read_block: Callable[[int], bytes],
        encoding: str,
        *,
        at_beginning: bool,
        closes: Callable[[], object] | None = None,
    ) -> None:
        self._read_block = read_block
        self._decoder = None if is_utf8(encoding) else codecs.getincrementaldecoder(encoding)()
        self._at_beginning = at_beginning
        self._closes = closes
        self.before = b""
        """Comes first, in UTF-8."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._closes is not None:
            self._closes()

    def read(self, size: int = -1) -> bytes | str:
        """The next block; empty only at the end."""
        if self.before:
            before, self.before = self.before, b""
            return before
        while True:
            block = self._read_block(size)
            text: bytes | str = block if self._decoder is None else self._decoder.decode(block, not block)
            if self._at_beginning and text:
                self._at_beginning = False
                text = _without_mark(text)
            if text or not block:
                return text

    def __iter__(self) -> Iterator[str]:
        """Only by this does pandas know that it is file-like."""
        return iter(())


def _without_mark(text: bytes | str) -> bytes | str:
    return text.removeprefix("\ufeff") if isinstance(text, str) else text.removeprefix(BYTE_ORDER_MARK)


def of_bytes(data: bytes) -> Text:
    """A text in UTF-8 that is in memory."""
    blocks = [data]
    return Text(lambda size: blocks.pop() if blocks else b"", "utf-8", at_beginning=False)


def of_blocks(read: Callable[[int, int], bytes], start: int, stop: int) -> Callable[[int], bytes]:
    """A `read_block` over the bytes [start, stop) of what `read(at, size)` reads."""
    at = start

    def read_block(size: int) -> bytes:
        nonlocal at
        block = read(at, min(size, stop - at)) if at < stop else b""
        at += len(block)
        return block

    return read_block
