"""Which files are unpacked into the run folder before they are looked at, and how it went.

Compressed ones are, and those of encodings in which nothing can be cut: their copies are in UTF-8.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

import msgspec

from mpibatch.errors import StorageError
from mpibatch.inputs.compressed import check_zstandard, suffix_of
from mpibatch.inputs.csv_questions import Unpack
from mpibatch.inputs.survey import Ask, TableFile

UNPACK_ABOVE = 64 << 20
"""Compressed bytes from which on a file is unpacked without being asked for."""

UnpackTo = Callable[[TableFile], bytes]
"""The path in the run folder to which a file is unpacked."""


class Ready(msgspec.Struct):
    """A file as it is looked at, at its place in the input."""

    file: TableFile
    whole: bool
    error: str | None = None
    """It could not be unpacked, and why."""


def ready_files(
    files: Sequence[TableFile],
    ask: Ask,
    *,
    unpack: bool,
    unpack_to: UnpackTo | None,
    encoding: str | None = None,
    origin: str,
    above: int = UNPACK_ABOVE,
) -> list[Ready]:
    """The files, with those unpacked that should be: `unpack`, or large ones that are compressed.

    `encoding`: theirs, if none can be cut in it as it is: then copies are in UTF-8, and made by `unpack` only.
    Raises InputError where a package is missing, and StorageError where an unpacked file cannot be written.
    """
    check_zstandard((file.path for file in files), origin)
    ready = [Ready(file, encoding is not None or suffix_of(file.path) is not None) for file in files]
    if unpack_to is None or (encoding is not None and not unpack):
        return ready
    chosen = [one for one in ready if one.whole and (unpack or one.file.size > above)]
    # Else a copy from before a change of the job's encoding would be taken for it.
    suffix = b"" if encoding is None else b"-" + codecs.lookup(encoding).name.encode()
    questions = [Unpack(one.file.path, unpack_to(one.file) + suffix, encoding) for one in chosen]
    for one, question, done in zip(chosen, questions, ask(questions) if questions else []):
        if done.no_room is not None:
            raise StorageError(f"{origin}: a file could not be unpacked: {done.no_room}")
        one.error = done.error
        if done.error is None:
            one.file = TableFile(path=question.target, size=done.size, name=one.file.name)
            one.whole = False
    return ready
