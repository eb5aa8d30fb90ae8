"""Which compressed files are unpacked into the run folder before they are looked at, and how it went."""

from __future__ import annotations

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
    whole: bool,
    origin: str,
    above: int = UNPACK_ABOVE,
) -> list[Ready]:
    """The files, with those unpacked that should be: `unpack`, or large.

    `whole`: none can be cut, so none need be unpacked. Raises InputError where a package is missing, and
    StorageError where an unpacked file cannot be written.
    """
    check_zstandard((file.path for file in files), origin)
    ready = [Ready(file, whole or suffix_of(file.path) is not None) for file in files]
    if unpack_to is None or whole:
        return ready
    chosen = [one for one in ready if one.whole and (unpack or one.file.size > above)]
    targets = [unpack_to(one.file) for one in chosen]
    questions = [Unpack(one.file.path, target) for one, target in zip(chosen, targets)]
    for one, target, done in zip(chosen, targets, ask(questions) if questions else []):
        if done.no_room is not None:
            raise StorageError(f"{origin}: a compressed file could not be unpacked: {done.no_room}")
        one.error = done.error
        if done.error is None:
            one.file = TableFile(path=target, size=done.size, name=one.file.name)
            one.whole = False
    return ready
