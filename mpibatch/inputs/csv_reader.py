"""Reads mini-batches of CSV files, in the processor: a range of bytes, or a whole file, becomes a DataFrame.

The fast way is one call of `pandas.read_csv`. Only where it fails, or gives other than the planned number of
rows, are the records looked at one by one (`csv_bad`), so that those that are malformed cost no others.
"""

from __future__ import annotations

from contextlib import closing
from functools import cached_property, partial
from typing import TYPE_CHECKING

import msgspec

from mpibatch.core.tables import CsvOptions
from mpibatch.inputs.csv_bad import REFUSALS, Sieve
from mpibatch.inputs.csv_bad_records import Rules
from mpibatch.inputs.csv_bad_values import mend_dates
from mpibatch.inputs.csv_reader_form import Form, Naming
from mpibatch.inputs.csv_reader_text import Text, of_blocks, of_bytes, to_utf8
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.origin import shown
from mpibatch.inputs.ranges import KeptFile, Lines, open_stream, read_stream
from mpibatch.inputs.survey import Batch, Reader, Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    import pandas as pd

_FIRST_BLOCK = 1 << 16
"""Bytes that are read at first to find the first record."""


def open_reader(options: CsvOptions, setup: bytes) -> Reader:
    """A reader of an input's files; `setup` is `CsvSetup` as the survey has left it."""
    return CsvReader(options, msgspec.msgpack.decode(setup, type=CsvSetup))


class CsvReader:
    """Keeps open the file that was read last, and remembers how its columns are named."""

    def __init__(self, options: CsvOptions, setup: CsvSetup) -> None:
        self._options = options
        self._setup = setup
        self._encoding = options.encoding if setup.encoding is None else setup.encoding
        self._form = Form(options, setup.dtypes)
        self._rules = Rules(options)
        self._file = KeptFile()
        self._lines = Lines(self._file)
        self._named: bytes | None = None
        self._naming = Naming(None)

    def read(self, source: Slice, count: int) -> Batch:
        """The rows [skip, skip + count) of a mini-batch. Raises Unreadable."""
        naming = self._naming_of(source)
        frame = self._read_fast(source, naming)
        if frame is None or len(frame) != source.rows:
            batch = self._read_slowly(source, count, naming)
        else:
            if count != source.rows:
                frame = frame.iloc[source.skip : source.skip + count].reset_index(drop=True)
            batch = Batch(frame, [])
        if naming.numbered:
            batch.data.columns = [int(name) for name in batch.data.columns]
        return batch

    def close(self) -> None:
        self._file.close()

    def _read_fast(self, source: Slice, naming: Naming) -> pd.DataFrame | None:
        """None: something is wrong with a record, or with more."""
        try:
            with self._text(source) as text:
                frame = self._form.frame(text, naming)
            return mend_dates(self._form, naming, frame, partial(self._text, source))
        except REFUSALS:
            return None

    def _read_slowly(self, source: Slice, count: int, naming: Naming) -> Batch:
        text = self._all_text(source)
        header = 0
        if naming.names is None:
            header = self._rules.end_of_first(text)
            naming = self._header(source.path, text[:header])
        numbers = self._lines.numbers(source.path, 0 if source.whole else source.start, text)
        sieve = Sieve(self._form, naming, self._rules, self._options.encoding)
        return sieve.sift(text[header:], source, count, lambda offset: numbers(header + offset))

    def _text(self, source: Slice) -> Text:
        if source.whole:
            stream = open_stream(source.path)
            unpack = partial(read_stream, source.path, stream)
            return Text(unpack, self._encoding, at_beginning=True, closes=stream.close)
        blocks = of_blocks(partial(self._file.read, source.path), source.start, source.stop)
        return Text(blocks, self._encoding, at_beginning=source.start == 0)

    def _all_text(self, source: Slice) -> bytes:
        """All of the mini-batch, in UTF-8."""
        if source.whole:
            with closing(open_stream(source.path)) as stream:
                data = read_stream(source.path, stream)
        else:
            data = self._file.read_all(source.path, source.start, source.stop)
        return to_utf8(data, self._encoding, at_beginning=source.whole or source.start == 0)

    def _naming_of(self, source: Slice) -> Naming:
        if source.path != self._named:
            self._naming = self._find_naming(source)
            self._named = source.path
        return self._naming

    def _find_naming(self, source: Slice) -> Naming:
        match self._options.header:
            case "none":
                if self._options.names is not None:
                    return Naming(self._options.names)
                fields = self._rules.field_count(self._first_record(source.path))
                return Naming([str(number) for number in range(fields)], numbered=True)
            case "each" if not source.whole:
                return self._header(source.path, self._first_record(source.path))
            case "first" if source.whole and source.path != self._setup.first_file:
                return self._common_header
            case _:
                return Naming(None) if source.whole else self._common_header

    @cached_property
    def _common_header(self) -> Naming:
        header = to_utf8(self._setup.header, self._encoding, at_beginning=True)
        return self._header(self._setup.first_file, header)

    def _header(self, path: bytes, record: bytes) -> Naming:
        try:
            return Naming(self._form.header(of_bytes(record)))
        except REFUSALS as error:
            raise Unreadable(f"{shown(path)}: its header cannot be read: {str(error).strip()}") from error

    def _first_record(self, path: bytes) -> bytes:
        """That of the whole file, in UTF-8; nothing of what follows it, which may be malformed."""
        data = b""
        with closing(open_stream(path)) as stream:
            while True:
                block = read_stream(path, stream, max(_FIRST_BLOCK, len(data)))
                data += block
                text = to_utf8(data, self._encoding, at_beginning=True)
                end = self._rules.end_of_first(text)
                if end < len(text) or not block:
                    return text[:end]
