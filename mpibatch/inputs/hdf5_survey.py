"""The survey of HDF5 files: the shapes of their datasets tell how many rows they have. No data is read.

A row is an index of the first dimension; a mini-batch is a range of a file's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec

from mpibatch.core.tables import BySize, Hdf5Options, MiniBatchSize
from mpibatch.inputs.hdf5_columns import Hdf5Setup, checked_rows, frame_columns, unified
from mpibatch.inputs.hdf5_contents import Contents, ContentsAnswer, Dataset, Datasets, answer
from mpibatch.inputs.row_files import cut_at, every, portions, unreadable, unreadable_files
from mpibatch.inputs.survey import Ask, Cut, Surveyed, TableFile

__all__ = ["Answer", "Question", "answer", "survey"]

Question = Datasets
Answer = ContentsAnswer


def survey(
    files: Sequence[TableFile], options: Hdf5Options, size: MiniBatchSize, ask: Ask, *, origin: str
) -> Surveyed:
    """Where the files are cut, and the types in which all are read.

    `origin`: job file and key, for messages. Raises InputError where `group` or `datasets` name what is not
    there, where datasets do not become what `as` says or have different rows, where files differ, and
    where no file can be read.
    """
    names = None
    if options.datasets is not None:
        names = list(dict.fromkeys(name.strip("/") for name in options.datasets))
    answers = ask([Datasets(paths, options.group, names) for paths in portions(files)])
    contents: list[Contents] = list(chain.from_iterable(one.contents for one in answers))
    warnings = unreadable_files(files, [one.error for one in contents], origin)
    good = [(file, one) for file, one in zip(files, contents) if one.error is None]
    for file, one in good:
        checked_rows(file, one, options.group, origin)
    datasets = unified([(file, one.datasets) for file, one in good], origin)
    if options.as_ == "frame":
        frame_columns(datasets, origin)
    return Surveyed(
        cuts=[_cut(one, size) for one in contents],
        setup=msgspec.msgpack.encode(Hdf5Setup(datasets)),
        warnings=warnings,
    )


def _cut(contents: Contents, size: MiniBatchSize) -> Cut:
    if contents.error is not None:
        return unreadable(contents.error)
    rows = contents.datasets[0].shape[0]
    return cut_at(every(rows, _rows_of(contents.datasets, rows, size)))


def _rows_of(datasets: list[Dataset], rows: int, size: MiniBatchSize) -> int:
    """Rows of a mini-batch."""
    if not isinstance(size, BySize):
        return size.rows
    row_bytes = max(1, sum(one.row_bytes for one in datasets))
    target = max(1, round(size.bytes / row_bytes))
    fitting = [one for one in datasets if 0 < one.chunk_rows <= target]
    if not fitting:
        return max(1, -(-rows // max(1, round(rows / target))))  # Equal ones.
    # A chunk that two mini-batches share is decompressed twice: that of the largest data counts.
    chunk = max(fitting, key=lambda one: (one.row_bytes, one.chunk_rows)).chunk_rows
    return (target + chunk // 2) // chunk * chunk
