"""The values of partition keys in a range of a table: which rows have equal ones.

Values are told apart by type as well (1, True and "1" are three), and what stands for nothing is one value,
None. What has no plain form (a date, a list) is told by its text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mpibatch.inputs.key_batches import pack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INT64 = 1 << 63


class KeyedRows(NamedTuple):
    """The rows of a range by their keys."""

    which: NDArray[np.int64]
    """Of each row, the number of its values in `keys`; -1: it is malformed, and nobody knows."""
    keys: list[bytes]
    """Different values (`key_batches.pack`), in the order of their first appearance."""
    found: list[bool]
    """Of each key: whether the range has such a column."""
    columns: list[str]
    """Names that are there, for messages."""
    starts: NDArray[np.int64] | None = None
    """Where the records begin in the file, if that was looked for."""


def by_columns(
    columns: Sequence[Sequence[Any] | NDArray[Any]], rows: int
) -> tuple[NDArray[np.int64], list[bytes]]:
    """Of each row the number of its values, and the different ones. `columns`: of equal length, one a key."""
    import numpy as np
    import pandas as pd

    which = np.zeros(rows, np.int64)
    for values in columns:
        codes, uniques = pd.factorize(_array(values))
        which = which * (len(uniques) + 1) + codes + 1
        which = pd.factorize(which)[0].astype(np.int64)  # Small again, so that no product is too large.
    firsts = first_appearances(which)
    return unified(which, [pack([plain(values[row]) for values in columns]) for row in firsts.tolist()])


def first_appearances(which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each number comes first, if they are numbered in the order of first appearance."""
    import numpy as np

    return np.flatnonzero(np.diff(np.maximum.accumulate(which), prepend=-1))


def by_packed(keys: list[bytes]) -> tuple[NDArray[np.int64], list[bytes]]:
    """The same for values that were packed one row after the other."""
    import numpy as np

    numbers: dict[bytes, int] = {}
    which = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(keys))
    return which, list(numbers)


def unified(which: NDArray[np.int64], keys: list[bytes]) -> tuple[NDArray[np.int64], list[bytes]]:
    """Where values only look different (0.0 and -0.0, NaN and null), they get one number."""
    import numpy as np

    numbers: dict[bytes, int] = {}
    new = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    return (which if len(numbers) == len(keys) else new[which]), list(numbers)


def plain(value: Any) -> Any:
    """A value as it stands in `context.partition_key_value`: None, bool, int, float or str."""
    if not isinstance(value, str | bytes | bool | int | float | list | tuple | dict | None):
        item = getattr(value, "item", None)
        value = item() if item is not None and getattr(value, "ndim", None) == 0 else value
    match value:
        case None | bool():
            return value
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case int():
            return value if -_INT64 <= value < 2 * _INT64 else str(value)
        case float():
            return None if math.isnan(value) else float(value) + 0.0
        case list() | tuple() | dict():
            return msgspec.json.encode(value).decode()
    return None if _is_missing(value) else str(value)


def with_gaps(which: NDArray[np.int64], bad: Sequence[int]) -> NDArray[np.int64]:
    """The numbers of all rows, where those of malformed rows were left out: -1."""
    import numpy as np

    if not bad:
        return which
    whole = np.full(len(which) + len(bad), -1, np.int64)
    good = np.ones(len(whole), np.bool_)
    good[np.asarray(bad)] = False
    whole[good] = which
    return whole


def _is_missing(value: Any) -> bool:
    """NaT, NA, and what else is not equal to itself."""
    try:
        return bool(value != value)  # noqa: PLR0124
    except (TypeError, ValueError):
        return True  # pandas.NA does not say.


def _array(values: Sequence[Any] | NDArray[Any]) -> Any:
    import numpy as np

    if not isinstance(values, list):
        return values
    found = np.empty(len(values), object)
    found[:] = values
    return found
