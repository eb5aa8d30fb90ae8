"""Where Parquet files are cut: row groups are divided evenly or joined, which decodes each as seldom as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def cut_by_size(groups: NDArray[np.int64], file_bytes: int, target_bytes: int) -> NDArray[np.int64]:
    """Where mini-batches of about `target_bytes` begin in row groups of so many rows, and last where the file ends.

    A row group that is larger than a mini-batch is divided into equal parts, which differ by a row at most;
    smaller ones are joined as long as that comes nearer to the target. A row is never divided.
    """
    import numpy as np

    rows = int(groups.sum())
    target = max(1, round(target_bytes * rows / max(1, file_bytes)))
    parts: list[NDArray[np.int64]] = []
    begin = end = 0  # Rows that are joined already, and make no mini-batch yet.
    for group in groups.tolist():
        nearer_without = 2 * (end - begin) + group > 2 * target
        if end > begin and (group > target or nearer_without):
            parts.append(np.array([begin], dtype=np.int64))
            begin = end
        if group > target:
            parts.append(end + _even(group, max(1, round(group / target))))
            begin = end = end + group
        else:
            end += group
    if end > begin:
        parts.append(np.array([begin], dtype=np.int64))
    return np.concatenate([*parts, np.array([rows], dtype=np.int64)])


def _even(rows: int, parts: int) -> NDArray[np.int64]:
    """Where each of so many equal parts of the rows begins."""
    import numpy as np

    least, more = divmod(rows, parts)  # Not k * rows // parts, which could overflow.
    numbers = np.arange(parts, dtype=np.int64)
    return numbers * least + np.minimum(numbers, more)
