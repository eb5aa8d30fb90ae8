"""Parquet: row groups by a rule on the rows in their order, with the schema of the merged form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibatch.core.forms import Form, Unmergeable, decode_form
from mpibatch.outputs import arrow
from mpibatch.outputs.partial import PartialFile
from mpibatch.outputs.row_groups import RowGroups

if TYPE_CHECKING:
    import pyarrow as pa


class ParquetSink:
    """Holds less than one row group, beside the fragments of one `append`."""

    def __init__(self, partial: Path) -> None:
        self._file = PartialFile(partial)
        self._writer: Any = None
        self._schema: pa.Schema | None = None
        self._groups = RowGroups()

    def start(self, form: bytes | None) -> None:
        from pyarrow import parquet

        self._let_go()
        self._file.begin()
        self._schema = arrow.schema_of(Form("parquet", ()) if form is None else decode_form(form))
        with self._file.naming():
            self._writer = parquet.ParquetWriter(self._file, self._schema, compression="zstd")

    def append(self, fragments: list[tuple[memoryview, int]]) -> None:
        """Unmergeable where a value does not fit the merged form: dates that nanoseconds cannot hold."""
        import pyarrow as pa

        tables = [
            self._table(fragment[header:], place)
            for place, (fragment, header) in enumerate(fragments)
            if header
        ]
        if tables:
            for group in self._groups.add(pa.concat_tables(tables)):
                self._write(group)

    def finish(self) -> None:
        rest = self._groups.rest()
        if rest is not None:
            self._write(rest)
        with self._file.naming():
            self._writer.close()
        self._writer = None
        self._file.sync()
        self._file.close()

    def close(self) -> None:
        self._let_go()
        self._file.close()

    def _write(self, group: pa.Table) -> None:
        with self._file.naming():
            self._writer.write_table(group, row_group_size=group.num_rows)

    def _table(self, stream: memoryview, place: int) -> pa.Table:
        import pyarrow as pa

        # A copy, as Arrow wants its numbers at multiples of 8, and so that no segment is held by a row.
        table = pa.ipc.open_stream(pa.py_buffer(bytes(stream))).read_all()
        assert self._schema is not None and table.schema.names == self._schema.names, "rows before their form"
        try:
            return arrow.cast(table, self._schema)
        except pa.ArrowInvalid as error:
            raise Unmergeable(
                f"rows of different mini-batches cannot stand in one Parquet file: {error}. Give the columns"
                " the same type in every mini-batch, as with astype()",
                place,
            ) from error

    def _let_go(self) -> None:
        """A writer that is not closed writes the end of its file when it dies: not to ours."""
        self._file.drop()
        if self._writer is not None:
            self._writer.is_open = False
        self._writer = None
        self._groups = RowGroups()
