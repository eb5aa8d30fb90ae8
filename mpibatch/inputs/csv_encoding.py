"""Encodings: whether a file's bytes can be scanned as they are, and if not, its text as UTF-8."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain

from mpibatch.core.settings import printable
from mpibatch.errors import InputError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MARKED = "mpibatch.mark"
"""What does not decode becomes a byte that is no UTF-8 either, so that it is seen there."""


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\udc80", error.end


codecs.register_error(MARKED, _mark)


@lru_cache(maxsize=16)
def scannable(encoding: str) -> bool:
    """Whether each byte below 128 is that ASCII character, wherever in the text it stands.

    So it is in UTF-8, in the code pages of one byte and in the EUC encodings. It is not in UTF-16 and UTF-32,
    nor where a second byte may look like ASCII (Shift JIS, GBK, Big5, GB 18030), nor in encodings with
    states (ISO 2022, HZ, UTF-7). Found by encoding every character of the basic plane. Raises LookupError.
    """
    name = codecs.lookup(encoding).name
    if is_utf8(encoding):
        return True
    try:
        if bytes(range(128)).decode(name) != "".join(map(chr, range(128))):
            return False
        return not any(_looks_like_ascii(chr(code), name) for code in range(128, 0x10000))
    except UnicodeError:
        return False


def _looks_like_ascii(character: str, encoding: str) -> bool:
    """Whether it is spelled with a byte below 128. One that the encoding does not have is not."""
    try:
        spelled = character.encode(encoding)
    except UnicodeError:
        return False
    # EUC-JP spells the yen sign as a backslash, which is none when read again.
    return min(spelled) < 128 and spelled.decode(encoding) == character


def is_utf8(encoding: str) -> bool:
    """Whether it is UTF-8, with or without a byte-order mark, which is no data then."""
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def check_encoding(encoding: str, origin: str) -> None:
    """Raises InputError where Python does not know it as an encoding of text."""
    try:
        "".encode(encoding)
    except LookupError:
        raise InputError(
            f"{origin}: encoding is {printable(encoding)}, which Python does not know."
            " Write one of its names, such as utf-8, latin-1, cp1252 or utf-16."
        ) from None


def as_utf8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The text of a file in UTF-8. What does not decode is replaced: the reader of the rows will tell of it."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    for block in blocks:
        if text := decoder.decode(block):
            yield text.encode("utf-8", "replace")
    if text := decoder.decode(b"", final=True):
        yield text.encode("utf-8", "replace")


def marked_utf8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The text of a file in UTF-8, without a byte-order mark. What does not decode is no UTF-8 afterwards."""
    decoder = codecs.getincrementaldecoder(encoding)(errors=MARKED)
    at_beginning = True
    for block in chain(blocks, [b""]):
        text = decoder.decode(block, final=not block)
        if text and at_beginning:
            at_beginning, text = False, text.removeprefix("\ufeff")
        if text:
            yield text.encode("utf-8", "surrogateescape")
