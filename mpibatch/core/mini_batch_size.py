"""How large a mini-batch is: a count of files, or bytes or rows of a table. Pure."""

from __future__ import annotations

import re
from typing import Any

from mpibatch.core.settings import LARGEST, Wrong, did_you_mean, whole_number
from mpibatch.core.tables import ByRows, BySize, MiniBatchSize

DEFAULT_TABLE_SIZE = BySize(bytes=2**20)

_UNITS = {"b": 1, "kb": 2**10, "kib": 2**10, "mb": 2**20, "mib": 2**20, "gb": 2**30, "gib": 2**30}
_SHOWN_UNITS = ("B", "KB", "MB", "GB", "rows")
_MOST_BYTES = 2**40
_LEGAL = 'for tables it is bytes, like 1MB, 512KB or 65536, or rows, like "500 rows"'
_AMOUNT = re.compile(r"\s*(\d{1,18})(\.\d{1,18})?\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)
_FEW_BYTES = 1024
"""A mini-batch of fewer bytes is likely meant as rows."""

_ROW_WORDS = ("row", "rows")
_OTHER_WORDS = ("line", "lines", "record", "records", "item", "items")
_FILE_WORDS = ("file", "files")


def read_file_count(value: Any) -> int:
    """Files, members of archives, or numbers (`count:`)."""
    if isinstance(value, str) and not re.fullmatch(r"\s*\d+\s*", value):
        raise Wrong(
            "for files it is a count of files, so for numbers, a whole number from 1: bytes and rows are for tables"
        )
    count: int = whole_number(1, of="files in a mini-batch")(value)
    return count


def read_table_size(value: Any) -> MiniBatchSize:
    """A number is bytes; KB is 1,024 of them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _bytes(value)
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Wrong(_LEGAL)
    whole, fraction, word = found[1], found[2] or "", found[3].lower()
    if word in _ROW_WORDS:
        return _rows(whole, fraction)
    if word in _OTHER_WORDS:
        raise Wrong(f'{_LEGAL}; did you mean "{whole} rows"?')
    if word in _FILE_WORDS:
        raise Wrong(f"{_LEGAL}; a table's mini-batch never crosses a file")
    if not word:
        if fraction:
            raise Wrong(f"{_LEGAL}; a number without a unit is bytes, so a whole one")
        return _bytes(int(whole))
    if word not in _UNITS:
        raise Wrong(f"{_LEGAL}; units are {', '.join(_SHOWN_UNITS)}{did_you_mean(word, _SHOWN_UNITS)}")
    # A float is exact enough only where there is a fraction.
    return _bytes(int(float(whole + fraction) * _UNITS[word]) if fraction else int(whole) * _UNITS[word])


def _bytes(count: int) -> BySize:
    if not 1 <= count <= _MOST_BYTES:
        raise Wrong(f"{_LEGAL}; at least 1 byte, at most {_MOST_BYTES // 2**30}GB")
    return BySize(bytes=count)


def _rows(whole: str, fraction: str) -> ByRows:
    if fraction or not 1 <= int(whole) <= LARGEST:
        raise Wrong(f"{_LEGAL}; rows are a whole number from 1 to {LARGEST}")
    return ByRows(rows=int(whole))


def as_argument(size: MiniBatchSize) -> str:
    """As the entry script gets it in its arguments: bytes as a number, else `500 rows`."""
    return f"{size.rows} rows" if isinstance(size, ByRows) else str(size.bytes)


def size_warnings(size: MiniBatchSize) -> list[str]:
    """A warning where bytes look as if rows were meant."""
    if isinstance(size, ByRows) or size.bytes >= _FEW_BYTES:
        return []
    count = size.bytes
    byte, row = ("byte", "row") if count == 1 else ("bytes", "rows")
    return [
        f"mini_batch_size: {count} is {count} {byte}, so mini-batches of hardly more than one row each;"
        f' {count} {row} is mini_batch_size: "{count} {row}"'
    ]
