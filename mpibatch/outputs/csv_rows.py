"""The csv format: the form of the rows and their lines, without a header; and how lines are joined in one file.

Text shows how a column was written: 1 or 1.0, a date with or without its time. So the form says it of each
column, and at the end the lines of those mini-batches that have it in a narrower way are promoted, as if all
rows had been one DataFrame. Where that would need what the text no longer shows, each value stands as its own
mini-batch wrote it: datetimes of a time zone and durations are written in full, each by itself; a column that
holds numbers or dates in some mini-batches and text in others is text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from csv import writer
from io import StringIO
from typing import TYPE_CHECKING, Any

from mpibatch.core.forms import Column, Form, encode_form
from mpibatch.core.to_csv import CSV_DEFAULTS as DEFAULTS
from mpibatch.outputs.column_text import column_text_type, datetime_text, put
from mpibatch.outputs.encoding import (
    Keys,
    NotEncodable,
    Rows,
    as_frame,
    checked,
    collect,
    column_names,
    shown_surrogate,
)
from mpibatch.outputs.frame_text import FrameText
from mpibatch.outputs.input_key import keyed_frame, positions
from mpibatch.outputs.promote_csv import promote

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULTS", "CsvEncoder", "header", "promote"]


class CsvEncoder:
    """Makes fragments of rows with columns. `append_row`: keyword arguments of `DataFrame.to_csv`."""

    def __init__(self, append_row: Mapping[str, Any], add_input_key: bool) -> None:
        self._settings = {**DEFAULTS, **append_row}
        self._keyed = add_input_key
        ours = ("columns", "index_label")
        lines = {key: value for key, value in self._settings.items() if key not in ours}
        self._text = FrameText({**lines, "header": False, "index": False})

    def collect(self, result: object) -> Any:
        """As `outputs.encoding.collect`."""
        return collect(result, whole=True)

    def encode(self, collected: Any, items: int, keys: Keys) -> Rows:
        """The rows of what `collect` gave. Raises NotEncodable."""
        try:
            frame = as_frame(collected)
            if not len(frame.columns) and not len(frame):
                return Rows(returned=0)
            frame = self._chosen(frame, collected, items, keys)
            form, lines = self._written(frame)
        except NotEncodable:
            raise
        except UnicodeEncodeError as error:
            raise NotEncodable(f"what run() returned cannot be written: {shown_surrogate(error)}") from error
        except Exception as error:
            raise NotEncodable(
                f"what run() returned cannot be written as CSV: {type(error).__name__}: {error}"
            ) from error
        rows = Rows(returned=len(frame), rows=len(frame), fragment=form + lines, header=len(form))
        return checked(rows, items)

    def _chosen(self, frame: pd.DataFrame, collected: Any, items: int, keys: Keys) -> pd.DataFrame:
        """The columns of the settings, behind those of the index and of the input's key."""
        chosen = self._settings.get("columns")
        if chosen is not None:
            frame = frame.loc[:, chosen]
        if not len(frame.columns):
            raise NotEncodable(f"run() returned {len(frame)} rows without a column, which CSV cannot hold")
        if self._settings["index"]:
            frame = _with_index(frame, self._settings.get("index_label"))
        if self._keyed:
            given = keys()
            labelled = given.labelled and given.rows is not None
            frame = keyed_frame(frame, positions(collected, items, labelled), given)
        names = column_names(frame)
        aliases = self._settings["header"]
        if not isinstance(aliases, bool) and len(aliases) != len(names):
            raise NotEncodable(
                f"append_row.header has {len(aliases)} names, but the rows that run() returned have "
                f"{len(names)} columns: {', '.join(map(repr, names))}"
            )
        return frame

    def _written(self, frame: pd.DataFrame) -> tuple[bytes, bytes]:
        """Form and lines."""
        columns: list[Column] = []
        written = frame.copy(deep=False)
        dates_as_they_are = self._settings.get("date_format") is not None
        for place, name in enumerate(column_names(frame)):
            kind, cells = _typed(frame.iloc[:, place], dates_as_they_are)
            columns.append(Column(name, kind))
            if cells is not None:
                written.isetitem(place, cells)
        text = "".join(self._text.parts(written)) if len(frame) else ""
        return encode_form(Form("csv", tuple(columns))), text.encode("utf-8", "surrogateescape")


def _with_index(frame: pd.DataFrame, label: Any) -> pd.DataFrame:
    if frame.index.nlevels > 1:
        raise NotEncodable(
            "the index of the DataFrame that run() returned has several levels; make columns of them with "
            "reset_index(), or set append_row: {index: false}"
        )
    first = label[0] if isinstance(label, list) and label else label
    name = first if isinstance(first, str) else "" if frame.index.name is None else str(frame.index.name)
    with_index = frame.copy(deep=False)
    with_index.insert(0, name, frame.index.array)
    return with_index


def _typed(column: pd.Series[Any], dates_as_they_are: bool) -> tuple[str, Any]:
    """How the column is written, in the words of `core.promotion`; and its cells if pandas is not to decide."""
    import numpy as np
    import pandas as pd

    kind = column_text_type(column)
    if kind in ("date", "seconds", "millis", "micros", "nanos"):
        if dates_as_they_are:
            return "other", None
        values = column.to_numpy()
        texts = datetime_text(values, kind)
        if texts is None:
            raise NotEncodable(f"column {column.name!r} has a year that is not between 1000 and 9999")
        return kind, pd.Series(put(texts, np.isnat(values), None), column.index, dtype=object)
    if column.dtype.kind in "mM" and not dates_as_they_are:
        missing = column.isna().to_numpy()
        return kind, pd.Series(put(list(map(str, column)), missing, None), column.index, dtype=object)
    return kind, None


def header(merged: Form, settings: Mapping[str, Any]) -> bytes:
    """The first line of the file; empty if the settings want none."""
    given = {**DEFAULTS, **settings}
    names: Sequence[str] = [column.name for column in merged.columns]
    if given["header"] is False or not names:
        return b""
    if given["header"] is not True:
        names = given["header"]
    line = StringIO(newline="")
    quoting, escape = given.get("quoting", 0), given.get("escapechar")
    form: dict[str, Any] = {
        "delimiter": given["sep"],
        "lineterminator": given.get("lineterminator", "\n"),
        "quoting": quoting,
        # As pandas has it: what is never quoted has no quotes to be escaped.
        "quotechar": None if quoting == 3 and escape is None else given.get("quotechar", '"'),
        "doublequote": given.get("doublequote", True),
        "escapechar": escape,
    }
    writer(line, **form).writerow(names)
    return line.getvalue().encode("utf-8", "surrogateescape")
