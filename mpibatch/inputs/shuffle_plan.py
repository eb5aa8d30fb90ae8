"""Which segments of a table's files are sorted by partition keys, and what is known of the copies then."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from mpibatch.core.tables import Hdf5Options, ParquetOptions
from mpibatch.errors import InputError, StorageError
from mpibatch.inputs.key_batches import pack
from mpibatch.inputs.key_join import keys_before
from mpibatch.inputs.key_reading import KeySpec
from mpibatch.inputs.key_runs import PartRuns
from mpibatch.inputs.origin import shown
from mpibatch.inputs.row_files import unreadable, unreadable_files
from mpibatch.inputs.shuffle import Sort, SortedSegment
from mpibatch.inputs.survey import Ask, Cut, Surveyed, TableFile
from mpibatch.work import Slice

SEGMENT_BYTES = 128 << 20
_PART_BYTES = 64 << 20
"""What a part of Parquet or HDF5 is taken for: `key_survey` makes them so."""


class SortedTo(NamedTuple):
    """Where sorted copies go."""

    folder: bytes
    times: Sequence[int]
    """Of all files of the input, when each was changed last: a copy is of one state of its file."""


class Copies(NamedTuple):
    """The sorted copies of one file, in order."""

    number: int
    """Of the file in the input."""
    segments: list[tuple[Slice, PartRuns]]


def sort_files(
    files: Sequence[TableFile],
    spec: KeySpec,
    surveyed: Surveyed,
    found: Sequence[tuple[int, list[tuple[Slice, PartRuns]]]],
    ask: Ask,
    origin: str,
    to: SortedTo,
) -> tuple[list[Copies], Surveyed]:
    """Sorted copies of the files with these numbers and parts, and what was surveyed, to read the copies by.

    Raises InputError where a file cannot be sorted, StorageError where a copy cannot be written.
    """
    nothing = pack([None] * len(spec.keys))
    questions: list[tuple[int, Sort]] = []
    for number, parts in found:
        if parts[0][0].whole:
            raise InputError(
                f"{origin}: {shown(files[number].name)} cannot be sorted, as a file of its encoding is not cut:"
                " convert the input to utf-8"
            )
        state = (files[number].size, to.times[number])
        for sort in _segments(spec, surveyed.setup, parts, nothing):
            digest = hashlib.blake2b(msgspec.msgpack.encode([sort, state]), digest_size=12).hexdigest()
            questions.append(
                (number, msgspec.structs.replace(sort, target=to.folder + b"/" + digest.encode()))
            )
    answers = ask([sort for _, sort in questions])
    copies, errors = _collected(questions, answers, files, origin)
    cuts = [
        unreadable(errors[number]) if number in errors else cut for number, cut in enumerate(surveyed.cuts)
    ]
    now = with_cuts(surveyed, cuts, files, origin)
    now.setup = _setup_of_copies(spec, surveyed.setup)
    return copies, now


def with_cuts(surveyed: Surveyed, cuts: list[Cut], files: Sequence[TableFile], origin: str) -> Surveyed:
    """What was surveyed, now that some files have turned out to be unreadable: with one warning of all such."""
    before, now = [cut.error for cut in surveyed.cuts], [cut.error for cut in cuts]
    warnings = list(surveyed.warnings)
    if now != before:
        known = unreadable_files(files, before, origin)
        warnings = [text for text in warnings if text not in known] + unreadable_files(files, now, origin)
    return Surveyed(cuts, surveyed.setup, warnings, surveyed.paths)


def _segments(
    spec: KeySpec, setup: bytes, parts: list[tuple[Slice, PartRuns]], nothing: bytes
) -> Iterator[Sort]:
    some: list[Slice] = []
    first, size = nothing, 0
    counts_rows = isinstance(spec.options, ParquetOptions | Hdf5Options)
    for (part, _), before in zip(parts, keys_before([runs for _, runs in parts], nothing)):
        more = _PART_BYTES if counts_rows else part.stop - part.start
        if some and size + more > SEGMENT_BYTES:
            yield Sort(spec, setup, some, first, b"")
            some, size = [], 0
        if not some:
            first = before
        some.append(part)
        size += more
    yield Sort(spec, setup, some, first, b"")


def _collected(
    questions: list[tuple[int, Sort]],
    answers: Sequence[SortedSegment],
    files: Sequence[TableFile],
    origin: str,
) -> tuple[list[Copies], dict[int, str]]:
    """The copies by file, and why files cannot be read."""
    copies: dict[int, Copies] = {}
    errors: dict[int, str] = {}
    for (number, sort), found in zip(questions, answers, strict=True):
        if found.no_room is not None:
            raise StorageError(f"{origin}: the input could not be sorted: {found.no_room}")
        if found.error is not None:
            errors.setdefault(number, found.error)
            continue
        rows = sum(part.rows for part in sort.parts)
        name = files[number].name
        segment = Slice(sort.target, found.start, found.stop, 0, rows, 0, False, name, True)
        copies.setdefault(number, Copies(number, [])).segments.append((segment, found.runs))
    return [one for number, one in copies.items() if number not in errors], errors


def _setup_of_copies(spec: KeySpec, setup: bytes) -> bytes:
    """Columns that were in the names of folders are in the copies themselves."""
    if not isinstance(spec.options, ParquetOptions):
        return setup
    from mpibatch.inputs.parquet_schema import ParquetSetup

    known = msgspec.msgpack.decode(setup, type=ParquetSetup)
    return msgspec.msgpack.encode(ParquetSetup(known.schema, []))
