"""Where verified fragments go, in the order of the output: a sink for each format.

A sink writes one file and knows no checksums, segments or mini-batches: see `outputs.assemble`. What it
writes hangs on the rows, their order and the form alone, never on how they are grouped: so the output of
an interrupted run equals that of an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mpibatch.outputs.partial import PartialFile


class Sink(Protocol):
    """The file of one format. `start` it, `append` often, then `finish`; `close` in any state."""

    def start(self, form: bytes | None) -> None:
        """Begin the file, empty, whether or not anything is in it; `form`: that of all rows to come.

        The first time FileExistsError if there is such a file.
        """

    def append(self, fragments: list[tuple[memoryview, int]]) -> None:
        """Write these fragments; the number is the length of the header or form that each begins with.

        Unmergeable, naming the fragment, where a value does not fit the form of all rows.
        """

    def finish(self) -> None:
        """All is in it: make it durable under its present name."""

    def close(self) -> None:
        """Let go of it, unfinished if it is."""


def make_sink(append_row_format: str, partial: Path, append_row: Mapping[str, Any]) -> Sink:
    """The sink of a format. `append_row`: keyword arguments of `DataFrame.to_csv`, for csv."""
    if append_row_format == "csv":
        from mpibatch.outputs.csv_sink import CsvSink

        return CsvSink(partial, append_row)
    if append_row_format == "parquet":
        from mpibatch.outputs.parquet_sink import ParquetSink

        return ParquetSink(partial)
    if append_row_format == "hdf5":
        from mpibatch.outputs.hdf5_sink import Hdf5Sink

        return Hdf5Sink(partial)
    return TextSink(partial)


class TextSink:
    """Text and JSON lines: fragments one after the other, of their equal headers the first one only."""

    def __init__(self, partial: Path) -> None:
        self._file = PartialFile(partial)
        self._header_written = False

    def start(self, form: bytes | None) -> None:
        assert form is None, "text has no form"
        self._file.begin()
        self._header_written = False

    def append(self, fragments: list[tuple[memoryview, int]]) -> None:
        pieces: list[memoryview] = []
        for fragment, header in fragments:
            pieces.append(fragment[header if self._header_written else 0 :])
            self._header_written = self._header_written or header > 0
        self._file.write(b"".join(pieces))

    def finish(self) -> None:
        self._file.sync()
        self._file.close()

    def close(self) -> None:
        self._file.close()
