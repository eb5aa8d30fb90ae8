"""Names of pandas' dtypes in a job file, checked by their spelling: pandas is not loaded for it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpibatch.core.settings import Wrong, did_you_mean, shown
from mpibatch.core.table_values import plain_text

FROM_FIRST_ROWS = "from_first_rows"

_WIDTHS = ("8", "16", "32", "64")
_NAMES = (
    *(kind + width for kind in ("Int", "UInt", "int", "uint") for width in _WIDTHS),
    *(
        "Float32",
        "Float64",
        "float16",
        "float32",
        "float64",
        "float",
        "double",
        "single",
        "half",
        "int",
        "uint",
    ),
    *("bool", "boolean", "str", "string", "object", "category", "complex64", "complex128", "complex"),
)
"""Of names that differ in case only, the nearest is taken to be the last."""
_CODE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16)")
"""numpy's short spelling."""
_WITH_PARAMETER = re.compile(r"(string|period)\[.+\]|[a-z0-9_]+(\[.*\]|\(.*\))?\[pyarrow\]", re.DOTALL)
_DATES = re.compile(r"(datetime|timestamp|date|[<>=|]?M8)(64)?(\[.*\])?", re.DOTALL)
_SPANS = re.compile(r"(timedelta(64)?|[<>=|]?m8|interval)(\[.*\])?", re.DOTALL)


def dtype_name(value: Any) -> str:
    name = plain_text(value)
    if name == FROM_FIRST_ROWS:
        raise Wrong(f"{FROM_FIRST_ROWS} is for all columns: write dtype: {FROM_FIRST_ROWS}")
    if name in _NAMES or _CODE.fullmatch(name) or _WITH_PARAMETER.fullmatch(name):
        return name
    if _DATES.fullmatch(name):
        raise Wrong("columns of dates are named in parse_dates, not in dtype")
    if _SPANS.fullmatch(name):
        raise Wrong("no file is read as that: take str, and let run() convert it")
    usual = "int64, Int64, float64, bool, boolean, str, category"
    raise Wrong(f"must be the name of a pandas dtype, like {usual}{did_you_mean(name, _NAMES)}")


def column_dtype(value: Any) -> dict[str, str]:
    """A mapping of columns to dtypes."""
    if not isinstance(value, Mapping):
        raise Wrong("must be a mapping of columns to pandas dtypes, like {id: int64, name: str}")
    return {_column(name): _dtype_of(name, dtype) for name, dtype in value.items()}


def dtypes(value: Any) -> dict[str, str] | str:
    """A mapping, one dtype for all columns, or `from_first_rows`."""
    if isinstance(value, Mapping):
        return column_dtype(value)
    if value == FROM_FIRST_ROWS:
        return FROM_FIRST_ROWS
    if not isinstance(value, str):
        example = "a mapping of columns to them, like {id: int64, name: str}"
        raise Wrong(f"must be a pandas dtype, {example}, or {FROM_FIRST_ROWS}")
    near = did_you_mean(value, [FROM_FIRST_ROWS])
    if near:
        raise Wrong(f"must be a pandas dtype or {FROM_FIRST_ROWS}{near}")
    return dtype_name(value)


def _column(name: Any) -> str:
    try:
        return plain_text(name)
    except Wrong as wrong:
        raise Wrong(f"the column {shown(name)} {wrong}") from None


def _dtype_of(name: Any, dtype: Any) -> str:
    try:
        return dtype_name(dtype)
    except Wrong as wrong:
        raise Wrong(f"{shown(dtype)} of the column {shown(name)}: {wrong}") from None
