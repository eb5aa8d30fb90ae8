"""Lines of CSV whose columns were written more narrowly than the file needs: 1 becomes 1.0."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mpibatch.core.forms import Form
from mpibatch.outputs.column_text import Style, float_text

_TAIL = " 00:00:00.000000000"
_TAIL_LENGTHS = {"date": 0, "seconds": 9, "millis": 13, "micros": 16, "nanos": 19}
"""How much of the tail, which a date without its time lacks, is written."""

_Change = Callable[[list[str]], list[str]]


class Damaged(ValueError):
    """The text is not lines of its form."""


def promote(text: bytes, own: Form, merged: Form, settings: Mapping[str, Any]) -> bytes:
    """The lines `text` of form `own` as they are where the file's form is `merged`.

    Cells that equal `na_rep` stay as they are. Raises Damaged if the lines have not the columns of the form.
    """
    changes = _changes(own, merged, settings)
    if not changes or not text:
        return text
    lines = text.decode("utf-8", "surrogateescape")
    style = Style(settings)
    columns = _columns(lines, len(own.columns), style, settings)
    for place, change in changes.items():
        columns[place] = _changed(columns[place], change, style, settings)
    joined = map(style.sep.join, zip(*columns, strict=True))
    return style.line_end.join((*joined, "")).encode("utf-8", "surrogateescape")


def _changes(own: Form, merged: Form, settings: Mapping[str, Any]) -> dict[int, _Change]:
    """What is to be done to which column."""
    changes: dict[int, _Change] = {}
    for place, (mine, yours) in enumerate(zip(own.columns, merged.columns, strict=True)):
        if mine.type == "int" and yours.type == "float":
            changes[place] = lambda texts: _as_floats(texts, settings)
        elif mine.type != yours.type and mine.type in _TAIL_LENGTHS and yours.type in _TAIL_LENGTHS:
            tail = _TAIL[_TAIL_LENGTHS[mine.type] : _TAIL_LENGTHS[yours.type]]
            changes[place] = lambda texts, tail=tail: [text + tail for text in texts]  # type: ignore[misc]
    return changes


def _as_floats(texts: list[str], settings: Mapping[str, Any]) -> list[str]:
    import numpy as np

    try:
        values = np.array(list(map(int, texts)), np.float64)
    except ValueError as error:
        raise Damaged(f"a column of whole numbers has another cell: {error}") from error
    formats = {key: settings[key] for key in ("float_format", "decimal") if settings.get(key) is not None}
    if not formats:
        return float_text(values, "")
    import pandas as pd

    frame = pd.DataFrame({"value": values})
    # Separated by what no number holds, so that none is quoted.
    written: str = frame.to_csv(sep="\x1f", quotechar="\x1e", header=False, index=False, **formats)
    return written.splitlines()


def _columns(lines: str, count: int, style: Style, settings: Mapping[str, Any]) -> list[list[str]]:
    """The cells of each column as they stand there, quotes included."""
    bare = style.quotechar not in lines and settings.get("escapechar") is None
    if bare or (settings.get("quoting") == 3 and settings.get("escapechar") is None):
        rows = [line.split(style.sep) for line in lines.split(style.line_end)[:-1]]
        if any(len(row) != count for row in rows):
            raise Damaged(f"a line has not the {count} columns of its form")
        return list(map(list, zip(*rows, strict=True)))
    found = _cell(style, settings).findall(lines)
    if len(found) % count or sum(map(len, map("".join, found))) != len(lines):
        raise Damaged(f"the lines have not the {count} columns of their form")
    cells = [cell for cell, _ in found]
    return [cells[place::count] for place in range(count)]


def _cell(style: Style, settings: Mapping[str, Any]) -> re.Pattern[str]:
    """A cell and what ends it."""
    quote, sep, end = re.escape(style.quotechar), re.escape(style.sep), re.escape(style.line_end)
    escape = settings.get("escapechar")
    escaped, barrier = (f"|{re.escape(escape)}.", re.escape(escape)) if escape is not None else ("", "")
    plain = f"(?:[^{sep}{end}{barrier}]{escaped})*"
    if settings.get("quoting") == 3:
        cell = plain
    else:
        cell = f"{quote}(?:[^{quote}{barrier}]|{quote}{quote}{escaped})*{quote}|{plain}"
    return re.compile(f"({cell})({sep}|{end})", re.DOTALL)


def _changed(cells: list[str], change: _Change, style: Style, settings: Mapping[str, Any]) -> list[str]:
    quote = style.quotechar
    quoted = [len(cell) > 1 and cell[0] == cell[-1] == quote for cell in cells]
    texts = [cell[1:-1] if inside else cell for cell, inside in zip(cells, quoted, strict=True)]
    na_rep = settings.get("na_rep", "")
    missing = {na_rep, na_rep.replace(quote, quote * 2), style.missing}
    given = [place for place, text in enumerate(texts) if text not in missing]
    changed = change([texts[place] for place in given])
    needed = style.quoted(changed) if settings.get("quoting") != 3 else changed
    result = cells.copy()
    for place, text, safe in zip(given, changed, needed, strict=True):
        result[place] = f"{quote}{text}{quote}" if quoted[place] else safe
    return result
