"""How the keys of a table are read, and whether there are such columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import msgspec

from mpibatch.core.path_columns import columns_of_paths
from mpibatch.core.tables import (
    BySize,
    CsvOptions,
    Hdf5Options,
    JsonlOptions,
    ParquetOptions,
    TableOptions,
)
from mpibatch.errors import InputError
from mpibatch.inputs.key_reading import KeySpec
from mpibatch.inputs.origin import shown
from mpibatch.inputs.path_values import of_files
from mpibatch.inputs.row_files import names_text, no_such
from mpibatch.inputs.survey import Ask, Surveyed, TableFile

_SIZE = BySize(1 << 30)


def key_spec(
    files: Sequence[TableFile],
    options: TableOptions,
    surveyed: Surveyed,
    keys: list[str],
    ask: Ask,
    origin: str,
) -> KeySpec:
    """Raises InputError where it is known already that a key is no column."""
    own = [key for key in keys if key not in columns_of_paths(options)]
    of_own = of_files(options)
    match of_own:
        case CsvOptions():
            setup = surveyed.setup
            _check_csv(files, surveyed, own, columns_of_paths(options), origin)
        case JsonlOptions():
            setup = surveyed.setup
        case ParquetOptions():
            setup = _parquet_setup(files, of_own, surveyed, own, ask, origin)
        case Hdf5Options():
            setup = _hdf5_setup(files, of_own, surveyed, own, ask, origin)
        case _:
            assert_never(of_own)
    return KeySpec(options, setup, keys)


def _check_csv(
    files: Sequence[TableFile], surveyed: Surveyed, keys: list[str], of_paths: Sequence[str], origin: str
) -> None:
    """Where files have headers of their own, this is only known when they are read."""
    from mpibatch.inputs.csv_setup import CsvSetup

    names = msgspec.msgpack.decode(surveyed.setup, type=CsvSetup).names
    for key in keys:
        if names is not None and key not in names:
            raise no_such("column", key, [*names, *of_paths], _first(files, surveyed), origin)


def _first(files: Sequence[TableFile], surveyed: Surveyed) -> TableFile:
    """The first file that can be read."""
    return next(file for file, cut in zip(files, surveyed.cuts) if cut.error is None)


def _parquet_setup(
    files: Sequence[TableFile],
    options: ParquetOptions,
    surveyed: Surveyed,
    keys: list[str],
    ask: Ask,
    origin: str,
) -> bytes:
    import pyarrow as pa

    from mpibatch.inputs import parquet_survey
    from mpibatch.inputs.parquet_schema import ParquetSetup

    setup = msgspec.msgpack.decode(surveyed.setup, type=ParquetSetup)
    if set(keys) <= set(pa.ipc.read_schema(pa.py_buffer(setup.schema)).names):
        return surveyed.setup
    # `columns` has left them out, or they are not there, which this tells.
    of_keys = msgspec.structs.replace(options, columns=keys)
    return parquet_survey.survey(files, of_keys, _SIZE, ask, origin=origin).setup


def _hdf5_setup(
    files: Sequence[TableFile],
    options: Hdf5Options,
    surveyed: Surveyed,
    keys: list[str],
    ask: Ask,
    origin: str,
) -> bytes:
    from mpibatch.inputs import hdf5_survey
    from mpibatch.inputs.hdf5_columns import Hdf5Setup, columns_of
    from mpibatch.inputs.hdf5_contents import Dataset

    def columns(dataset: Dataset) -> list[str]:
        try:
            return [name for field in dataset.fields for name in columns_of(dataset, field, origin)]
        except InputError:
            return []  # It may be something else than columns, but no key then.

    datasets = msgspec.msgpack.decode(surveyed.setup, type=Hdf5Setup).datasets
    chosen = [one for one in datasets if set(columns(one)) & set(keys)]
    missing = [key for key in keys if not any(key in columns(one) for one in chosen)]
    if not missing:
        return msgspec.msgpack.encode(Hdf5Setup(chosen))
    # `datasets` has left them out, or they are not there, which this tells.
    more = msgspec.structs.replace(options, datasets=missing, as_="frame")
    found = hdf5_survey.survey(files, more, _SIZE, ask, origin=origin)
    chosen += msgspec.msgpack.decode(found.setup, type=Hdf5Setup).datasets
    return msgspec.msgpack.encode(Hdf5Setup(chosen))


def check_found(
    keys: list[str], found: Sequence[tuple[TableFile, list[bool], list[str]]], origin: str
) -> None:
    """Raises InputError where a key is no column of a file. `found`: of each file, whether it has them, and
    the columns that it has."""
    for number, key in enumerate(keys):
        having = [file for file, has, _ in found if has[number]]
        lacking = [(file, columns) for file, has, columns in found if not has[number]]
        if not lacking:
            continue
        file, columns = lacking[0]
        if not having:
            raise no_such("column", key, columns, file, origin)
        raise InputError(
            f"{origin}: {shown(having[0].name)} has a column {key}, but {shown(file.name)} has none"
            f" ({len(lacking):,} of {len(found):,} files have none). Columns there: {names_text(columns)}."
            "\n  Leave those files out, or give them the column."
        )
