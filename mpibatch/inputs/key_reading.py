"""Reads only the key columns of a range of a table, by the reader of its format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from mpibatch.core.path_columns import columns_of_paths
from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions, ParquetOptions, TableOptions
from mpibatch.inputs.key_batches import pack, unpack
from mpibatch.inputs.key_starts import if_fields_at_most
from mpibatch.inputs.key_values import KeyedRows, by_columns, by_packed, plain, with_gaps
from mpibatch.inputs.path_values import of_files, values_of
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    from numpy.typing import NDArray


class KeySpec(msgspec.Struct, frozen=True, array_like=True):
    """What has to be known to read the keys of an input."""

    options: TableOptions
    setup: bytes
    """For the keys' columns: other than that of the input where these are not read otherwise."""
    keys: list[str]


def read_keys(spec: KeySpec, part: Slice) -> KeyedRows:
    """The values in the rows of a part. Raises Unreadable where the part is not as it was surveyed."""
    of_path = set(columns_of_paths(spec.options))
    if not of_path.intersection(spec.keys):
        return _of_files(msgspec.structs.replace(spec, options=of_files(spec.options)), part)
    values = values_of(spec.options, part.name or part.path)
    own = [key for key in spec.keys if key not in of_path]
    keyed = _of_files(KeySpec(of_files(spec.options), spec.setup, own), part) if own else _of_no_column(part)

    def whole(key: bytes) -> bytes:
        rest = iter(unpack(key))
        return pack([plain(values[name]) if name in of_path else next(rest) for name in spec.keys])

    found = iter(keyed.found)
    return keyed._replace(
        keys=[whole(key) for key in keyed.keys],
        found=[name in of_path or next(found) for name in spec.keys],
        columns=[*keyed.columns, *values],
    )


def _of_no_column(part: Slice) -> KeyedRows:
    """All rows are equal: nothing has to be read."""
    import numpy as np

    return KeyedRows(np.zeros(part.rows, np.int64), [pack([])], [], [], np.array([part.start]))


def _of_files(spec: KeySpec, part: Slice) -> KeyedRows:
    """Keys that are all columns of the files."""
    options = spec.options
    match options:
        case CsvOptions():
            return _of_csv(options, spec, part)
        case JsonlOptions():
            return _of_jsonl(options, spec, part)
        case ParquetOptions():
            return _of_parquet(spec, part)
        case Hdf5Options():
            return _of_hdf5(options, spec, part)
        case _:
            assert_never(options)


def _of_csv(options: CsvOptions, spec: KeySpec, part: Slice) -> KeyedRows:
    """Values are texts."""
    from mpibatch.inputs import csv_reader
    from mpibatch.inputs.csv_setup import CsvSetup

    setup = msgspec.structs.replace(msgspec.msgpack.decode(spec.setup, type=CsvSetup), dtypes=None)
    names = setup.names
    columns = spec.keys if names is not None and set(spec.keys) <= set(names) else None
    starts = None
    if columns is not None and options.columns is None:
        # pandas takes a record with too many fields for malformed only where all columns are read.
        starts = if_fields_at_most(options, part, len(names or []))
        columns = None if starts is None else columns
    text = msgspec.structs.replace(
        options, columns=columns, dtype="object", parse_dates=[], thousands=None, decimal="."
    )
    reader = csv_reader.open_reader(text, msgspec.msgpack.encode(setup))
    try:
        batch = reader.read(part, part.rows)
    finally:
        reader.close()
    frame = batch.data
    there = {str(name): name for name in frame.columns}
    if not set(spec.keys) <= set(there):
        return _missing(spec, list(there), part.rows)
    values = [frame[there[key]].to_numpy(object) for key in spec.keys]
    which, keys = by_columns(values, len(frame))
    found = [True] * len(spec.keys)
    return KeyedRows(with_gaps(which, _bad(batch)), keys, found, list(there), starts)


def _of_jsonl(options: JsonlOptions, spec: KeySpec, part: Slice) -> KeyedRows:
    """Values are as JSON has them. A row need not have all keys."""
    from mpibatch.inputs import jsonl_reader

    plainly = msgspec.structs.replace(options, as_="records", columns=None, dtype=None, parse_dates=[])
    reader = jsonl_reader.open_reader(plainly, b"")
    try:
        batch = reader.read(part, part.rows)
    finally:
        reader.close()
    packed = [pack([plain(row.get(key)) for key in spec.keys]) for row in batch.data]
    which, keys = by_packed(packed)
    found = [any(key in row for row in batch.data) for key in spec.keys]
    columns = dict.fromkeys(name for row in batch.data[:100] for name in row)
    return KeyedRows(with_gaps(which, _bad(batch)), keys, found, list(columns))


def _of_parquet(spec: KeySpec, part: Slice) -> KeyedRows:
    """Values have the one type of all files; partition columns are those of the folders' names."""
    import pyarrow as pa

    from mpibatch.inputs.parquet_footers import why
    from mpibatch.inputs.parquet_groups import RowGroups
    from mpibatch.inputs.parquet_schema import ParquetSetup
    from mpibatch.inputs.parquet_schema import cast as to_types

    setup = msgspec.msgpack.decode(spec.setup, type=ParquetSetup)
    schema = pa.ipc.read_schema(pa.py_buffer(setup.schema))
    names = [key for key in spec.keys if key not in setup.partition]
    columns: dict[str, list[Any] | NDArray[Any]] = {}
    if names:
        try:
            file = RowGroups(part.path, names)
            try:
                if part.stop > file.rows:
                    raise Unreadable(f"it has {file.rows:,} rows, and {part.stop:,} when it was surveyed")
                table = to_types(file.read(part.start, part.stop, part.rows), schema)
            finally:
                file.close()
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise Unreadable(why(error)) from error
        columns = {name: _arrow_values(table.column(name)) for name in names}
    for name in set(spec.keys) - set(names):
        columns[name] = [hive_value(schema, name, part.path)] * part.rows
    which, keys = by_columns([columns[key] for key in spec.keys], part.rows)
    return KeyedRows(which, keys, [True] * len(spec.keys), schema.names)


def hive_value(schema: Any, name: str, path: bytes) -> Any:
    """What the folders of a path say of a partition column."""
    import pyarrow as pa

    from mpibatch.inputs.parquet_hive import partition

    value = dict(partition(path))[name]
    return pa.scalar(value, pa.string()).cast(schema.field(name).type).as_py()


def _arrow_values(column: Any) -> NDArray[Any]:
    """The different values of a column as Python has them, each row's in an array of objects."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(column.type):
        found = np.empty(len(column), object)
        found[:] = [plain(value) for value in column.to_pylist()]
        return found
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    encoded = whole.dictionary_encode(null_encoding="encode")
    values = np.empty(len(encoded.dictionary), object)
    values[:] = [plain(value) for value in encoded.dictionary.to_pylist()]
    taken: NDArray[Any] = values[encoded.indices.to_numpy(zero_copy_only=False)]
    return taken


def _of_hdf5(options: Hdf5Options, spec: KeySpec, part: Slice) -> KeyedRows:
    from mpibatch.inputs import hdf5_reader

    reader = hdf5_reader.open_reader(msgspec.structs.replace(options, as_="frame"), spec.setup)
    try:
        frame = reader.read(part, part.rows).data
    finally:
        reader.close()
    if not set(spec.keys) <= set(frame.columns):
        return _missing(spec, [str(name) for name in frame.columns], part.rows)
    values = [frame[key].to_numpy() for key in spec.keys]
    which, keys = by_columns(values, part.rows)
    return KeyedRows(which, keys, [True] * len(spec.keys), [str(name) for name in frame.columns])


def _bad(batch: Batch) -> list[int]:
    return [one.position for one in batch.bad]


def _missing(spec: KeySpec, columns: list[str], rows: int) -> KeyedRows:
    import numpy as np

    return KeyedRows(np.full(rows, -1, np.int64), [], [key in columns for key in spec.keys], columns)
