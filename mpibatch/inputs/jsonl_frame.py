"""Rows of JSON lines become a DataFrame, and those that hold a value which does not fit are told apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core.tables import JsonlOptions
from mpibatch.inputs.dates import to_dates
from mpibatch.inputs.suspects import TooManyFail, failing

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 60
"""Characters of a value in a message."""

_REFUSALS = (ValueError, TypeError, ArithmeticError)


def to_frame(rows: list[dict[str, Any]], options: JsonlOptions) -> tuple[pd.DataFrame, dict[int, str]]:
    """All rows as a table (what is missing is NaN), and which of them do not fit, with the reason.

    If there are any, the table is that of the others. Raises TooManyFail.
    """
    import pandas as pd

    frame = pd.DataFrame(rows, columns=options.columns)
    reasons: dict[int, str] = {}
    for column, dtype in (options.dtype or {}).items():
        if column in frame.columns:
            _convert(frame, column, _values(rows, column), dtype, reasons)
    for column in options.parse_dates:
        if column in frame.columns:
            _date(frame, column, _values(rows, column), reasons)
    if not reasons:
        return frame, {}
    good = [row for number, row in enumerate(rows) if number not in reasons]
    return to_frame(good, msgspec.structs.replace(options, columns=list(frame.columns)))[0], reasons


def _values(rows: list[dict[str, Any]], column: str) -> pd.Series[Any]:
    """As they are in the rows: of a column with gaps pandas has made floats, in which long integers get lost."""
    import pandas as pd

    return pd.Series([row.get(column) for row in rows], dtype=object)


def _convert(
    frame: pd.DataFrame, column: str, values: pd.Series[Any], dtype: str, reasons: dict[int, str]
) -> None:
    try:
        frame[column] = as_dtype(values, dtype)
    except _REFUSALS:
        try:
            numbers = failing(len(values), lambda start, stop: _fits(values.iloc[start:stop], dtype))
        except TooManyFail as error:
            raise TooManyFail(
                f"{column!r}: more values than can be told one by one are no {dtype}: is that the right dtype?"
            ) from error
        for number in numbers:
            reasons.setdefault(number, f"{column!r}: {_shown(values[number])} is no {dtype}")
        if not reasons:
            raise


def as_dtype(values: pd.Series[Any], dtype: str) -> pd.Series[Any]:
    """Raises where a value would lose something; whether it does so depends on no other value."""
    import numpy as np
    import pandas as pd

    kind: Any = pd.api.types.pandas_dtype(dtype)
    if kind.kind not in _PLAIN:
        return values.astype(kind)
    plain, types = _PLAIN[kind.kind]
    if not types.issuperset(map(type, values)):
        values = pd.Series([plain(value) for value in values], dtype=object)
    if kind.kind in "iu" and isinstance(kind, np.dtype):
        # Of 300 numpy makes an int8 nevertheless; the types of pandas that know nulls do not.
        values = values.astype(f"{_NULLABLE[kind.kind]}{8 * kind.itemsize}")  # type: ignore[call-overload]
    if isinstance(kind, np.dtype) and kind.kind != "f" and values.isna().any():
        raise ValueError("a null")
    return values.astype(kind)


def _integer(value: Any) -> int | None:
    number = value if value is None or isinstance(value, int) else int(value)
    if isinstance(value, float) and value != number:
        raise ValueError("not whole")
    return number if number is None else int(number)


def _real(value: Any) -> float | None:
    return None if value is None else float(value)


def _bool(value: Any) -> bool | None:
    if value is None:
        return None
    if value not in (0, 1):
        raise ValueError("neither true nor false")
    return bool(value)


_NOTHING = type(None)
_PLAIN: dict[str, tuple[Callable[[Any], object], set[type]]] = {
    "i": (_integer, {int, _NOTHING}),
    "u": (_integer, {int, _NOTHING}),
    "f": (_real, {int, float, _NOTHING}),
    "b": (_bool, {bool, _NOTHING}),
}
"""By the kind of a dtype: what makes of a value of JSON one that pandas takes, or raises; and the types of those
that need nothing made of them."""
_NULLABLE = {"i": "Int", "u": "UInt"}


def _fits(values: pd.Series[Any], dtype: str) -> bool:
    try:
        as_dtype(values, dtype)
    except _REFUSALS:
        return False
    return True


def _date(frame: pd.DataFrame, column: str, values: pd.Series[Any], reasons: dict[int, str]) -> None:
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Else pandas would say for each mini-batch what it has guessed.
            frame[column] = pd.to_datetime(values)
    except _REFUSALS:
        frame[column], bad = to_dates(values)
        for number in bad.nonzero()[0]:
            reasons.setdefault(int(number), f"{column!r}: {_shown(values[number])} is no date")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
