"""What the plan of tables and archives stores of files, mini-batches and members, as bytes. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from mpibatch.inputs.archives import FoundMembers
from mpibatch.inputs.survey import Cut
from mpibatch.runtime.table_layout import FAILED, MINI_BATCH, WHOLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PlannedFile(msgspec.Struct, frozen=True):
    """A file of a table or an archive, as the plan notes it."""

    path: bytes
    """Where it is read: of an unpacked file, where it was unpacked to. It is no part of the fingerprint."""
    name: bytes
    """What people know it by: where the user has put it."""
    size: int
    """Of the file called `name`, as `mtime_ns`: both are part of the fingerprint."""
    mtime_ns: int


def flags_of(cut: Cut) -> int:
    """Of a file, as it is cut."""
    return WHOLE * cut.whole | FAILED * (cut.error is not None)


def put(texts: bytearray, text: bytes) -> tuple[int, int]:
    """Appends a text; where it begins, and its length."""
    begin = len(texts)
    texts += text
    return begin, len(text)


def mini_batch_records(cuts: Sequence[Cut], first: int) -> tuple[bytes, bytes]:
    """The mini-batches of some files, the first of which is number `first` of its input: records and rows."""
    import numpy as np

    counts = np.array([len(cut.rows) for cut in cuts], np.int64)
    for cut, count in zip(cuts, counts):
        if len(cut.starts) != count + 1 and (count or len(cut.starts) > 1):
            raise ValueError(f"{len(cut.starts)} starts for {count} mini-batches")
    rows = np.concatenate([cut.rows for cut in cuts]).astype(np.int64, copy=False)
    if len(rows) and not 0 < rows.min() <= rows.max() < 1 << 32:
        raise ValueError("a mini-batch without rows, or with four billions of them")
    before = np.concatenate(([0], np.cumsum(rows)))
    of_file = np.concatenate(([0], np.cumsum(counts)))[:-1]
    dtype = np.dtype([("start", "<i8"), ("stop", "<i8"), ("row", "<i8"), ("file", "<u4")])
    assert dtype.itemsize == MINI_BATCH.size
    records = np.empty(len(rows), dtype)
    records["start"] = np.concatenate([cut.starts[:-1] for cut in cuts])
    records["stop"] = np.concatenate([cut.starts[1:] for cut in cuts])
    records["row"] = before[:-1] - np.repeat(before[of_file], counts)
    records["file"] = np.repeat(np.arange(first, first + len(cuts)), counts)
    return records.tobytes(), rows.astype(np.uint32).tobytes()


# Archives


def one_failed() -> FoundMembers:
    """What stands for the members of an archive that cannot be read: one without a name."""
    import numpy as np

    return FoundMembers(b"", np.zeros(1, np.int64), np.zeros(1, np.int64))


def archive_cuts(surveyed: Sequence[FoundMembers], size: int) -> Iterator[Cut]:
    """Starts and stops count the members of all archives of the input."""
    import numpy as np

    first = 0
    for one in surveyed:
        count = len(one.sizes) if one.error is None else 1
        starts = np.append(np.arange(0, count, size, dtype=np.int64), count) + first
        yield Cut(starts, np.diff(starts), whole=one.error is not None, error=one.error)
        first += count


def names(found: Sequence[FoundMembers], size: int, index: array[int]) -> Iterator[bytes]:
    """The names of all members; fills the index with where those of each mini-batch begin."""
    import numpy as np

    begin = 0
    for one in found:
        if not len(one.sizes):
            continue
        names = one.names + b"\0"
        ends: NDArray[np.int64] = np.flatnonzero(np.frombuffer(names, np.uint8) == 0)
        if len(ends) != len(one.sizes) or len(ends) != len(one.offsets):
            raise ValueError(f"{len(ends)} names, {len(one.offsets)} offsets, {len(one.sizes)} sizes")
        index.append(begin)
        index.extend((begin + 1 + ends[size - 1 : -1 : size]).tolist())
        begin += len(names)
        yield names
    index.append(begin)


def pairs(one: FoundMembers) -> bytes:
    """Where the bytes of each member begin, and how many they are."""
    import numpy as np

    return np.stack((one.offsets, one.sizes), axis=1).astype("<i8").tobytes()
