"""The dtypes that pandas infers from the first rows of an input, for `dtype: from_first_rows`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from mpibatch.core.tables import CsvOptions
from mpibatch.inputs import compressed
from mpibatch.inputs.csv_cuts import FoundFile
from mpibatch.inputs.csv_headers import quoting

FROM_FIRST_ROWS = "from_first_rows"
_ROWS = 1000
_BLOCK = 256 << 10


def first_types(
    found: Sequence[FoundFile], options: CsvOptions, names: list[str] | None
) -> dict[str, str] | None:
    """By column, as `read_csv` takes them; from the first file that has rows. None: nothing can be inferred.

    Left out are columns of dates, and those that have no value in these rows: they could be anything.
    """
    import pandas as pd

    one = next((one for one in found if len(one.cut.rows) and one.cut.error is None), None)
    if one is None:
        return None
    with warnings.catch_warnings(), io.BufferedReader(_Stream(_blocks(one))) as stream:
        # Of records with too many fields; their reader will tell.
        warnings.simplefilter("ignore", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(stream, **_settings(options, names, has_header=one.file.header))
        except ValueError:  # Quotes that are not closed.
            return None
    known = [name for name in frame.columns if not frame[name].isna().all()]
    return {str(name): str(frame.dtypes[name]) for name in known if name not in options.parse_dates}


def _settings(options: CsvOptions, names: list[str] | None, *, has_header: bool) -> dict[str, Any]:
    """What `pandas.read_csv` is told."""
    return {
        "nrows": _ROWS,
        "engine": "c",
        "header": 0 if has_header else None,
        "names": None if has_header else names,
        "usecols": options.columns,
        "sep": options.sep,
        "escapechar": options.escapechar,
        "encoding": options.encoding,
        "encoding_errors": "replace",
        "na_values": options.na_values or None,
        "keep_default_na": options.keep_default_na,
        "decimal": options.decimal,
        "thousands": options.thousands,
        "index_col": False,
        "low_memory": False,
        "on_bad_lines": "skip",
        **quoting(options),
    }


def _blocks(one: FoundFile) -> Iterator[bytes]:
    if compressed.suffix_of(one.file.path) is not None and one.file.whole:
        yield from compressed.blocks(one.file.path, _BLOCK)
        return
    with open(one.file.path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


class _Stream(io.RawIOBase):
    """Blocks as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._blocks, b"")
        length = min(len(buffer), len(self._rest))
        buffer[:length] = self._rest[:length]
        self._rest = self._rest[length:]
        return length
