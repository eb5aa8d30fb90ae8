"""Parquet at the processor: what `run()` returned becomes its form and an Arrow IPC stream."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from mpibatch.core.forms import encode_form
from mpibatch.outputs import arrow, encoding, typed_keys
from mpibatch.outputs.encoding import Keys, NotEncodable, Rows
from mpibatch.outputs.input_key import FILE

if TYPE_CHECKING:
    import pyarrow as pa


class ParquetEncoder:
    """Makes fragments of what has columns: DataFrames, Arrow tables, lists of dicts or of values.

    `add_input_key`: columns in front say which item each row belongs to.
    """

    def __init__(self, add_input_key: bool) -> None:
        self._add_input_key = add_input_key

    def collect(self, result: object) -> Any:
        """Arrow tables and record batches as a table; the rest as `encoding.collect` has it."""
        pyarrow = sys.modules.get("pyarrow")
        if pyarrow is not None and isinstance(result, pyarrow.Table):
            return result
        if pyarrow is not None and isinstance(result, pyarrow.RecordBatch):
            return pyarrow.Table.from_batches([result])
        return encoding.collect(result, whole=True)

    def encode(self, collected: Any, items: int, keys: Keys) -> Rows:
        """The rows of what `collect` gave. Raises NotEncodable."""
        import pyarrow as pa

        returned = len(collected)
        try:
            table = self._table(collected)
            if not table.num_columns:
                return _without_columns(returned)
            if self._add_input_key:
                table = _with_keys(table, collected, items, keys)
            form = arrow.form_of(table)
            header = encode_form(form)
            fragment = header + _stream(arrow.cast(table, arrow.schema_of(form)))
        except (arrow.NoSuchColumn, pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, UnicodeEncodeError):
                why = encoding.shown_surrogate(error)
            else:
                why = f"{type(error).__name__}: {error}"
            raise NotEncodable(f"what run() returned cannot be written as Parquet: {why}") from error
        rows = Rows(returned=returned, rows=returned, fragment=fragment, header=len(header))
        return encoding.checked(rows, items)

    def _table(self, collected: Any) -> pa.Table:
        import pyarrow as pa

        if isinstance(collected, pa.Table):
            table = collected
        else:
            frame = encoding.as_frame(collected)
            table = pa.Table.from_pandas(frame, preserve_index=False, nthreads=1)
        twice = [name for name, count in Counter(table.column_names).items() if count > 1]
        if twice:
            raise ValueError(f"there is more than one column {twice[0]!r}")
        return table


def _without_columns(returned: int) -> Rows:
    if returned:
        raise NotEncodable(f"run() returned {returned} rows without a column, which Parquet cannot hold")
    return Rows(returned=0)


def _with_keys(table: pa.Table, collected: Any, items: int, keys: Keys) -> pa.Table:
    import pyarrow as pa

    columns = typed_keys.columns(collected, table.column_names, items, keys)
    for place, (name, values) in enumerate(columns.items()):
        type_ = pa.string() if name == FILE else pa.int64()
        table = table.add_column(place, pa.field(name, type_), pa.array(values, type_))
    return table


def _stream(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data
