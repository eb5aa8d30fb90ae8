"""Sorts tables by partition keys where rows of equal keys do not stand together: `shuffle: true`.

A segment of a file, which fits in memory, is sorted into a copy below the run folder. The rows of a key are
then one range of each segment that has it, in the order of the input. What is sorted: `shuffle_plan`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions, ParquetOptions
from mpibatch.inputs import shuffle_files
from mpibatch.inputs.csv_cells import packed
from mpibatch.inputs.key_reading import KeySpec, hive_value, read_keys
from mpibatch.inputs.key_runs import PartRuns, filled
from mpibatch.inputs.new_files import NoRoom
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


class Sort(msgspec.Struct, frozen=True, array_like=True, tag="key-sort"):
    """Sort this segment of a file."""

    spec: KeySpec
    setup: bytes
    """Of the input's own columns."""
    parts: list[Slice]
    """They follow each other."""
    before: bytes
    """The key of malformed rows in front of the segment's first good one."""
    target: bytes


class SortedSegment(msgspec.Struct, frozen=True, array_like=True, tag="key-sorted"):
    """Where the copy's runs are: one of each key, in the order of first appearance."""

    runs: PartRuns = PartRuns()
    start: int = 0
    """Where its first row begins, as in `work.Slice`."""
    stop: int = 0
    error: str | None = None
    """The file cannot be read, and why."""
    no_room: str | None = None
    """The copy cannot be written, and why."""


Question = Sort
Answer = SortedSegment


def answer(question: Sort) -> SortedSegment:
    """Sort, unless the copy is there already: then it only tells again what is in it."""
    try:
        return _sort(question)
    except Unreadable as error:
        return SortedSegment(error=str(error))
    except NoRoom as error:
        return SortedSegment(no_room=str(error))


def _sort(question: Sort) -> SortedSegment:
    import numpy as np

    which, keys = _keys(question)
    order = np.argsort(which, kind="stable")
    begins = np.flatnonzero(np.diff(which[order], prepend=-1))
    places = _write(question, order)
    runs = PartRuns(
        keys=keys,
        which=packed(np.arange(len(keys))),
        rows=packed(begins),
        starts=packed(places[begins]),
        last=len(keys) - 1,
    )
    return SortedSegment(runs, int(places[0]), int(places[-1]))


def _keys(question: Sort) -> tuple[NDArray[np.int64], list[bytes]]:
    """Of each row the number of its key, and the keys in the order of first appearance."""
    import numpy as np
    import pandas as pd

    numbers: dict[bytes, int] = {question.before: 0}
    found = []
    for part in question.parts:
        keyed = read_keys(question.spec, part)
        mapped = np.array([numbers.setdefault(key, len(numbers)) for key in keyed.keys] + [-1], np.int64)
        found.append(mapped[keyed.which])
    which, leading = filled(np.concatenate(found))
    which[:leading] = 0
    which, uniques = pd.factorize(which)
    every = list(numbers)
    return which.astype(np.int64), [every[number] for number in uniques.tolist()]


def _write(question: Sort, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each row of the copy begins, and last where the last one ends."""
    import numpy as np

    options, parts = question.spec.options, question.parts
    rows = sum(one.rows for one in parts)
    whole = Slice(parts[0].path, parts[0].start, parts[-1].stop, parts[0].row, rows)
    match options:
        case CsvOptions() | JsonlOptions():
            return shuffle_files.sorted_lines(options, parts, order, question.target)
        case ParquetOptions():
            shuffle_files.sorted_parquet(_table(question.setup, whole), order, whole.row, question.target)
        case Hdf5Options():
            names = _dataset_names(question.setup)
            shuffle_files.sorted_hdf5(options, names, whole, order, question.target)
        case _:
            assert_never(options)
    return np.arange(rows + 1)


def _table(setup: bytes, part: Slice) -> pa.Table:
    """The rows with all columns that the input has, also those of the folders' names."""
    import pyarrow as pa

    from mpibatch.inputs.parquet_footers import why
    from mpibatch.inputs.parquet_groups import RowGroups
    from mpibatch.inputs.parquet_schema import ParquetSetup, cast

    known = msgspec.msgpack.decode(setup, type=ParquetSetup)
    schema = pa.ipc.read_schema(pa.py_buffer(known.schema))
    names = [name for name in schema.names if name not in known.partition]
    columns: dict[str, Any] = {}
    try:
        if names:
            file = RowGroups(part.path, names)
            try:
                table = cast(file.read(part.start, part.stop, part.rows), schema)
            finally:
                file.close()
            columns = dict(zip(table.schema.names, table.columns))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise Unreadable(f"{shown(part.path)}: {why(error)}") from error
    for name in known.partition:
        value = pa.scalar(hive_value(schema, name, part.path), schema.field(name).type)
        columns[name] = pa.repeat(value, part.rows)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _dataset_names(setup: bytes) -> list[str]:
    from mpibatch.inputs.hdf5_columns import Hdf5Setup

    return [one.name for one in msgspec.msgpack.decode(setup, type=Hdf5Setup).datasets]
