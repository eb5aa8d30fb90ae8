"""Reads mini-batches of JSON lines, in the processor: each line is a row, an object.

All lines are decoded in one call. Only where that fails, or gives other than the planned number of rows, are
they looked at one by one, so that a line that is no object costs no other one.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, NamedTuple

import msgspec

from mpibatch.core.tables import JsonlOptions
from mpibatch.inputs.jsonl_frame import to_frame
from mpibatch.inputs.origin import shown
from mpibatch.inputs.ranges import KeptFile, Lines, open_stream, read_stream
from mpibatch.inputs.survey import Batch, Reader, Unreadable
from mpibatch.inputs.suspects import TooManyFail
from mpibatch.work import BadItem, ErrorReport, Slice

Row = dict[str, Any]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_SHOWN = 100
"""Characters of a line in a message."""
_NO_ARRAY = " (JSON lines are an object on each line, without an array around them)"


def open_reader(options: JsonlOptions, setup: bytes) -> Reader:
    """A reader of an input's files. There is nothing that it has to know of the survey."""
    return JsonlReader(options)


class _Line(NamedTuple):
    offset: int
    text: bytes


class JsonlReader:
    """Keeps open the file that was read last."""

    def __init__(self, options: JsonlOptions) -> None:
        self._options = options
        self._file = KeptFile()
        self._numbers = Lines(self._file)
        self._decoder = msgspec.json.Decoder(Row)

    def read(self, source: Slice, count: int) -> Batch:
        """The rows [skip, skip + count) of a mini-batch. Raises Unreadable."""
        text = self._text(source)
        good, rows, reasons = self._rows(text, source)
        data: Any
        if self._options.as_ == "records":
            data = self._records(rows)
        else:
            try:
                data, misfits = to_frame(rows, self._options)
            except (TooManyFail, ValueError, TypeError) as error:
                raise Unreadable(
                    f"{shown(source.name or source.path)}: no table can be made of it: {error}"
                ) from error
            reasons.update((good[number], reason) for number, reason in misfits.items())
        if reasons or count != source.rows:
            data = _part(data, source, count, reasons)
        bad = self._bad_items(text, source, count, reasons) if reasons else []
        return Batch(data, bad)

    def close(self) -> None:
        self._file.close()

    def _text(self, source: Slice) -> bytes:
        if source.whole:
            with closing(open_stream(source.path)) as stream:
                text = read_stream(source.path, stream)
        else:
            text = self._file.read_all(source.path, source.start, source.stop)
        return text.removeprefix(_BYTE_ORDER_MARK) if source.whole or source.start == 0 else text

    def _rows(self, text: bytes, source: Slice) -> tuple[range | list[int], list[Row], dict[int, str]]:
        """Numbers of the lines that are objects, these, and what is wrong with the others."""
        try:
            rows = self._decoder.decode_lines(text)
        except (ValueError, RecursionError):  # Errors of msgspec are ValueErrors.
            rows = []
        if len(rows) == source.rows:
            return range(source.rows), rows, {}
        good: list[int] = []
        reasons: dict[int, str] = {}
        rows = []
        for number, line in enumerate(_lines(text, source)):
            row = self._row(line.text)
            if isinstance(row, str):
                reasons[number] = row
            else:
                good.append(number)
                rows.append(row)
        return good, rows, reasons

    def _row(self, line: bytes) -> Row | str:
        """The row of a line, or why it has none."""
        try:
            return self._decoder.decode(line)
        except UnicodeDecodeError:
            return "bytes that are no utf-8"
        except RecursionError:
            return "nested too deeply"
        except msgspec.DecodeError as error:
            if b"NaN" in line or b"Infinity" in line:
                return _row_of_python(line)
            hint = _NO_ARRAY if line.lstrip(_BLANK).startswith(b"[") else ""
            return f"no JSON object: {str(error).removeprefix('JSON is malformed: ')}{hint}"

    def _records(self, rows: list[Row]) -> list[Row]:
        columns = self._options.columns
        if columns is None:
            return rows
        return [{name: row[name] for name in columns if name in row} for row in rows]

    def _bad_items(self, text: bytes, source: Slice, count: int, reasons: dict[int, str]) -> list[BadItem]:
        lines = _lines(text, source)
        number_of = self._numbers.numbers(source.path, 0 if source.whole else source.start, text)
        found = []
        for number in sorted(reasons):
            if source.skip <= number < source.skip + count:
                offset, line = lines[number]
                where = f"{shown(source.name or source.path)}, {number_of(offset)}"
                words = f"{where}: {reasons[number]}: {_shortened(line)}"
                found.append(BadItem(number - source.skip, ErrorReport("BadRecord", words)))
        return found


def _part(data: Any, source: Slice, count: int, reasons: dict[int, str]) -> Any:
    """The piece's part of all good rows."""
    first = source.skip - sum(number < source.skip for number in reasons)
    last = source.skip + count
    last -= sum(number < last for number in reasons)
    if isinstance(data, list):
        return data[first:last]
    return data.iloc[first:last].reset_index(drop=True)


def _lines(text: bytes, source: Slice) -> list[_Line]:
    """Those that are not blank. Raises Unreadable where they are not as many as were planned."""
    lines: list[_Line] = []
    offset = 0
    for line in text.split(b"\n"):
        if line.strip(_BLANK):
            lines.append(_Line(offset, line))
        offset += len(line) + 1
    if len(lines) != source.rows:
        raise Unreadable(
            f"{shown(source.name or source.path)} has {len(lines):,} rows where {source.rows:,} were planned: it"
            " has changed since it was planned. Start a new run, with --fresh."
        )
    return lines


def _row_of_python(line: bytes) -> Row | str:
    """Python writes numbers that JSON does not know: NaN, Infinity, -Infinity."""
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # Half a character is no text.
    except (ValueError, RecursionError) as error:
        return f"no JSON object: {error}"
    return row if isinstance(row, dict) else "no JSON object"


def _shortened(line: bytes) -> str:
    text = line[: 4 * _SHOWN].decode(errors="backslashreplace").strip()
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
