"""The headers of an input's CSV files: whether they are as the options say, and what readers are told."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Sequence
from typing import Any

from mpibatch.core.tables import CsvOptions
from mpibatch.errors import InputError
from mpibatch.inputs.csv_cuts import FoundFile
from mpibatch.inputs.csv_first import FirstRecords
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.origin import shown
from mpibatch.inputs.other_files import glob_hint
from mpibatch.inputs.row_files import names_text, no_such, unreadable
from mpibatch.inputs.survey import TableFile


class Headers:
    """`add` the files in order, then `check`, then ask for the `setup`."""

    def __init__(self, options: CsvOptions, origin: str, encoding: str, files: Sequence[TableFile]) -> None:
        """`encoding`: that of the header records as the survey gives them. `files`: all of the input."""
        self._options = options
        self._origin = origin
        self._encoding = encoding
        self._files = files
        self._read: dict[bytes, list[str] | str] = {}
        """By header record: column names, or why it cannot be read."""
        self._first: tuple[TableFile, bytes, list[str]] | None = None
        self._known: dict[str, None] = {}
        """All column names there are, in order."""
        self._records = FirstRecords(options, origin)

    def add(self, file: TableFile, found: FoundFile) -> None:
        """Takes in a file's header; where that cannot be read, the file cannot be read. Raises InputError."""
        needed = self._options.header == "first" and found.file.header
        if needed and (found.cut.error is not None or not found.seen.header):
            why = found.cut.error or "it is empty"
            raise InputError(
                f"{self._origin}: header is first, so {shown(file.name)} must have the header of all files: {why}"
            )
        if found.cut.error is not None:
            return
        if found.seen.header:
            names = self._names(found.seen.header)
            if isinstance(names, str):
                if needed:
                    raise InputError(f"{self._origin}: {shown(file.name)}: {names}")
                found.cut = unreadable(names)
                return
            self._compare(file, found, names)
            self._records.add(file, found.seen.first, names)
        else:
            self._records.add(file, found.seen.first, self._common_names())

    def _compare(self, file: TableFile, found: FoundFile, names: list[str]) -> None:
        """With the first header there was, or with what the job names."""
        self._known |= dict.fromkeys(names)
        if self._first is None:
            self._first = file, found.seen.header, names
        elif self._options.header == "all" and names != self._first[2]:
            raise self._differs(file, names, *self._first)
        if self._options.header == "each" and len(found.cut.rows):
            self._check_each(file, names)

    def _differs(
        self, file: TableFile, names: list[str], first: TableFile, header: bytes, expected: list[str]
    ) -> InputError:
        hint = glob_hint(self._files, [first, file])
        return InputError(
            f"{self._origin}: the header of {shown(file.name)} is not that of {shown(first.name)}"
            f"\n  there: {names_text(names)}\n  first: {names_text(expected)}"
            + (f"\n{hint}" if hint else "")
            + "\nMake them equal, or write header: each where each file has its own,"
            " first where only the first file has one, none where none has."
        )

    def _check_each(self, file: TableFile, names: list[str]) -> None:
        for key, name in _named(self._options):
            # pandas passes over types of columns that are not there.
            if key != "dtype" and name not in names:
                raise no_such("column", name, names, file, f"{self._origin}: {key}")

    def _common_names(self) -> list[str] | None:
        """Of files without a header; None: nobody has named their columns."""
        if self._options.header == "none":
            return self._options.names
        return self._first[2] if self._options.header == "first" and self._first is not None else None

    def _names(self, header: bytes) -> list[str] | str:
        header = header.rstrip(b"\r\n")
        if header not in self._read:
            self._read[header] = names_of(header, self._options, self._encoding)
        return self._read[header]

    def check(self) -> None:
        """Raises InputError where a key names a column that no file has."""
        if self._options.header == "none":
            known, file = self._options.names, None
        elif self._first is None:
            return
        else:
            known, file = list(self._known), self._first[0]
        for key, name in _named(self._options):
            if known is None or name in known:
                continue
            if file is not None:
                raise no_such("column", name, known, file, f"{self._origin}: {key}")
            raise InputError(
                f"{self._origin}: {key}: there is no column {name} among the names that the job gives:"
                f" {names_text(known)}"
            )

    def warnings(self) -> list[str]:
        return self._records.warnings()

    def setup(self, first_file: bytes) -> CsvSetup:
        if self._options.header == "none":
            return CsvSetup(names=self._options.names, first_file=first_file)
        if self._options.header == "each" or self._first is None:
            return CsvSetup(first_file=first_file)
        _, header, names = self._first
        if not header.endswith((b"\n", b"\r")):
            header += b"\n"
        if self._encoding != self._options.encoding:
            # What did not decode stands as a sign for it, which not every encoding has.
            header = header.decode(self._encoding).encode(self._options.encoding, "replace")
        return CsvSetup(header=header, names=names, first_file=first_file)


def _named(options: CsvOptions) -> Iterator[tuple[str, str]]:
    """The keys that name columns, with each name."""
    for name in options.columns or []:
        yield "columns", name
    if isinstance(options.dtype, dict):
        for name in options.dtype:
            yield "dtype", name
    for name in options.parse_dates:
        yield "parse_dates", name


def names_of(header: bytes, options: CsvOptions, encoding: str) -> list[str] | str:
    """The column names of a header record, as pandas reads them, or why it cannot be read."""
    import pandas as pd

    try:
        columns = pd.read_csv(
            io.BytesIO(header.decode(encoding).encode()),
            nrows=0,
            engine="c",
            sep=options.sep,
            index_col=False,
            escapechar=options.escapechar,
            **quoting(options),
        ).columns
    except UnicodeDecodeError as error:
        likely = "utf-16" if header.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin-1"
        return (
            f"its header is not in the encoding {options.encoding}: {error.reason}; write the `encoding` that the"
            f" files have, like {likely}"
        )
    except (ValueError, UnicodeError) as error:  # The parser's errors are ValueErrors too.
        return f"its header cannot be read: {str(error).strip()}"
    return [str(name) for name in columns]


def quoting(options: CsvOptions) -> dict[str, Any]:
    """What `pandas.read_csv` is told of quotes."""
    return {"quotechar": options.quotechar} if options.quotechar else {"quoting": 3}
