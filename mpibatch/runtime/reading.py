"""What `run()` is given: the items of an attempt, read in the processor by the input's own reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Protocol, assert_never

import msgspec

from mpibatch.core.path_columns import columns_of_paths
from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions, ParquetOptions, TableOptions
from mpibatch.inputs.key_parts import known_name, parts_of, read_parts, row_numbers
from mpibatch.inputs.survey import Batch, Reader, Unreadable
from mpibatch.messages import InputSpec
from mpibatch.outputs.encoding import ItemKeys
from mpibatch.runtime.entry_script import MiniBatch
from mpibatch.work import Assignment, Members, Numbers, Paths, Slice, Slices

_FS_ENCODING = sys.getfilesystemencoding()
_FS_ERRORS = sys.getfilesystemencodeerrors()


class MembersReader(Protocol):
    """Reads members of archives. It may keep an archive open between calls."""

    def read(self, source: Members, count: int) -> Batch: ...

    def close(self) -> None: ...


class Readers:
    """The readers of all inputs, each opened when its first item comes. `scratch`: this processor's own folder."""

    def __init__(self, inputs: Sequence[InputSpec], scratch: str) -> None:
        self._inputs = inputs
        self._scratch = scratch
        self._tables: dict[int, Reader] = {}
        self._archives: dict[int, MembersReader] = {}

    def read(self, work: Assignment) -> Batch:
        """The items of an attempt. Raises what the reader raises where the mini-batch cannot be read."""
        source = work.source
        match source:
            case Paths():
                return Batch(paths(work), [])
            case Slice(error=str(why)):
                # Not to be looked into once more: it may have killed its reader, and may have other rows now.
                raise Unreadable(
                    f"{known_name(source)!r}: {why.rstrip('.')}. So it was found when the work was planned:"
                    " if it can be read now, start anew with --fresh."
                )
            case Slice() | Slices():
                return read_parts(self._table(work.input), source, work.count)
            case Members():
                batch = self._archive(work.input).read(source, work.count)
                batch.data = MiniBatch(batch.data)
                batch.data.task_id = work.mini_batch
                return batch
            case Numbers():
                numbers = MiniBatch(range(source.first, source.first + work.count))
                numbers.task_id = work.mini_batch
                return Batch(numbers, [])
            case _:
                assert_never(source)

    def _table(self, number: int) -> Reader:
        reader = self._tables.get(number)
        if reader is None:
            spec = self._inputs[number]
            options: TableOptions = msgspec.convert({"type": spec.kind, **spec.options}, TableOptions)
            reader = self._tables[number] = open_table(options, spec.setup)
        return reader

    def _archive(self, number: int) -> MembersReader:
        reader = self._archives.get(number)
        if reader is None:
            from mpibatch.inputs.archive_reader import open_archives

            as_ = self._inputs[number].options["as"]
            reader = self._archives[number] = open_archives(as_, self._scratch)
        return reader

    def close(self) -> None:
        for table in self._tables.values():
            table.close()
        for archive in self._archives.values():
            archive.close()


def open_table(options: TableOptions, setup: bytes) -> Reader:
    """The reader of a table input."""
    if columns_of_paths(options):
        from mpibatch.inputs.path_reader import PathReader
        from mpibatch.inputs.path_values import of_files

        return PathReader(open_table(of_files(options), setup), options)
    match options:
        case CsvOptions():
            from mpibatch.inputs import csv_reader

            return csv_reader.open_reader(options, setup)
        case JsonlOptions():
            from mpibatch.inputs import jsonl_reader

            return jsonl_reader.open_reader(options, setup)
        case ParquetOptions():
            from mpibatch.inputs import parquet_reader

            return parquet_reader.open_reader(options, setup)
        case Hdf5Options():
            from mpibatch.inputs import hdf5_reader

            return hdf5_reader.open_reader(options, setup)
        case _:
            assert_never(options)


def paths(work: Assignment, copies: bytes | None = None) -> MiniBatch:
    """The items of a piece of files, as `os.fsdecode` spells them. `copies`: the paths to give in place of theirs."""
    assert isinstance(work.source, Paths)
    blob = work.source.blob if copies is None else copies
    # As `os.fsdecode`, which looks at its argument first: this is done for each mini-batch.
    items = MiniBatch(blob.decode(_FS_ENCODING, _FS_ERRORS).split("\0"))
    items.task_id = work.mini_batch
    return items


def item_keys(work: Assignment, batch: Batch) -> ItemKeys:
    """Which items `run()` got: the file of each, and of a table the number of its row there."""
    source = work.source
    left_out = {bad.position for bad in batch.bad}
    positions = [place for place in range(work.count) if place not in left_out]
    match source:
        case Paths():
            return ItemKeys(paths=paths(work), rows=None)
        case Members():
            names = _member_names(source)
            return ItemKeys(paths=[names[place] for place in positions], rows=None)
        case Slice() | Slices():
            keys = _row_keys(source, work.count, positions)
            # Records and arrays have no index, so that one which comes back means nothing.
            return msgspec.structs.replace(keys, labelled=hasattr(batch.data, "columns"))
        case Numbers():
            return ItemKeys(paths=_numbers(source, work.count), rows=None)
        case _:
            assert_never(source)


def described(work: Assignment) -> list[str]:
    """The items of an attempt for a log: each file, or the range of a table's rows."""
    source = work.source
    match source:
        case Paths():
            return paths(work)
        case Members():
            return _member_names(source)
        case Slice() | Slices():
            return [_described_part(part, count) for part, count in parts_of(source, work.count)]
        case Numbers():
            return _numbers(source, work.count)
        case _:
            assert_never(source)


def _numbers(source: Numbers, count: int) -> list[str]:
    return [str(number) for number in range(source.first, source.first + count)]


def _row_keys(source: Slice | Slices, count: int, positions: list[int]) -> ItemKeys:
    parts = list(parts_of(source, count))
    numbers = [row for part, taken in parts for row in row_numbers(part, taken)]
    rows = [numbers[place] for place in positions]
    if len(parts) == 1:
        return ItemKeys(paths=known_name(parts[0][0]), rows=rows)
    names = [name for part, taken in parts for name in [known_name(part)] * taken]
    return ItemKeys(paths=[names[place] for place in positions], rows=rows)


def _described_part(part: Slice, count: int) -> str:
    first = part.row + part.skip
    if part.sorted:
        return f"{known_name(part)}, {count} rows of equal keys (sorted: {os.fsdecode(part.path)}, from row {first})"
    return f"{known_name(part)}, rows {first} to {first + count - 1}"


def _member_names(source: Members) -> list[str]:
    archive = os.fsdecode(source.archive)
    return [f"{archive}/{name}" for name in os.fsdecode(source.names).split("\0")]
