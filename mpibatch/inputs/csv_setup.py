"""What readers of CSV files are told of a survey's findings, beside the options."""

from __future__ import annotations

import msgspec


class CsvSetup(msgspec.Struct, frozen=True):
    """Travels as msgpack in `Surveyed.setup`."""

    header: bytes = b""
    """The header record that goes in front of each mini-batch, its newline included, in the encoding of the
    files; empty where there is none, or where each file has its own."""
    names: list[str] | None = None
    """Column names as pandas reads them; None where files differ."""
    dtypes: dict[str, str] | None = None
    """By column, for `dtype: from_first_rows`."""
    first_file: bytes = b""
    """Path of the input's first file as in `work.Slice`: with `header: first` the only one that has a header,
    which its reader has to know where it reads that file as a whole."""
    encoding: str | None = None
    """Of the copies that are read in place of the files; None: the files themselves are read."""
