"""Reads mini-batches of partition keys: their rows may stand in several ranges, also of sorted copies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.inputs.origin import shown
from mpibatch.inputs.sorted_rows import original_rows
from mpibatch.inputs.survey import Batch, Reader
from mpibatch.work import BadItem, Slice, Slices

if TYPE_CHECKING:
    import pandas as pd


def read_parts(reader: Reader, source: Slice | Slices, count: int) -> Batch:
    """The rows of all ranges together. Raises Unreadable where one cannot be read."""
    parts = list(parts_of(source, count))
    if len(parts) == 1:
        return _read(reader, *parts[0])
    data: list[Any] = []
    nothing: Any = None
    bad: list[BadItem] = []
    before = 0
    for part, taken in parts:
        batch = _read(reader, part, taken)
        bad += [msgspec.structs.replace(one, position=before + one.position) for one in batch.bad]
        if len(batch.bad) < taken:
            data.append(batch.data)
        else:
            nothing = batch.data  # Its columns have no types that should count.
        before += taken
    return Batch(_joined(data or [nothing]), bad)


def parts_of(source: Slice | Slices, count: int) -> Iterator[tuple[Slice, int]]:
    """The ranges, and how many rows of each are wanted."""
    if isinstance(source, Slice):
        yield source, count
    else:
        yield from zip(source.parts, source.counts, strict=True)


def row_numbers(part: Slice, count: int) -> Sequence[int]:
    """The numbers that the rows have in the file that people know. Raises Unreadable."""
    first = part.row + part.skip
    return original_rows(part.path, first, count) if part.sorted else range(first, first + count)


def known_name(part: Slice) -> str:
    return os.fsdecode(part.name or part.path)


def _read(reader: Reader, part: Slice, count: int) -> Batch:
    batch = reader.read(part, count)
    if part.sorted and batch.bad:
        numbers = row_numbers(part, count)
        batch.bad = [_renamed(one, part, numbers[one.position]) for one in batch.bad]
    return batch


def _renamed(bad: BadItem, part: Slice, row: int) -> BadItem:
    """What a line of a sorted copy is called there says nothing to anybody: the row of the file instead."""
    message = bad.error.message
    place, colon, reason = message.partition(": ")
    if not (colon and place.startswith(shown(part.name))):
        reason = message
    words = f"{shown(part.name)}, row {row:,}: {reason}"
    return BadItem(bad.position, msgspec.structs.replace(bad.error, message=words))


def _joined(data: list[Any]) -> Any:
    """Frames, lists or mappings of arrays, in one."""
    first = data[0]
    if len(data) == 1:
        return first
    if isinstance(first, list):
        return [row for part in data for row in part]
    if isinstance(first, dict):
        import numpy as np

        return {name: np.concatenate([part[name] for part in data]) for name in first}
    return _joined_frames(data)


def _joined_frames(frames: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd
    from pandas.api.types import union_categoricals

    for column in list(frames[0].columns):
        values = [frame[column] for frame in frames if column in frame.columns]
        if len(values) == len(frames) and all(isinstance(one.dtype, pd.CategoricalDtype) for one in values):
            # Else categories that differ would become plain values.
            dtype = union_categoricals(values, ignore_order=True).dtype
            frames = [frame.assign(**{column: frame[column].astype(dtype)}) for frame in frames]
    return pd.concat(frames, ignore_index=True)
