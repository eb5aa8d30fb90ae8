"""Any range of rows of one Parquet file, without decoding a row group again for each of its mini-batches.

A row group that is small when decoded is kept as a whole. Of a large one, a stream of batches is kept that
goes on where the last range has ended: memory does not grow with the size of the row group.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from mpibatch.inputs.seen import SeenFiles

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_KEPT = 64 * 2**20
"""Bytes of a decoded row group that is kept."""
_BATCH = 8 * 2**20
"""Bytes of a batch of a stream, about."""
_BUFFERS = 16 * 2**20
"""Bytes that are read ahead, of all columns together."""
_SURELY_SMALL = 16 * 2**20, 131_072
"""Stored bytes and rows up to which a row group is decoded at once, without a look at how large it becomes."""
_SAMPLE = 1024
"""Rows that tell how large a row is when it is decoded."""


class RowGroups:
    """One open file. Raises what pyarrow raises: ArrowException, OSError; Unreadable where it has changed."""

    def __init__(self, path: bytes, names: Sequence[str], seen: SeenFiles | None = None) -> None:
        """`names`: the columns to read; `seen`: what is known of files that were open before."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._names = list(names)
        self._path = path
        self._seen = seen or SeenFiles()
        self._source = pa.OSFile(path)
        try:
            metadata = pq.read_metadata(self._source)
            there = set(metadata.schema.to_arrow_schema().names)
            for name in names:
                if name not in there:
                    raise OSError(f"column {name} is not there")
            # No read ahead of a whole row group, and pages of a column through a buffer of this size.
            buffer = max(2**14, min(2**20, _BUFFERS // max(1, metadata.num_columns)))
            self._file = pq.ParquetFile(self._source, metadata=metadata, pre_buffer=False, buffer_size=buffer)
        except BaseException:
            self._source.close()
            raise
        self._metadata = metadata
        self.rows: int = metadata.num_rows
        counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._begins = [0, *accumulate(counts)]
        paths = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
        self._leaves = _leaves(paths, names)
        self._row_bytes = 0.0
        """Of a decoded row, the most that was seen; 0: none has been."""
        self._kept: tuple[int, pa.Table] | None = None
        self._stream: _Stream | None = None

    def close(self) -> None:
        self._kept = self._stream = None
        self._source.close()

    def read(self, start: int, stop: int, unit: int) -> pa.Table:
        """The rows [start, stop), which must be there. `unit`: the rows that are mostly asked for at a time."""
        import pyarrow as pa

        parts: list[pa.Table] = []
        group = bisect_right(self._begins, start) - 1
        while not parts or self._begins[group] < stop:
            begin, end = self._begins[group : group + 2]
            if begin < end:
                parts.append(self._of_group(group, max(start, begin) - begin, min(stop, end) - begin, unit))
            group += 1
        self._seen.check(self._path, self._source.fileno())
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts)

    def _of_group(self, group: int, start: int, stop: int, unit: int) -> pa.Table:
        """Rows [start, stop) of one row group, counted from its first."""
        if self._kept is not None and self._kept[0] == group:
            return self._kept[1].slice(start, stop - start)
        if self._stream is None or self._stream.group != group or not self._stream.reaches(start):
            self._kept = self._stream = None  # Before the next is made, so that memory never holds two.
            if self._is_small(group):
                return self._whole(group).slice(start, stop - start)
            fitting = max(1, int(_BATCH / self._row_bytes))
            # Where batches are as long as what is asked for, nothing has to be put together.
            rows = fitting // unit * unit if unit <= fitting else fitting
            self._stream = _Stream(group, self._batches(group, rows))
        return self._stream.read(start, stop)

    def _whole(self, group: int) -> pa.Table:

        table = self._file.read_row_group(group, columns=self._names, use_threads=False).select(self._names)
        self._row_bytes = max(self._row_bytes, table.nbytes / max(1, table.num_rows))
        if table.nbytes <= _MOST_KEPT:
            self._kept = (group, table)
        return table

    def _batches(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        for batch in self._file.iter_batches(
            rows, row_groups=[group], columns=self._names, use_threads=False
        ):
            yield batch.select(self._names)

    def _is_small(self, group: int) -> bool:
        """Whether the decoded row group is small enough to be kept."""
        rows = self._metadata.row_group(group).num_rows
        stored = self._stored(group)
        if self._row_bytes == 0:
            if stored <= _SURELY_SMALL[0] and rows <= _SURELY_SMALL[1]:
                return True
            sample = next(self._batches(group, min(rows, _SAMPLE)))
            self._row_bytes = max(1.0, sample.nbytes / sample.num_rows)
        self._row_bytes = max(self._row_bytes, stored / rows)
        return bool(rows * self._row_bytes <= _MOST_KEPT)

    def _stored(self, group: int) -> int:
        """Bytes of the columns in the row group, uncompressed, but maybe encoded in a shorter way."""
        columns = self._metadata.row_group(group)
        return sum(columns.column(leaf).total_uncompressed_size for leaf in self._leaves)


def _leaves(paths: Sequence[str], names: Sequence[str]) -> list[int]:
    """Which columns of the file, by their paths through nested types, are parts of these."""
    wanted = set(names)
    return [
        number
        for number, path in enumerate(paths)
        if any(above in wanted for above in accumulate(path.split("."), "{}.{}".format))
    ]


class _Stream:
    """The batches of one row group, in order. The last ones are kept: a second try of a mini-batch needs them."""

    def __init__(self, group: int, batches: Iterator[pa.RecordBatch]) -> None:
        self.group = group
        self._batches = batches
        self._kept: list[pa.RecordBatch] = []
        self._first = 0
        """Row of the first batch that is kept."""
        self._end = 0
        """Row after the last one."""

    def reaches(self, start: int) -> bool:
        """Whether row `start` is kept, or still to come."""
        return start >= self._first

    def read(self, start: int, stop: int) -> pa.Table:
        import pyarrow as pa

        self._let_go(start)
        while self._end < stop:
            batch = next(self._batches, None)
            if batch is None:
                raise OSError("a row group has fewer rows than the footer says")
            self._kept.append(batch)
            self._end += batch.num_rows
            self._let_go(start)
        return pa.Table.from_batches(self._kept).slice(start - self._first, stop - start)

    def _let_go(self, start: int) -> None:
        """Batches before row `start` are not needed any more."""
        while self._kept and self._first + self._kept[0].num_rows <= start:
            self._first += self._kept.pop(0).num_rows
