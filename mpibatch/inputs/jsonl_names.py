"""Names of keys that a job gives for JSON lines, against those that the first rows of the input have."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpibatch.core.settings import did_you_mean, printable
from mpibatch.core.tables import JsonlOptions
from mpibatch.inputs.origin import shown
from mpibatch.inputs.ranges import open_stream, read_stream
from mpibatch.inputs.survey import TableFile, Unreadable

FIRST_ROWS = 1_000
_FIRST_BYTES = 1 << 20
_SHOWN_NAMES = 30


def unknown_names(files: Sequence[TableFile], options: JsonlOptions) -> list[str]:
    """A warning for each name in the options that none of the first rows has: a row may lack any key, so it may be
    right, but it looks like a mistake. Without a row that can be read there is none."""
    given = {
        "columns": options.columns or [],
        "dtype": list(options.dtype or {}),
        "parse_dates": options.parse_dates,
    }
    if not any(given.values()):
        return []
    for file in files:
        rows = _first_rows(file)
        if rows:
            return _compared(given, file, list(dict.fromkeys(key for row in rows for key in row)), len(rows))
    return []


def _compared(given: dict[str, list[str]], file: TableFile, there: list[str], rows: int) -> list[str]:
    listed = ", ".join(printable(name) for name in there[:_SHOWN_NAMES])
    return [
        f"{key}: none of the first {rows:,} rows of {shown(file.name)} has {shown(name)}{did_you_mean(name, there)}"
        f" (they have {listed})"
        for key, names in given.items()
        for name in names
        if name not in there
    ]


def _first_rows(file: TableFile) -> list[dict[str, object]]:
    try:
        with open_stream(file.path) as stream:
            block = read_stream(file.path, stream, _FIRST_BYTES)
    except Unreadable:
        return []  # Told of elsewhere.
    lines = block.split(b"\n")
    if len(block) == _FIRST_BYTES:
        lines.pop()  # Cut short, perhaps.
    rows = []
    for line in lines[:FIRST_ROWS]:
        try:
            row = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue  # Blank, or a bad row: the reader names it.
        if isinstance(row, dict):
            rows.append(row)
    return rows
