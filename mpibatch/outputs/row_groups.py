"""Where the row groups of a Parquet file end: by a rule on its rows in their order, whatever they come in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

GROUP_BYTES = 64 << 20
"""A row group ends with the row that fills so many bytes, as `row_bytes` counts them."""
GROUP_ROWS = 500_000
"""Or with this row, whichever comes first."""
_OFFSET_BYTES = 4


class RowGroups:
    """Takes tables of one schema and gives row groups; holds less than one."""

    def __init__(self) -> None:
        self._held: list[pa.Table] = []
        self._rows = 0
        self._bytes = 0

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """The groups that are complete with it, each as one piece. Go through all of them."""
        import numpy as np

        filled = np.cumsum(row_bytes(table))
        start = taken = 0
        while start < table.num_rows:
            by_bytes = int(np.searchsorted(filled, taken + GROUP_BYTES - self._bytes)) + 1
            stop = min(by_bytes, start + GROUP_ROWS - self._rows)
            if stop > table.num_rows:
                break
            self._held.append(table.slice(start, stop - start))
            start, taken = stop, int(filled[stop - 1])
            yield self._take()
        if start < table.num_rows:
            self._held.append(table.slice(start))
            self._rows += table.num_rows - start
            self._bytes += int(filled[-1]) - taken

    def rest(self) -> pa.Table | None:
        """What is held: the last group. None if nothing is."""
        return self._take() if self._held else None

    def _take(self) -> pa.Table:
        import pyarrow as pa

        group = pa.concat_tables(self._held).combine_chunks()
        self._held, self._rows, self._bytes = [], 0, 0
        return group


def row_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Bytes of each row: those of its values, and a few for each that varies in length."""
    import numpy as np

    sizes = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        start = 0
        for chunk in column.chunks:
            sizes[start : start + len(chunk)] += _value_bytes(chunk)
            start += len(chunk)
    return sizes


def _value_bytes(array: Any) -> Any:
    """Of each value; a number where all are equal. A value that is missing counts as an empty one."""
    from pyarrow import compute, types

    kind = array.type
    if types.is_struct(kind):
        return sum((_value_bytes(field) for field in array.flatten()), start=1)
    if types.is_map(kind):
        return _list_bytes(array.cast(_list_of_pairs(kind)))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _list_bytes(array)
    if types.is_null(kind):
        return 1
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:  # Text or bytes.
        return _numbers(compute.binary_length(array)) + _OFFSET_BYTES


def _list_bytes(array: Any) -> NDArray[np.int64]:
    import numpy as np
    from pyarrow import compute

    inner = array.flatten()  # Without what lies below lists that are missing.
    filled = np.zeros(len(inner) + 1, np.int64)
    filled[1:] = np.cumsum(np.broadcast_to(_value_bytes(inner), len(inner)))
    ends = np.cumsum(_numbers(compute.list_value_length(array)))
    return np.diff(filled[ends], prepend=0) + _OFFSET_BYTES


def _list_of_pairs(kind: Any) -> pa.DataType:
    import pyarrow as pa

    return pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))


def _numbers(lengths: Any) -> NDArray[np.int64]:
    import numpy as np

    numbers: NDArray[np.int64] = lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers
