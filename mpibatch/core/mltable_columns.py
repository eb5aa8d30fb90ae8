"""An MLTable's `keep_columns`, `drop_columns` and `convert_column_types` become options of our table inputs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpibatch.core.settings import Wrong, shown
from mpibatch.core.table_values import unique_names

_DTYPES = {"int": "int64", "float": "float64", "string": "str", "boolean": "bool"}
_TYPES = (*_DTYPES, "datetime")
_IN_RUN = "let run() convert the column"
_ISO_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d")
"""How formats begin that pandas reads without being told."""


There = Callable[[], Sequence[str] | None]
"""The columns that the files have, in order; None: they are not known."""


def _unknown() -> None:
    return None


def keep(kind: str | None, options: dict[str, Any], value: Any, there: There = _unknown) -> dict[str, Any]:
    """Options of an input of `kind` with these columns only."""
    names = _names(value)
    before = options.get("columns")
    if before is not None and (missing := [name for name in names if name not in before]):
        raise Wrong(f"the column {shown(missing[0])} has been left out before")
    return options | {"columns": names}


def drop(kind: str | None, options: dict[str, Any], value: Any, there: There = _unknown) -> dict[str, Any]:
    """The same without some."""
    names = _names(value)
    before = options.get("columns") or there()
    if before is None:
        raise Wrong("which columns remain is not known here: name those, by keep_columns")
    remaining = [name for name in before if name not in names]
    if not remaining:
        raise Wrong("leaves no column")
    return options | {"columns": remaining}


def numbered(count: int) -> list[str]:
    """As Azure ML names the columns of files without a header."""
    return [f"Column{number}" for number in range(1, count + 1)]


def convert(kind: str | None, options: dict[str, Any], value: Any, there: There = _unknown) -> dict[str, Any]:
    """Options with types of columns."""
    if kind == "parquet":
        raise Wrong("Parquet files have types of their own: let run() convert, by DataFrame.astype")
    if not isinstance(value, list | tuple):
        raise Wrong("must be a list, like [{columns: [age], column_type: int}]")
    dtypes: dict[str, str] = {}
    dates = list(options.get("parse_dates", []))
    for one in value:
        if not (isinstance(one, Mapping) and set(one) == {"columns", "column_type"}):
            raise Wrong(
                f"{shown(one)} must have columns and column_type, like {{columns: [age], column_type: int}}"
            )
        names = _names(one["columns"])
        dtype = _dtype(one["column_type"])
        if dtype is None:
            dates += [name for name in names if name not in dates]
        else:
            dtypes |= dict.fromkeys(names, dtype)
    changed = dict(options)
    if dtypes or isinstance(options.get("dtype"), str):
        changed["dtype"] = _with_others(options, dtypes, dates, there)
    return changed | ({"parse_dates": dates} if dates else {})


def _with_others(
    options: dict[str, Any], dtypes: dict[str, str], dates: list[str], there: There
) -> dict[str, str]:
    before = options.get("dtype") or {}
    if isinstance(before, str):  # Of all columns.
        columns = options.get("columns") or there()
        if columns is None:
            raise Wrong(
                "infer_column_types: false makes all columns text, and which there are is not known here: leave it"
                " out beside types of columns"
            )
        before = {name: before for name in columns if name not in dates}
    return {**before, **dtypes}


def _dtype(column_type: Any) -> str | None:
    """pandas' name; None: dates."""
    if isinstance(column_type, str) and column_type in _DTYPES:
        return _DTYPES[column_type]
    if column_type == "stream_info":
        raise Wrong(
            f"column_type stream_info opens files of a workspace: a column of paths stays text; {_IN_RUN}"
        )
    if isinstance(column_type, Mapping) and len(column_type) == 1:
        ((name, inside),) = column_type.items()
        if name == "datetime":
            _check_dates(inside)
            return None
        if name == "boolean" and not inside:
            return _DTYPES["boolean"]
        if name == "boolean":
            raise Wrong(f"column_type boolean with words of its own: {_IN_RUN}")
        if name == "stream_info":
            return _dtype(name)
    if column_type == "datetime":
        return None
    raise Wrong(f"column_type is {shown(column_type)}: must be one of {', '.join(_TYPES)}")


def _check_dates(inside: Any) -> None:
    formats = inside.get("formats") if isinstance(inside, Mapping) else None
    listed = formats if isinstance(formats, list | tuple) else [formats]
    for one in listed:
        if not (isinstance(one, str) and one.startswith(_ISO_DATES)):
            raise Wrong(
                f"datetime of the format {shown(one)}: only dates that begin with the year, like %Y-%m-%d, are read"
                " as such; leave it out, and let run() call pandas.to_datetime"
            )


def _names(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        raise Wrong(f"{shown(value)}: columns by a pattern cannot be had: name them")
    return unique_names(value)
