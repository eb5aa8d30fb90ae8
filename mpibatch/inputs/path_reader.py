"""Adds the columns of a file's path to what the reader of its format reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mpibatch.core.tables import Hdf5Options, JsonlOptions, TableOptions
from mpibatch.inputs.origin import shown
from mpibatch.inputs.path_values import Value, dtypes_of_paths, series, twice, values_of
from mpibatch.inputs.survey import Batch, Reader, Unreadable
from mpibatch.work import BadItem, ErrorReport, Slice

if TYPE_CHECKING:
    import pandas as pd


class PathReader:
    """`options` are those of the input, `reader` is that of the files' own columns."""

    def __init__(self, reader: Reader, options: TableOptions) -> None:
        self._reader = reader
        self._options = options
        self._dtypes = dtypes_of_paths(options)
        self._order = None if isinstance(options, Hdf5Options) else options.columns

    def read(self, source: Slice, count: int) -> Batch:
        """The rows with the columns of the source's path. Raises Unreadable."""
        path = source.name or source.path
        values = values_of(self._options, path)
        if self._order is not None:
            values = {name: value for name, value in values.items() if name in self._order}
        batch = self._reader.read(source, count)
        if isinstance(self._options, JsonlOptions):
            batch = _without_own(batch, count, values, self._options, path)
        match batch.data:
            case list() as rows:
                batch.data = self._records(rows, values)
            case dict() as arrays:
                self._check_free(arrays, values, path)
                batch.data = self._arrays(arrays, values, count - len(batch.bad))
            case frame:
                self._check_free(frame.columns, values, path)
                batch.data = self._frame(frame, values)
        return batch

    def close(self) -> None:
        self._reader.close()

    def _check_free(self, there: Collection[Any], names: Collection[str], path: bytes) -> None:
        for name in names:
            if name in there:
                raise Unreadable(f"{shown(path)}: {twice(name, self._options)}")

    def _frame(self, frame: pd.DataFrame, values: Mapping[str, Value]) -> pd.DataFrame:
        for name, value in values.items():
            column = series([value], self._dtypes.get(name)).repeat(len(frame)).array
            place = 0 if name == self._options.path_column else len(frame.columns)
            frame.insert(place, name, column)
        if self._order is None:
            return frame
        labels = {str(label): label for label in frame.columns}  # Those that nobody has named are numbers.
        return frame[[labels[name] for name in self._order]]

    def _records(self, rows: list[dict[str, Any]], values: Mapping[str, Value]) -> list[dict[str, Any]]:
        # As JSON has times.
        plain = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
        }
        before, behind = self._split(plain)
        order = self._order
        if order is None:
            return [{**before, **row, **behind} for row in rows]
        whole = [{**row, **plain} for row in rows]
        return [{name: row[name] for name in order if name in row} for row in whole]

    def _arrays(self, arrays: dict[str, Any], values: Mapping[str, Value], rows: int) -> dict[str, Any]:
        import numpy as np

        constants = {
            name: np.full(rows, value, dtype="datetime64[s]" if isinstance(value, datetime) else object)
            for name, value in values.items()
        }
        before, behind = self._split(constants)
        return {**before, **arrays, **behind}

    def _split(self, columns: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Those in front of the files' own, and those behind."""
        first = self._options.path_column
        before = {name: column for name, column in columns.items() if name == first}
        return before, {name: column for name, column in columns.items() if name != first}


def _without_own(
    batch: Batch, count: int, names: Collection[str], options: TableOptions, path: bytes
) -> Batch:
    """Lines that have such a column of their own are bad: each has its own columns, so they cost no other one."""
    data = batch.data
    if isinstance(data, list):
        # A null is no value, as in a frame.
        having = [next((name for name in names if row.get(name) is not None), None) for row in data]
        data = [{name: value for name, value in row.items() if name not in names} for row in data]
    else:
        own = [name for name in names if name in data.columns]
        if not own:
            return batch
        there = data[own].notna()
        having = [next((name for name, has in zip(own, row) if has), None) for row in there.to_numpy()]
        data = data.drop(columns=own)
    good = [number for number, name in enumerate(having) if name is None]
    if len(good) < len(having):
        data = [data[number] for number in good] if isinstance(data, list) else data.iloc[good]
        data = data if isinstance(data, list) else data.reset_index(drop=True)
    return Batch(data, sorted([*batch.bad, *_bad(having, batch.bad, count, options, path)], key=_position))


def _bad(
    having: Sequence[str | None], bad: Sequence[BadItem], count: int, options: TableOptions, path: bytes
) -> list[BadItem]:
    others = {one.position for one in bad}
    positions = [position for position in range(count) if position not in others]
    return [
        BadItem(position, ErrorReport("BadRecord", f"{shown(path)}: {twice(name, options)}"))
        for position, name in zip(positions, having, strict=True)
        if name is not None
    ]


def _position(bad: BadItem) -> int:
    return bad.position
