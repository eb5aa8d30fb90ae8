"""Columns that the paths of a table's files give: checked when the table is surveyed, and added to what is read.

Each format's survey and reader know nothing of them: they are given `of_files`, the options without these columns.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core.path_columns import columns_of_paths, path_columns
from mpibatch.core.settings import printable
from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions, ParquetOptions, TableOptions
from mpibatch.errors import InputError
from mpibatch.inputs.jsonl_frame import as_dtype
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Batch, Reader, TableFile, Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    import pandas as pd

Value = str | datetime

_SHOWN_FILES = 3


class _NoSuchTime(ValueError):
    """A path has digits where a time should be that are none, like a month 13."""


def of_files(options: TableOptions) -> TableOptions:
    """The options as the files' own columns are read by."""
    names = columns_of_paths(options)
    if not names:
        return options
    changes: dict[str, Any] = {"path_column": None, "path_columns": None}
    if not isinstance(options, Hdf5Options) and options.columns is not None:
        changes["columns"] = [name for name in options.columns if name not in names]
    if isinstance(options, CsvOptions | JsonlOptions) and isinstance(options.dtype, dict):
        own = {name: dtype for name, dtype in options.dtype.items() if name not in names}
        changes["dtype"] = own or None
    return msgspec.structs.replace(options, **changes)


def check_paths(files: Sequence[TableFile], options: TableOptions, origin: str) -> None:
    """Raises InputError where a path does not give the columns, or gives a value that does not have its dtype."""
    dtypes = _dtypes(options)
    fit: dict[tuple[str, Value], bool] = {}
    odd: list[tuple[TableFile, str]] = []
    for file in files:
        try:
            values = _values(options, file.name)
        except _NoSuchTime as error:
            odd.append((file, str(error)))
            continue
        if values is None:
            odd.append((file, "it ends otherwise"))
            continue
        for name, dtype in dtypes.items():
            key = name, values[name]
            if key not in fit:
                fit[key] = _fits(values[name], dtype)
            if not fit[key]:
                odd.append((file, f"{printable(str(values[name]))!r} for {name} is no {dtype}"))
                break
    if odd:
        raise InputError(
            f"{origin}: of {len(odd):,} of {len(files):,} files the path does not give the columns that it should,"
            f" path_columns: {printable(options.path_columns or 'none')}. {_some(odd)}."
            "\n  Write path_columns as the files lie, or have the input name only files that lie so."
        )


def check_free(setup: bytes, options: TableOptions, origin: str) -> None:
    """Raises InputError where a column comes from the files as well, so far as that is known by now.

    `setup`: what the survey of the files' own columns has found.
    """
    own = _own_columns(setup, options)
    for name in columns_of_paths(options):
        if name in own:
            raise InputError(f"{origin}: {_twice(name)}")


def _own_columns(setup: bytes, options: TableOptions) -> Sequence[str]:
    """Those that are read of the files; none where each file, or row, has its own."""
    match options:
        case CsvOptions():
            from mpibatch.inputs.csv_setup import CsvSetup

            names = msgspec.msgpack.decode(setup, type=CsvSetup).names or []
            return names if options.columns is None else []  # Those that `columns` leaves to the paths.
        case ParquetOptions():
            import pyarrow as pa

            from mpibatch.inputs.parquet_schema import ParquetSetup

            schema = msgspec.msgpack.decode(setup, type=ParquetSetup).schema
            names = pa.ipc.read_schema(pa.py_buffer(schema)).names
            return [str(name) for name in names]
    return []


def values_of(options: TableOptions, path: bytes) -> dict[str, Value]:
    """The columns' values in a file with this path, which the plan has checked. Raises Unreadable."""
    try:
        values = _values(options, path)
    except _NoSuchTime as error:
        raise Unreadable(f"{shown(path)}: {error}") from error
    if values is None:
        raise Unreadable(f"{shown(path)} does not end as path_columns says, {options.path_columns}")
    return values


def _values(options: TableOptions, path: bytes) -> dict[str, Value] | None:
    values: dict[str, Value] = {}
    if options.path_column is not None:
        values[options.path_column] = path.decode("utf-8", "backslashreplace")
    if options.path_columns is None:
        return values
    columns = path_columns(options.path_columns)
    found = columns.values(path)
    if found is None:
        return None
    for name, value in found.items():
        try:
            values[name] = datetime.fromisoformat(value) if name in columns.times else value
        except ValueError:
            raise _NoSuchTime(f"{value} is no time, as {{{name}: ...}} must be") from None
    return values


def framed(frame: pd.DataFrame, options: TableOptions, path: bytes) -> pd.DataFrame:
    """Rows of a file, of which `frame` has the file's own columns, with those of its path. Raises Unreadable."""
    values = _wanted(options, path)
    _check_free(frame.columns, values, path)
    dtypes = _dtypes(options)
    whole = frame.assign(
        **{name: _column(value, len(frame), dtypes.get(name)) for name, value in values.items()}
    )
    order = _ordered(options, list(whole.columns))
    return whole if order == list(whole.columns) else whole[order]


class PathColumnsReader:
    """Adds the columns to what another reader reads."""

    def __init__(self, reader: Reader, options: TableOptions) -> None:
        self._reader = reader
        self._options = options

    def read(self, source: Slice, count: int) -> Batch:
        """The rows with the columns of the source's path. Raises Unreadable."""
        path = source.name or source.path
        batch = self._reader.read(source, count)
        match batch.data:
            case list() as rows:
                batch.data = _records(rows, self._options, path)
            case dict() as arrays:
                batch.data = _with_arrays(arrays, self._options, path, count - len(batch.bad))
            case frame:
                batch.data = framed(frame, self._options, path)
        return batch

    def close(self) -> None:
        self._reader.close()


def _records(rows: list[dict[str, Any]], options: TableOptions, path: bytes) -> list[dict[str, Any]]:
    values = {
        # As JSON has times.
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in _wanted(options, path).items()
    }
    for row in rows:
        _check_free(row, values, path)
    return [_in_order(row | values, options) for row in rows]


def _with_arrays(arrays: dict[str, Any], options: TableOptions, path: bytes, rows: int) -> dict[str, Any]:
    import numpy as np

    values = _wanted(options, path)
    _check_free(arrays, values, path)
    constants = {
        name: np.full(rows, np.datetime64(value, "s") if isinstance(value, datetime) else value)
        for name, value in values.items()
    }
    return _in_order(arrays | constants, options)


def _in_order(columns: dict[str, Any], options: TableOptions) -> dict[str, Any]:
    return {name: columns[name] for name in _ordered(options, list(columns))}


def _order(options: TableOptions) -> list[str] | None:
    return None if isinstance(options, Hdf5Options) else options.columns


def _ordered(options: TableOptions, names: list[Any]) -> list[Any]:
    """These columns, those of the paths last, as they are to come."""
    order = _order(options)
    if order is not None:
        return [name for name in order if name in names]
    first = options.path_column
    return names if first is None else [first, *(name for name in names if name != first)]


def _wanted(options: TableOptions, path: bytes) -> dict[str, Value]:
    order = _order(options)
    values = values_of(options, path)
    return values if order is None else {name: value for name, value in values.items() if name in order}


def _dtypes(options: TableOptions) -> dict[str, str]:
    """Of columns of paths, those that are other than text."""
    dtypes = options.dtype if isinstance(options, CsvOptions | JsonlOptions) else None
    if not isinstance(dtypes, dict):
        return {}
    return {name: dtypes[name] for name in columns_of_paths(options) if name in dtypes}


def _column(value: Value, rows: int, dtype: str | None) -> pd.Series[Any]:
    import pandas as pd

    one: pd.Series[Any] = pd.Series(pd.to_datetime([value]) if isinstance(value, datetime) else [value])
    if dtype is not None:
        one = as_dtype(one, dtype)
    return one.repeat(rows).reset_index(drop=True)


def _fits(value: Value, dtype: str) -> bool:
    try:
        _column(value, 1, dtype)
    except (ValueError, TypeError, ArithmeticError):
        return False
    return True


def _check_free(there: Collection[Any], names: Collection[str], path: bytes) -> None:
    for name in names:
        if name in there:
            raise Unreadable(f"{shown(path)}: {_twice(name)}")


def _twice(name: str) -> str:
    return (
        f"the column {printable(name)} comes from the files' paths and stands in the files as well: give it another"
        " name in path_columns (path_column), or name those to read in `columns`"
    )


def _some(odd: Sequence[tuple[TableFile, str]]) -> str:
    more = f"; and {len(odd) - _SHOWN_FILES:,} more" if len(odd) > _SHOWN_FILES else ""
    return "; ".join(f"{shown(file.name)}: {why}" for file, why in odd[:_SHOWN_FILES]) + more
