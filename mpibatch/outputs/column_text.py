"""Columns to the texts of their cells, as `DataFrame.to_csv` writes them, but a whole column at a time.

Most of the time that `to_csv` takes goes into the digits of floats. A JSON encoder finds the same digits, the
shortest that read back as the same number, several times faster than `repr`; only its exponents look otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from csv import writer
from io import StringIO
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_ENCODE = msgspec.json.Encoder().encode
_PLAIN_LOW, _PLAIN_HIGH = 1e-4, 1e16
"""Floats between these are written without an exponent, by `repr` and by the encoder."""
_YEARS = ("1000-01-01", "9999-12-31")
"""Dates between these have years of four digits in any notation."""

UNITS = {"date": "D", "seconds": "s", "millis": "ms", "micros": "us", "nanos": "ns"}
"""How finely datetimes are written, by numpy's name of the unit; the coarsest first."""
_IN_A_DAY = {"D": 1, "s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


class Style:
    """How cells are set apart: of the settings of `to_csv`, those that concern every cell."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.sep: str = settings.get("sep", ",")
        self.quotechar: str = settings.get("quotechar", '"')
        self.line_end: str = settings.get("lineterminator", "\n")
        self._odd = self._odd_characters()
        self.missing = self.quoted([settings.get("na_rep", "")])[0]

    def _odd_characters(self) -> list[str]:
        """Those for which Python's csv module quotes a cell: not the same in all its versions, so it is asked."""
        odd = []
        for candidate in (self.sep, self.quotechar, "\r", "\n"):
            line = StringIO(newline="")
            form: Any = {"delimiter": self.sep, "quotechar": self.quotechar, "lineterminator": self.line_end}
            writer(line, **form).writerow([candidate, "x"])
            if not line.getvalue().startswith(f"{candidate}{self.sep}"):
                odd.append(candidate)
        return odd

    def quoted(self, cells: list[str]) -> list[str]:
        """The cells, in quotes where that is needed. TypeError if one is no text."""
        everything = "".join(cells)
        found = [mark for mark in self._odd if mark in everything]
        if not found:
            return cells
        quote, double = self.quotechar, self.quotechar * 2
        if len(found) == 1 and quote not in found:
            mark = found[0]
            return [f"{quote}{cell}{quote}" if mark in cell else cell for cell in cells]
        needs_quotes = re.compile(f"[{re.escape(''.join(found))}]").search
        return [
            f"{quote}{cell.replace(quote, double)}{quote}" if needs_quotes(cell) else cell for cell in cells
        ]


def column_text(values: Any, style: Style, rows_at_a_time: int) -> list[str] | None:
    """The cells of an array of numpy or pandas; None if its kind is not known here.

    Datetimes are written as finely as some value among `rows_at_a_time` rows needs it.
    """
    import numpy as np
    import pandas as pd

    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        match dtype.kind:
            case "f":
                return float_text(values, style.missing)
            case "i" | "u":
                return integer_text(values)
            case "b":
                return np.where(values, "True", "False").tolist()  # type: ignore[no-any-return]
            case "O":
                return _object_text(values, pd.isna(values), style)
            case "M":
                return _datetimes(values, style, rows_at_a_time)
        return None
    if isinstance(dtype, pd.CategoricalDtype):
        return _category_text(values, style)
    if dtype.kind in "fmMc" or isinstance(dtype, pd.IntervalDtype | pd.PeriodDtype | pd.SparseDtype):
        return None
    return _object_text(np.asarray(values.astype(object)), pd.isna(values), style)


def integer_text(values: NDArray[Any]) -> list[str]:
    """Their digits."""
    return _ENCODE(values.tolist())[1:-1].decode().split(",") if len(values) else []


def float_text(values: NDArray[Any], missing: str) -> list[str]:
    """As `repr` has them; those narrower than float64 as numpy has them, which are fewer digits."""
    import numpy as np

    if values.dtype.itemsize != 8:
        cells: list[str] = values.astype(str).tolist()
        return put(cells, np.isnan(values), missing)
    if not len(values):
        return []
    size = np.abs(values)
    plain = ((size >= _PLAIN_LOW) & (size < _PLAIN_HIGH)) | (size == 0)
    cells = _ENCODE(values.tolist())[1:-1].decode().split(",")
    if not plain.all():
        for place in np.flatnonzero(~plain).tolist():
            cells[place] = repr(float(values[place]))
        put(cells, np.isnan(values), missing)
    return cells


def put(cells: list[Any], mask: NDArray[np.bool_], text: Any) -> list[Any]:
    """`text` where the mask is set, in place."""
    if mask.any():
        for place in mask.nonzero()[0].tolist():
            cells[place] = text
    return cells


def _object_text(values: NDArray[Any], missing: NDArray[np.bool_], style: Style) -> list[str]:
    cells: list[Any] = values.tolist()
    put(cells, missing, "")
    try:
        cells = style.quoted(cells)
    except TypeError:  # Joining them has found one that is no text: all others go through str().
        cells = style.quoted([cell if isinstance(cell, str) else str(cell) for cell in cells])
    return put(cells, missing, style.missing)


def _category_text(values: Any, style: Style) -> list[str] | None:
    """Each category is written once."""
    import numpy as np

    categories = values.categories
    if categories.dtype.kind in "mM":
        return None  # These are written alike in a column, by rules of their own.
    names = np.asarray(categories.astype(object))
    texts = _object_text(names, np.zeros(len(names), bool), style)
    # Code -1, a missing value, counts from the end.
    return list(map([*texts, style.missing].__getitem__, values.codes.tolist()))


def _datetimes(values: NDArray[Any], style: Style, rows_at_a_time: int) -> list[str] | None:
    import numpy as np

    cells: list[str] = []
    for first in range(0, len(values), rows_at_a_time):
        some = values[first : first + rows_at_a_time]
        texts = datetime_text(some, fineness(some))
        if texts is None:
            return None
        cells += put(style.quoted(texts), np.isnat(some), style.missing)
    return cells


def fineness(values: NDArray[Any]) -> str:
    """The coarsest of `UNITS` that shows all of these datetimes as they are; "date" if all are missing."""
    import numpy as np

    unit = np.datetime_data(values.dtype)[0]
    ticks = values[~np.isnat(values)].view(np.int64)
    for name, coarser in UNITS.items():
        if coarser == unit or not (ticks % (_IN_A_DAY[unit] // _IN_A_DAY[coarser])).any():
            return name
    raise AssertionError(unit)


def datetime_text(values: NDArray[Any], fine: str) -> list[str] | None:
    """Date and time with a space between them, as finely as said; None if a year has not four digits."""
    import numpy as np

    given = values[~np.isnat(values)]
    if len(given):
        # As days: the last year of four digits is more nanoseconds than there are numbers for.
        first, last = given.min().astype("M8[D]"), given.max().astype("M8[D]")
        if first < np.datetime64(_YEARS[0]) or last > np.datetime64(_YEARS[1]):
            return None
    unit: Any = UNITS[fine]
    texts = np.datetime_as_string(values, unit=unit, casting="unsafe")
    if fine != "date" and len(given):
        # A text is a row of 32-bit characters: the one after the date is a "T".
        texts.view(np.uint32).reshape(len(texts), -1)[:, 10] = ord(" ")
    return texts.tolist()  # type: ignore[no-any-return]


def column_text_type(column: pd.Series[Any]) -> str:
    """How `to_csv` writes the column, in the words of `core.promotion`: null, int, float, of `UNITS`, or other.

    Where there are no rows it is null. Floats are floats even if all of them are missing, as they are to
    pandas: then it does not matter in which mini-batch the missing ones are.
    """
    import numpy as np

    dtype = column.dtype
    if not len(column):
        return "null"
    # Of nullable numbers too.
    if dtype.kind in "iu" and "int" in str(dtype).lower():
        return "int"
    if dtype.kind == "f":
        return "float"
    if column.isna().all():
        return "null"
    if dtype.kind == "M" and isinstance(dtype, np.dtype):
        return fineness(column.to_numpy())
    return "other"


def joined(columns: Sequence[list[str]], style: Style) -> str:
    """Lines of the columns' cells."""
    if len(columns) == 1:
        # A line without anything would be no row.
        lines = [cell or style.quotechar * 2 for cell in columns[0]]
    else:
        lines = list(map(style.sep.join, zip(*columns, strict=True)))
    lines.append("")  # So that the last line ends too.
    return style.line_end.join(lines)
