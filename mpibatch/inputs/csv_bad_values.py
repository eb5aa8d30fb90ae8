"""Finds the records of a CSV text that hold a value which a declared dtype, or a date, cannot take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpibatch.inputs.csv_reader_form import Form, Naming
from mpibatch.inputs.csv_reader_text import Text, of_bytes
from mpibatch.inputs.dates import to_dates
from mpibatch.inputs.suspects import TooManyFail, failing

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 60
"""Characters of a value in a message."""


def mend_dates(form: Form, naming: Naming, frame: pd.DataFrame, text: Callable[[], Text]) -> pd.DataFrame:
    """Make dates of columns that pandas has left as text: in it, dates of several forms are none.

    Raises ValueError where a value is no date in any way.
    """
    columns = [name for name in form.dates if frame[name].dtype.kind != "M"]
    if not columns or not len(frame):
        return frame
    with text() as again:
        texts = form.texts(again, naming, columns, nulls=True)
    for column in columns:
        dates, bad = to_dates(texts[column])
        if bad.any():
            raise ValueError(f"column {column!r}: {_value(texts[column][bad].iloc[0])} is no date")
        frame[column] = dates
    return frame


def bad_values(form: Form, naming: Naming, data: bytes, rows: int) -> dict[int, str]:
    """Numbers of the records with such a value, and the first of these in words.

    `data` holds `rows` records, in UTF-8, without header and in themselves well-formed. It is left to pandas
    what a dtype takes: of each column the distinct texts are tried, together and in ever smaller parts.
    Raises TooManyFail.
    """
    found: dict[int, str] = {}
    if not rows:
        return found
    if form.dtype is not None:
        texts = form.texts(of_bytes(data), naming, form.columns, nulls=False)
        for column in texts.columns:
            dtype = form.dtype.get(column) if isinstance(form.dtype, dict) else form.dtype
            if dtype is not None and column not in form.dates:
                _add(found, column, texts[column], _refused(form, texts[column], dtype), f"no {dtype}")
    if form.dates:
        texts = form.texts(of_bytes(data), naming, form.dates, nulls=True)
        for column in form.dates:
            _add(found, column, texts[column], to_dates(texts[column])[1].nonzero()[0], "no date")
    return found


def _refused(form: Form, texts: pd.Series[Any], dtype: str) -> Any:
    """Numbers of the rows whose text the dtype does not take."""
    # Sorted, so that texts that are refused for one reason lie together.
    values = sorted(set(texts))
    if form.takes(values, dtype):
        return []
    try:
        numbers = failing(len(values), lambda start, stop: form.takes(values[start:stop], dtype))
    except TooManyFail as error:
        raise TooManyFail(
            f"column {texts.name!r}: more values than can be told one by one are no {dtype}, as"
            f" {_value(values[0])} and {_value(values[-1])}: is that the right dtype for it?"
        ) from error
    return texts.isin([values[number] for number in numbers]).to_numpy().nonzero()[0]


def _add(found: dict[int, str], column: str, texts: pd.Series[Any], numbers: Any, what: str) -> None:
    for number in numbers:
        found.setdefault(int(number), f"column {column!r}: {_value(texts.iloc[number])} is {what}")


def _value(text: object) -> str:
    shown = str(text)
    return repr(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}...")
