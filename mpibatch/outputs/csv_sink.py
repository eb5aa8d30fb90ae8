"""CSV: one header, then the lines of all fragments, as their columns would be written all together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpibatch.core.forms import Form, decode_form
from mpibatch.outputs import csv_rows
from mpibatch.outputs.partial import PartialFile


class CsvSink:
    """`settings`: keyword arguments of `DataFrame.to_csv`."""

    def __init__(self, partial: Path, settings: Mapping[str, Any]) -> None:
        self._file = PartialFile(partial)
        self._settings = {**csv_rows.DEFAULTS, **settings}
        self._encoded: bytes | None = None
        self._form = Form("csv", ())

    def start(self, form: bytes | None) -> None:
        self._file.begin()
        self._encoded = form
        if form is not None:
            self._form = decode_form(form)
            self._file.write(csv_rows.header(self._form, self._settings))

    def append(self, fragments: list[tuple[memoryview, int]]) -> None:
        pieces: list[bytes | memoryview] = []
        for fragment, header in fragments:
            form, lines = bytes(fragment[:header]), fragment[header:]
            if not lines or form == self._encoded:
                pieces.append(lines)
            else:
                assert self._encoded is not None, "rows came before their form"
                pieces.append(csv_rows.promote(bytes(lines), decode_form(form), self._form, self._settings))
        self._file.write(b"".join(pieces))

    def finish(self) -> None:
        self._file.sync()
        self._file.close()

    def close(self) -> None:
        self._file.close()
