"""The survey of CSV files: where each can be cut, how many rows it has, and which columns.

A record is what the parser of pandas takes for one; a newline within quotes ends none. Each file is read
once, a large one in ranges by all workers; mini-batches of a number of rows make that twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpibatch.core.settings import printable
from mpibatch.core.tables import CsvOptions, MiniBatchSize
from mpibatch.errors import InputError
from mpibatch.inputs.csv_answers import answer
from mpibatch.inputs.csv_cuts import NORMAL, FoundFile, Limits, cut_files, way_of
from mpibatch.inputs.csv_encoding import check_encoding, is_utf8, scannable
from mpibatch.inputs.csv_headers import Headers
from mpibatch.inputs.csv_infer import FROM_FIRST_ROWS, first_types
from mpibatch.inputs.csv_questions import Answer, One, Question, Way
from mpibatch.inputs.csv_scan import Dialect
from mpibatch.inputs.csv_unpack import UNPACK_ABOVE, Ready, UnpackTo, ready_files
from mpibatch.inputs.other_files import glob_hint
from mpibatch.inputs.row_files import unreadable, unreadable_files
from mpibatch.inputs.survey import Ask, Surveyed, TableFile

__all__ = ["Answer", "Question", "answer", "survey"]


def survey(
    files: Sequence[TableFile],
    options: CsvOptions,
    size: MiniBatchSize,
    ask: Ask,
    *,
    origin: str,
    unpack_to: UnpackTo | None,
    unpack_above: int = UNPACK_ABOVE,
    limits: Limits = NORMAL,
) -> Surveyed:
    """Where the files are cut, and a `CsvSetup` for the readers.

    `origin`: job file and key, for messages. Raises InputError where headers differ that should not, where a
    key names a column that is not there, where the first records of a file do not fit its header, and where
    no file can be read.
    """
    check_encoding(options.encoding, origin)
    whole = not scannable(options.encoding)
    ready = ready_files(
        files,
        ask,
        unpack=options.unpack,
        unpack_to=unpack_to,
        encoding=options.encoding if whole else None,
        origin=origin,
        above=unpack_above,
    )
    copied = whole and options.unpack and unpack_to is not None
    if copied:
        options = msgspec.structs.replace(options, encoding="utf-8")
    way = _way(options, size, origin, limits)
    found = cut_files(_ones(ready, options), way, ask, limits, records=options)
    for one, before in zip(found, ready):
        if before.error is not None:
            one.cut = unreadable(before.error)
    return _put_together(files, options, copied, found, origin)


def _way(options: CsvOptions, size: MiniBatchSize, origin: str, limits: Limits) -> Way:
    whole = not scannable(options.encoding)
    return way_of(
        dialect_of(options, origin),
        size,
        mark=whole or is_utf8(options.encoding),
        encoding=options.encoding if whole else None,
        limits=limits,
    )


def _put_together(
    files: Sequence[TableFile], options: CsvOptions, copied: bool, found: list[FoundFile], origin: str
) -> Surveyed:
    headers = Headers(options, origin, options.encoding if scannable(options.encoding) else "utf-8", files)
    for file, one in zip(files, found):
        headers.add(file, one)
    warnings = unreadable_files(files, [one.cut.error for one in found], origin)
    if warnings and (hint := glob_hint(files, [file for file, one in zip(files, found) if one.cut.error])):
        warnings[-1] += f" {hint}"
    headers.check()
    setup = headers.setup(found[0].file.path if found else b"")
    if copied:
        setup = msgspec.structs.replace(setup, encoding=options.encoding)
    if options.dtype == FROM_FIRST_ROWS:
        setup = msgspec.structs.replace(setup, dtypes=first_types(found, options, setup.names))
    return Surveyed(
        cuts=[one.cut for one in found],
        setup=msgspec.msgpack.encode(setup),
        warnings=warnings + headers.warnings(),
        paths=[one.file.path for one in found],
    )


def _ones(ready: Sequence[Ready], options: CsvOptions) -> list[One]:
    """The files as they are asked about. One that could not be unpacked is asked about as if it were empty."""
    return [
        One(
            one.file.path,
            one.file.size if one.error is None else 0,
            header=options.header in ("all", "each") or (options.header == "first" and number == 0),
            whole=one.whole and one.error is None,
        )
        for number, one in enumerate(ready)
    ]


def dialect_of(options: CsvOptions, origin: str) -> Dialect:
    """The bytes that mean something. Raises InputError for characters that the parser of pandas cannot take."""
    for key in ("sep", "quotechar", "escapechar"):
        character = getattr(options, key)
        if character is not None and not (len(character) == 1 and character.isascii()):
            raise InputError(f"{origin}: {key} is {printable(character)!r}: must be one ASCII character")
    multiline = options.multiline
    return Dialect(
        sep=ord(options.sep),
        quote=ord(options.quotechar) if options.quotechar and multiline else None,
        escape=ord(options.escapechar) if options.escapechar and multiline else None,
        blanks=b" \t".replace(options.sep.encode(), b""),
    )
