"""What a file's first records tell before the work: whether they fit its header, and if another `sep` was meant.

So a million records that are malformed, or columns that are all one, are told of once, and not as bad items.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpibatch.core.settings import printable
from mpibatch.core.tables import CsvOptions
from mpibatch.errors import InputError
from mpibatch.inputs.csv_bad_records import Rules
from mpibatch.inputs.csv_questions import First
from mpibatch.inputs.origin import shown
from mpibatch.inputs.row_files import names_text
from mpibatch.inputs.survey import TableFile

_MOST = 20
"""Records that are looked at."""
_LEAST = 3
"""Fewer that are malformed are bad items and no more: one surplus comma in a file of two rows."""
_OTHER_SEPS = ";\t|, "
_SEP_NAMES = {"\t": "tab", " ": '" "'}


def first_of(rest: bytes, header: bytes, options: CsvOptions, encoding: str) -> First:
    """What the answer says of a file. `rest`: what stands behind its header, maybe cut somewhere."""
    rules = Rules(options)
    records = [record for record in rules.first(rest, _MOST) if record.endswith((b"\n", b"\r"))]
    fields = [_fields(rules, record, encoding) for record in records]
    one_field = rules.field_count(header) == 1 if header else fields[:1] == [1]
    return First(fields, _likely_sep(header, records, options) if one_field else None)


def _fields(rules: Rules, record: bytes, encoding: str) -> int:
    try:
        record.decode(encoding)
    except UnicodeDecodeError:
        return 0
    fields = rules.field_count(record)
    return fields - 1 if fields > 1 and rules.without_empty_end(record) else fields


def _likely_sep(header: bytes, records: Sequence[bytes], options: CsvOptions) -> str | None:
    """By which header and most records have as many fields, or one more with names of rows."""
    for sep in _OTHER_SEPS:
        if sep in (options.sep, options.quotechar, options.escapechar):
            continue
        rules = Rules(msgspec.structs.replace(options, sep=sep))
        counts = [rules.field_count(record) for record in records]
        wanted = rules.field_count(header) if header else counts[0]
        fitting = sum(0 <= count - wanted <= 1 for count in counts)
        # Spaces are in all texts, and without a header nothing but the records tells.
        sure = len(counts) >= 2 if sep == " " or not header else True
        if wanted > 1 and sure and 2 * fitting >= len(counts):
            return sep
    return None


class FirstRecords:
    """Is shown each file; `warnings` are about all of them. Raises InputError where a file can only be wrong."""

    def __init__(self, options: CsvOptions, origin: str) -> None:
        self._options = options
        self._origin = origin
        self._other_sep: tuple[TableFile, str] | None = None
        self._wide: TableFile | None = None

    def add(self, file: TableFile, first: First, names: Sequence[str] | None) -> None:
        """`names`: of the file's columns; None: they are numbered, as many as there are."""
        if self._other_sep is None and first.sep is not None:
            self._other_sep = file, first.sep
        fields = first.fields
        if names is None or len(fields) < _LEAST or not all(self._is_wrong(one, names) for one in fields):
            return
        if self._options.columns is None:
            raise InputError(f"{self._origin}: {shown(file.name)}: {self._why(first, names)}")
        if self._wide is None and set(fields) == {len(names) + 1}:
            self._wide = file

    @staticmethod
    def _is_wrong(fields: int, names: Sequence[str]) -> bool:
        return fields == 0 or fields > len(names)

    def warnings(self) -> list[str]:
        found = []
        if self._other_sep is not None:
            file, sep = self._other_sep
            found.append(
                f"{self._origin}: {shown(file.name)} has only one column with sep {_sep(self._options.sep)},"
                f" but its lines can be parted by {_sep(sep)}: if that is meant, write sep: {_written(sep)}"
            )
        if self._wide is not None:
            found.append(
                f"{self._origin}: the records of {shown(self._wide.name)} have one field more than its header has"
                f" names, so that columns may be named wrongly: {_ROW_NAMES}"
            )
        return found

    def _why(self, first: First, names: Sequence[str]) -> str:
        fields = first.fields
        if not any(fields):
            return (
                f"none of its first {len(fields)} records is in the encoding {self._options.encoding}: write the"
                " `encoding` that the files have, like latin-1 or gb18030."
            )
        source = "the job gives" if self._options.header == "none" else "its header has"
        counts = sorted(set(fields) - {0})
        some = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        columns = "1 name" if len(names) == 1 else f"{len(names):,} names"
        told = f"{source} {columns}, and its first {len(fields)} records have {some} fields\n"
        told += f"  names: {names_text(names)}\n"
        if first.sep is not None:
            return f"{told}By another separator they fit: write sep: {_written(first.sep)}"
        if set(fields) == {len(names) + 1} and self._options.header != "none":
            return told + _ROW_NAMES[0].upper() + _ROW_NAMES[1:] + "."
        return f"{told}Write the `sep` and `quotechar` that the file has, or mend its header."


_ROW_NAMES = (
    "where R has written names of rows in front, write the file with col.names=NA or row.names=FALSE, or put a"
    " name for the first column into its header"
)


def _sep(sep: str) -> str:
    return _SEP_NAMES.get(sep, repr(printable(sep)))


def _written(sep: str) -> str:
    return _SEP_NAMES.get(sep, f'"{sep}"')
