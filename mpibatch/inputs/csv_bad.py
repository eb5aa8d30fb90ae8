"""Finds the malformed records of a CSV mini-batch, and reads the others. Only done where reading has failed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mpibatch.inputs.csv_bad_records import Rules
from mpibatch.inputs.csv_bad_values import bad_values, mend_dates
from mpibatch.inputs.csv_reader_form import Form, Naming
from mpibatch.inputs.csv_reader_text import of_bytes
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.inputs.suspects import TooManyFail
from mpibatch.work import BadItem, ErrorReport, Slice

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 100
"""Characters of a record in a message."""

_OPEN = (
    "a quoted field is not closed",
    "a quoted field is not closed, or an escape character stands at its end",
)
"""Without and with escape characters."""

REFUSALS = (ValueError, TypeError, ArithmeticError, Warning)
"""What pandas raises where it does not take a value; its own errors are ValueErrors."""


class Sieve(NamedTuple):
    """How the mini-batches of a file are sifted."""

    form: Form
    naming: Naming
    """Its names are known."""
    rules: Rules
    encoding: str

    def sift(self, data: bytes, source: Slice, count: int, place: Callable[[int], str]) -> Batch:
        """The piece's rows, from the mini-batch's text in UTF-8.

        `place` says where in the file, for people, what begins at a byte of the text is. Raises Unreadable
        where there are not as many records as were planned, or the options are wrong.
        """
        spans = self.rules.records(data)
        if len(spans) != source.rows:
            raise Unreadable(
                f"{shown(source.name or source.path)} has {len(spans):,} rows where {source.rows:,} were planned"
                f" ({_part(source)}): it has changed since it was planned. Start a new run, with --fresh."
            )
        self._check_options(source)
        records, reasons = self._malformed([data[start:stop] for start, stop in spans])
        good = [number for number in range(len(records)) if number not in reasons]
        text = b"".join([records[number] for number in good])
        values = self._bad_values(source, text, good)
        if values:
            reasons |= values
            good = [number for number in good if number not in values]
            text = b"".join([records[number] for number in good])
        wanted = range(source.skip, source.skip + count)
        part = slice(bisect_left(good, wanted.start), bisect_left(good, wanted.stop))
        frame = self._frame(source, text, len(good)).iloc[part].reset_index(drop=True)
        bad = []
        for number in sorted(reasons.keys() & wanted):
            where = f"{shown(source.name or source.path)}, {place(spans[number].start)}"
            message = f"{where}: {reasons[number]}: {_shortened(records[number])}"
            bad.append(BadItem(number - source.skip, ErrorReport("BadRecord", message)))
        return Batch(frame, bad)

    def _check_options(self, source: Slice) -> None:
        """What pandas does not like in a text without records is not the records' fault."""
        try:
            self.form.frame(of_bytes(b""), self.naming)
            self.form.check_dtypes()
        except REFUSALS as error:
            raise Unreadable(
                f"{shown(source.name or source.path)} cannot be read with the options of its input: {error}."
                f" Its columns: {', '.join(self.naming.names or [])}."
            ) from error

    def _malformed(self, records: list[bytes]) -> tuple[list[bytes], dict[int, str]]:
        """The records as pandas can read them, and what is wrong with those that it cannot."""
        expected = len(self.naming.names or [])
        selected = self._selected()
        whole = list(records)
        reasons: dict[int, str] = {}
        for number, record in enumerate(records):
            if not _is_text(record) and (reason := self._undecodable(record, selected)):
                reasons[number] = reason
            elif self._is_open(record, last=number == len(records) - 1):
                reasons[number] = _OPEN[bool(self.rules.escape)]
            # With `columns`, pandas does not care for what stands behind the last one.
            elif self.form.columns is None and (fields := self.rules.field_count(record)) > expected:
                shorter = self.rules.without_empty_end(record) if fields == expected + 1 else None
                if shorter is None:
                    reasons[number] = f"{fields:,} fields where {expected:,} are expected"
                else:
                    whole[number] = shorter
        return whole, reasons

    def _selected(self) -> set[int] | None:
        """Numbers of the fields that are read; None: all."""
        columns = self.form.columns
        if columns is None or self.naming.names is None:
            return None
        return {self.naming.names.index(name) for name in columns}

    def _undecodable(self, record: bytes, selected: set[int] | None) -> str | None:
        for number, (start, stop) in enumerate(self.rules.fields(record)):
            if (selected is None or number in selected) and not _is_text(record[start:stop]):
                return f"field {number + 1} has bytes that are no {self.encoding}"
        return None

    def _is_open(self, record: bytes, *, last: bool) -> bool:
        if not last and self.rules.spans_lines:
            return False  # Only the end of the text has ended its quotes.
        return self.rules.may_be_open(record) and not self.rules.is_closed(record)

    def _bad_values(self, source: Slice, text: bytes, good: list[int]) -> dict[int, str]:
        try:
            found = bad_values(self.form, self.naming, text, len(good))
        except TooManyFail as error:
            raise Unreadable(f"{shown(source.name or source.path)}, {_part(source)}: {error}.") from error
        except REFUSALS as error:
            raise self._unexpected(source, str(error)) from error
        return {good[position]: reason for position, reason in found.items()}

    def _frame(self, source: Slice, text: bytes, rows: int) -> pd.DataFrame:
        try:
            frame = self.form.frame(of_bytes(text), self.naming)
            frame = mend_dates(self.form, self.naming, frame, lambda: of_bytes(text))
        except REFUSALS as error:
            raise self._unexpected(source, str(error)) from error
        if len(frame) != rows:
            raise self._unexpected(source, f"pandas makes {len(frame):,} rows of {rows:,} records")
        return frame

    def _unexpected(self, source: Slice, words: str) -> Unreadable:
        return Unreadable(
            f"{shown(source.name or source.path)}, {_part(source)}, cannot be read: {words.strip()}"
        )


def _part(source: Slice) -> str:
    return "the whole file" if source.whole else f"bytes {source.start:,} to {source.stop:,}"


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shortened(record: bytes) -> str:
    text = record[: 4 * _SHOWN].decode(errors="backslashreplace").rstrip("\r\n")
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
