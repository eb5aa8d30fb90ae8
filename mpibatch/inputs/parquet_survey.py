"""The survey of Parquet files: their footers tell how many rows they have, in which row groups, and of which columns.

Only footers are read, never data; a mini-batch is a range of a file's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from mpibatch.core.tables import BySize, MiniBatchSize, ParquetOptions
from mpibatch.inputs.parquet_cuts import cut_by_size
from mpibatch.inputs.parquet_footers import Answer, Footer, Footers, FootersAnswer, Question, answer
from mpibatch.inputs.parquet_hive import partition_columns
from mpibatch.inputs.parquet_schema import ParquetSetup, unified, wanted
from mpibatch.inputs.row_files import cut_at, every, portions, unreadable, unreadable_files
from mpibatch.inputs.survey import Ask, Cut, Surveyed, TableFile

if TYPE_CHECKING:
    import pyarrow as pa


__all__ = ["Answer", "Question", "answer", "survey"]


def survey(
    files: Sequence[TableFile], options: ParquetOptions, size: MiniBatchSize, ask: Ask, *, origin: str
) -> Surveyed:
    """Where the files are cut, and the schema in which all are read.

    `origin`: job file and key, for messages. Raises InputError where `columns` names what is not there,
    where the files' columns or partition keys differ, and where no file can be read.
    """
    partition = partition_columns(files, origin) if options.hive else {}
    answers = ask([Footers(paths, options.columns) for paths in portions(files)])
    footers = list(chain.from_iterable(answer.footers for answer in answers))
    warnings = unreadable_files(files, [footer.error for footer in footers], origin)
    found = _schemas(files, answers)
    setup, more = _setup(found, options, partition, origin)
    cuts = [_cut(footer, size) for footer in footers]
    return Surveyed(cuts=cuts, setup=msgspec.msgpack.encode(setup), warnings=warnings + more)


def _schemas(
    files: Sequence[TableFile], answers: Sequence[FootersAnswer]
) -> list[tuple[TableFile, pa.Schema]]:
    """The different schemas, each with the first file that has it, in the order of the files."""
    import pyarrow as pa

    found: dict[bytes, TableFile] = {}
    footers = [(footer, one.schemas) for one in answers for footer in one.footers]
    for file, (footer, schemas) in zip(files, footers):
        if footer.error is None:
            found.setdefault(schemas[footer.schema], file)
    return [(file, pa.ipc.read_schema(pa.py_buffer(schema))) for schema, file in found.items()]


def _setup(
    found: list[tuple[TableFile, pa.Schema]],
    options: ParquetOptions,
    partition: dict[str, bool],
    origin: str,
) -> tuple[ParquetSetup, list[str]]:
    """What the readers need to know, and warnings."""
    import pyarrow as pa

    file, first = found[0]
    names = wanted(first, options.columns, list(partition), file, origin)
    in_files = [name for name in names if name in first.names]
    schema = unified(found, None if options.columns is None else in_files, origin)
    types = {field.name: field.type for field in schema}
    types |= {key: pa.int64() if partition[key] else pa.string() for key in names if key not in types}
    whole = pa.schema([(name, types[name]) for name in names], metadata=schema.metadata)
    warnings = [
        f"{origin}: column {key} is in the files and in the names of their folders: that of the files is read"
        for key in partition
        if key in in_files
    ]
    keys = [name for name in names if name not in in_files]
    return ParquetSetup(schema=whole.serialize().to_pybytes(), partition=keys), warnings


def _cut(footer: Footer, size: MiniBatchSize) -> Cut:
    import numpy as np

    if footer.error is not None:
        return unreadable(footer.error)
    groups = np.frombuffer(footer.groups, dtype="<i8").astype(np.int64)
    if isinstance(size, BySize):
        return cut_at(cut_by_size(groups, footer.size, size.bytes))
    return cut_at(every(int(groups.sum()), size.rows))
