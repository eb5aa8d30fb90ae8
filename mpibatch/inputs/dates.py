"""A column of texts becomes dates, and those that are none are told apart."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_MOST_GUESSES = 100


def to_dates(values: pd.Series[Any]) -> tuple[pd.Series[Any], NDArray[np.bool_]]:
    """The values as dates (NaT where there is none), and which of those that are there are no dates.

    The form of the first value that has one counts for all, as in pandas; else, any forms of ISO 8601.
    Where time zones differ the dates are in UTC.
    """
    present = values.notna().to_numpy(dtype=bool)
    form = _form(values[present])
    best: tuple[pd.Series[Any], NDArray[np.bool_]] | None = None
    for form_tried in (form, "ISO8601"):
        dates = _converted(values, form_tried)
        bad = dates.isna().to_numpy(dtype=bool) & present
        if best is None or bad.sum() < best[1].sum():
            best = (dates, bad)
        if not bad.any():
            break
    assert best is not None
    return best


def _form(values: pd.Series[Any]) -> str | None:
    """The form of the first value that has one, e.g. `%d.%m.%Y`; None: pandas finds each value's own."""
    from pandas.tseries.api import guess_datetime_format

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in values.iloc[:_MOST_GUESSES]:
            form = guess_datetime_format(value) if isinstance(value, str) else None
            if form is not None:
                return form
    return None


def _converted(values: pd.Series[Any], form: str | None) -> pd.Series[Any]:
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _series(pd.to_datetime(values, errors="coerce", format=form))
        except ValueError:  # Time zones differ.
            return _series(pd.to_datetime(values, errors="coerce", format=form, utc=True))


def _series(dates: Any) -> pd.Series[Any]:
    return cast("pd.Series[Any]", dates)
