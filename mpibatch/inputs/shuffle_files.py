"""Writes the rows of a segment of a table in another order, to a file that the table's own reader can read.

A file appears whole, or not at all, also after a power cut; beside it the original numbers of its rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions
from mpibatch.inputs.csv_encoding import BYTE_ORDER_MARK, is_utf8
from mpibatch.inputs.csv_exact import first_record
from mpibatch.inputs.key_starts import bytes_of, dialect, record_starts
from mpibatch.inputs.new_files import aside, writing
from mpibatch.inputs.origin import shown
from mpibatch.inputs.sorted_rows import rows_file
from mpibatch.inputs.survey import Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

_HEAD = 1 << 20
_ROW_GROUPS = 32
"""Row groups of a sorted Parquet file: reading a key decodes those that it lies in."""
_WRITTEN = 1 << 16
"""Records that are written at a time."""


def sorted_lines(
    options: CsvOptions | JsonlOptions, parts: list[Slice], order: Numbers, target: bytes
) -> Numbers:
    """Records as they are. Returns where each begins in the copy, and last where the last one ends."""
    import numpy as np

    whole = Slice(parts[0].path, parts[0].start, parts[-1].stop, parts[0].row, sum(one.rows for one in parts))
    data = bytes_of(whole)
    starts = np.append(record_starts(options, whole, data) - whole.start, len(data))
    head = _head_record(options, whole.path) if isinstance(options, CsvOptions) else b""
    ended = data.endswith((b"\n", b"\r"))
    lengths = np.diff(starts)
    lengths[-1] += not ended
    places = np.cumsum(np.append(len(head), lengths[order]))

    def write(path: bytes) -> None:
        with open(path, "xb") as file:
            file.write(head)
            for first in range(0, len(order), _WRITTEN):
                rows = order[first : first + _WRITTEN]
                spans = zip(starts[rows].tolist(), starts[rows + 1].tolist())
                records = [data[begin:end] for begin, end in spans]
                if not ended and (last := np.flatnonzero(rows == len(order) - 1)).size:
                    records[last[0]] += b"\n"
                file.write(b"".join(records))

    appear(target, write, order + whole.row)
    return places


def _head_record(options: CsvOptions, path: bytes) -> bytes:
    """The file's first record with a newline: a header, or what tells how many columns there are."""
    way = dialect(options)
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            while not (found := first_record(head, way, whole=False)):
                more = file.read(len(head) or 1)
                if not more:
                    found = first_record(head, way, whole=True) or (0, 0)
                    break
                head += more
    except OSError as error:
        raise Unreadable(f"{shown(path)} cannot be read: {error.strerror}") from error
    record = head[found[0] : found[1]]
    if is_utf8(options.encoding):
        record = record.removeprefix(BYTE_ORDER_MARK)
    return record if record.endswith((b"\n", b"\r")) else record + b"\n"


def sorted_parquet(table: pa.Table, order: Numbers, first_row: int, target: bytes) -> None:
    """`table` holds the segment's rows, which begin with `first_row` of the file."""

    def write(path: bytes) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pa.OSFile(path, "wb") as file:
            pq.write_table(
                table.take(pa.array(order)), file, row_group_size=max(1024, len(order) // _ROW_GROUPS)
            )

    appear(target, write, order + first_row)


def sorted_hdf5(options: Hdf5Options, names: list[str], part: Slice, order: Numbers, target: bytes) -> None:
    """Datasets as they are stored, under the same paths."""
    import h5py

    from mpibatch.inputs.hdf5_contents import UNREADABLE, below, open_file, why

    def read() -> list[tuple[str, Any, Any]]:
        try:
            with open_file(part.path) as file:
                group = below(file, options.group)
                found = [(name, below(group, name)) for name in names]
                return [(name, one.dtype, one[part.start : part.stop]) for name, one in found]
        except (*UNREADABLE, AttributeError, TypeError) as error:
            raise Unreadable(f"{shown(part.path)}: {why(error)}") from error

    def write(path: bytes) -> None:
        with h5py.File(path, "x", locking=False) as file:
            group = file.require_group(options.group)
            for name, dtype, values in read():
                group.create_dataset(name.strip("/"), data=values[order], dtype=dtype)

    appear(target, write, order + part.row)


def appear(target: bytes, write: Callable[[bytes], None], rows: Numbers) -> None:
    """Have a file written aside and renamed; what is there already is complete. `rows`: original numbers.

    Raises NoRoom, and what `write` raises for what cannot be read.
    """
    if os.path.exists(target):
        return
    with aside(rows_file(target)) as path, writing(target), open(path, "xb") as file:
        file.write(rows.astype("<i8").tobytes())
    with aside(target) as path, writing(target):
        write(path)
