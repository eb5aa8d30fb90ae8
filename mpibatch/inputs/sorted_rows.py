"""Which rows of the user's file the rows of a sorted copy are: int64, least byte first, in a file beside it."""

from __future__ import annotations

import sys
from array import array

from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Unreadable

_SIZE = 8


def rows_file(path: bytes) -> bytes:
    """The file beside the sorted copy at `path`."""
    return path + b".rows"


def original_rows(path: bytes, first: int, count: int) -> list[int]:
    """The numbers in the user's file of `count` rows of the copy from its row `first` on. Raises Unreadable."""
    try:
        with open(rows_file(path), "rb") as file:
            file.seek(_SIZE * first)
            data = file.read(_SIZE * count)
    except OSError as error:
        raise Unreadable(f"{shown(rows_file(path))} cannot be read: {error.strerror}") from error
    if len(data) != _SIZE * count:
        raise Unreadable(f"{shown(rows_file(path))} is too short: it was changed, or cut")
    numbers = array("q", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
