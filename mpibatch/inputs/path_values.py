"""What the path of a table's file says: the values of the columns `path_column` and `path_columns`, by file.

Each format's survey and reader know nothing of such columns: they are given `of_files`, the options without them.
`path_survey` checks the paths before anything runs, `path_reader` adds the columns to what is read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core.path_columns import columns_of_paths, path_columns
from mpibatch.core.settings import printable
from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions, TableOptions
from mpibatch.inputs.jsonl_frame import as_dtype
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Unreadable

if TYPE_CHECKING:
    import pandas as pd

Value = str | datetime

_BOOLS = {"true": True, "1": True, "false": False, "0": False}


class NoSuchTime(ValueError):
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


def find_values(options: TableOptions, path: bytes) -> dict[str, Value] | None:
    """The columns' values in a file with this path; None where it does not end as `path_columns` says.

    Raises NoSuchTime.
    """
    values: dict[str, Value] = {}
    if options.path_column is not None:
        values[options.path_column] = _without_dots(path).decode("utf-8", "backslashreplace")
    if options.path_columns is None:
        return values
    columns = path_columns(options.path_columns)
    found = columns.values(_without_dots(path))
    if found is None:
        return None
    for name, value in found.items():
        try:
            values[name] = datetime.fromisoformat(value) if name in columns.times else value
        except ValueError:
            raise NoSuchTime(f"{value} is no time, as {{{name}: ...}} must be") from None
    return values


def _without_dots(path: bytes) -> bytes:
    """`..` goes where the links before it lead; links after it keep their names."""
    before, dots, behind = path.rpartition(b"/../")
    return os.path.join(os.path.realpath(before + b"/.."), behind) if dots else path


def values_of(options: TableOptions, path: bytes) -> dict[str, Value]:
    """The same of a file that has been planned. Raises Unreadable."""
    try:
        values = find_values(options, path)
    except NoSuchTime as error:
        raise Unreadable(f"{shown(path)}: {error}") from error
    if values is None:
        raise Unreadable(f"{shown(path)} does not end as path_columns says, {options.path_columns}")
    return values


def dtypes_of_paths(options: TableOptions) -> dict[str, str]:
    """Of columns of paths, those that are other than text."""
    dtypes = options.dtype if isinstance(options, CsvOptions | JsonlOptions) else None
    if not isinstance(dtypes, dict):
        return {}
    return {name: dtypes[name] for name in columns_of_paths(options) if name in dtypes}


def series(values: Sequence[Value], dtype: str | None) -> pd.Series[Any]:
    """Values of one column. Raises ValueError, TypeError or ArithmeticError where one does not have the dtype."""
    import numpy as np
    import pandas as pd

    times = bool(values) and isinstance(values[0], datetime)
    # In microseconds, as nanoseconds do not reach far enough for all that can be written.
    whole: pd.Series[Any] = pd.Series(np.array(values, "datetime64[us]") if times else list(values))
    if dtype is None:
        return whole
    return as_dtype(whole if times else _as_in_files(whole, pd.api.types.pandas_dtype(dtype).kind), dtype)


def _as_in_files(texts: pd.Series[Any], kind: str) -> pd.Series[Any]:
    """What texts are as fields of files, where Python reads them otherwise. Raises ValueError."""
    if kind == "b":
        wrong = next((text for text in texts if text.lower() not in _BOOLS), None)
        if wrong is not None:
            raise ValueError(f"{wrong} is neither true nor false")
        return texts.str.lower().map(_BOOLS)
    if kind in "iufc" and any("_" in text or not text.isascii() for text in texts):
        raise ValueError("no number")
    return texts


def twice(name: str, options: TableOptions, *, in_folders: bool = False) -> str:
    """A column that comes from the files as well. `in_folders`: of Parquet, from folders `key=value`."""
    where = "and from folders key=value as well" if in_folders else "and stands in the files as well"
    if in_folders:
        remedy = "write `hive: false`, or give it another name"
    elif isinstance(options, Hdf5Options):
        remedy = "give it another name, or let `datasets` name those to read"
    else:
        remedy = "give it another name, or name those to read in `columns`"
    return f"the column {printable(name)} comes from the files' paths {where}: {remedy}"
