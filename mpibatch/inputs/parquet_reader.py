"""Reads the rows of mini-batches of Parquet files, in the processor."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core.tables import ParquetOptions
from mpibatch.inputs.origin import shown
from mpibatch.inputs.parquet_footers import why
from mpibatch.inputs.parquet_groups import RowGroups
from mpibatch.inputs.parquet_hive import partition
from mpibatch.inputs.parquet_schema import ParquetSetup, cast, own_dtypes, pandas_metadata
from mpibatch.inputs.seen import SeenFiles
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def open_reader(options: ParquetOptions, setup: bytes) -> ParquetReader:
    """`setup` is the survey's, which has applied the options."""
    return ParquetReader(msgspec.msgpack.decode(setup, type=ParquetSetup))


class ParquetReader:
    """Keeps the last file open. `run()` gets a DataFrame with an index from 0, of the types of all files."""

    def __init__(self, setup: ParquetSetup) -> None:
        import pyarrow as pa

        schema = pa.ipc.read_schema(pa.py_buffer(setup.schema))
        self._schema = schema.with_metadata(pandas_metadata(_known(own_dtypes(schema))))
        self._partition = set(setup.partition)
        self._names = [name for name in schema.names if name not in self._partition]
        self._open: tuple[bytes, RowGroups] | None = None
        self._seen = SeenFiles()

    def read(self, source: Slice, count: int) -> Batch:
        """Raises Unreadable where the file is not as the plan has it."""
        import pyarrow as pa

        try:
            return Batch(data=self._frame(source, source.start + source.skip, count), bad=[])
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            self.close()  # What is open may be what is wrong: a further try begins anew.
            raise Unreadable(_words(source.path, why(error))) from error
        except Unreadable:
            self.close()
            raise

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _frame(self, source: Slice, first: int, count: int) -> pd.DataFrame:
        import pyarrow as pa

        file = self._file(source.path)
        if source.stop > file.rows or source.stop - source.start != source.rows:
            planned = f"rows {source.start:,} to {source.stop:,} were planned"
            raise Unreadable(_words(source.path, f"it has {file.rows:,} rows, while {planned}"))
        found: dict[str, pa.ChunkedArray | pa.Array] = {}
        if self._names:
            table = cast(file.read(first, first + count, source.rows), self._schema)
            found = dict(zip(table.schema.names, table.columns))
        found |= self._constants(source.path, count)
        whole = pa.table([found[name] for name in self._schema.names], schema=self._schema)
        frame: pd.DataFrame = whole.to_pandas(use_threads=False)
        return frame

    def _file(self, path: bytes) -> RowGroups:
        if self._open is None or self._open[0] != path:
            self.close()
            self._open = (path, RowGroups(path, self._names, self._seen))
        return self._open[1]

    def _constants(self, path: bytes, count: int) -> dict[str, pa.Array]:
        """The partition columns: one value each for all rows of a file."""
        import pyarrow as pa

        if not self._partition:
            return {}
        values = dict(partition(path))
        columns = {}
        for name in self._partition:
            to, value = self._schema.field(name).type, values[name]
            columns[name] = pa.repeat(pa.scalar(value, pa.string()).cast(to), count)
        return columns


def _known(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose dtype this pandas knows. Others come as Arrow's type has it."""
    import pandas as pd

    found = []
    for column in columns:
        with contextlib.suppress(TypeError, ValueError):
            pd.api.types.pandas_dtype(column["numpy_type"])
            found.append(column)
    return found


def _words(path: bytes, problem: str) -> str:
    return f"{shown(path)} cannot be read as it was planned: {problem.rstrip('.')}. Has it changed since?"
