"""Whether the paths of a table's files give the columns that they should, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mpibatch.core.path_columns import columns_of_paths
from mpibatch.core.settings import printable
from mpibatch.core.tables import CsvOptions, Hdf5Options, ParquetOptions, TableOptions
from mpibatch.errors import InputError
from mpibatch.inputs.origin import shown
from mpibatch.inputs.path_values import NoSuchTime, Value, dtypes_of_paths, find_values, series, twice
from mpibatch.inputs.survey import TableFile

_SHOWN_FILES = 3


class _Odd(NamedTuple):
    file: TableFile
    why: str


def check_paths(files: Sequence[TableFile], options: TableOptions, origin: str) -> None:
    """Raises InputError where a path does not give the columns, or gives a value that does not have its dtype."""
    odd: list[_Odd] = []
    found: dict[str, dict[Value, TableFile]] = {name: {} for name in dtypes_of_paths(options)}
    for file in files:
        try:
            values = find_values(options, file.name)
        except NoSuchTime as error:
            odd.append(_Odd(file, str(error)))
            continue
        if values is None:
            odd.append(_Odd(file, "it ends otherwise"))
            continue
        for name, firsts in found.items():
            firsts.setdefault(values[name], file)
    for name, dtype in dtypes_of_paths(options).items():
        odd += _misfits(name, dtype, found[name])
    if odd:
        raise InputError(
            f"{origin}: of {len(odd):,} of {len(files):,} files the path does not give the columns that it should,"
            f" path_columns: {printable(options.path_columns or 'none')}. {_some(odd)}."
            f"\n  Write path_columns as the files lie{' (or dtype as they are called)' if found else ''}, or have the"
            " input name only files that lie so."
        )


def _misfits(name: str, dtype: str, firsts: dict[Value, TableFile]) -> list[_Odd]:
    """Of each value that does not have the dtype, the first file."""
    if _fit(list(firsts), dtype):
        return []
    return [
        _Odd(file, f"{printable(str(value))!r} for {name} is no {dtype}")
        for value, file in firsts.items()
        if not _fit([value], dtype)
    ]


def _fit(values: list[Value], dtype: str) -> bool:
    try:
        series(values, dtype)
    except (ValueError, TypeError, ArithmeticError):
        return False
    return True


def _some(odd: Sequence[_Odd]) -> str:
    more = f"; and {len(odd) - _SHOWN_FILES:,} more" if len(odd) > _SHOWN_FILES else ""
    return "; ".join(f"{shown(one.file.name)}: {one.why}" for one in odd[:_SHOWN_FILES]) + more


def check_free(setup: bytes, options: TableOptions, origin: str) -> None:
    """Raises InputError where a column comes from the files as well, so far as that is known by now.

    `setup`: what the survey of the files' own columns has found.
    """
    own, of_folders = _own_columns(setup, options)
    for name in columns_of_paths(options):
        if name in own:
            raise InputError(f"{origin}: {twice(name, options, in_folders=name in of_folders)}")


def _own_columns(setup: bytes, options: TableOptions) -> tuple[Sequence[str], Sequence[str]]:
    """Those that are read of the files, and which of them come from folders; none where files, or rows, differ."""
    match options:
        case CsvOptions():
            from mpibatch.inputs.csv_setup import CsvSetup

            names = msgspec.msgpack.decode(setup, type=CsvSetup).names or []
            return ([] if options.columns is not None else names), []  # `columns` leaves them to the paths.
        case ParquetOptions():
            import pyarrow as pa

            from mpibatch.inputs.parquet_schema import ParquetSetup

            found = msgspec.msgpack.decode(setup, type=ParquetSetup)
            return pa.ipc.read_schema(pa.py_buffer(found.schema)).names, found.partition
        case Hdf5Options():
            from mpibatch.inputs.hdf5_columns import Hdf5Setup, columns_of

            datasets = msgspec.msgpack.decode(setup, type=Hdf5Setup).datasets
            if options.as_ == "arrays":
                return [one.name for one in datasets], []
            return [
                name for one in datasets for field in one.fields for name in columns_of(one, field, "")
            ], []
    return [], []
