"""Reads the rows of mini-batches of HDF5 files, in the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core.tables import Hdf5Options
from mpibatch.inputs.hdf5_columns import Hdf5Setup, columns_of
from mpibatch.inputs.hdf5_contents import OTHER, TEXT, UNREADABLE, Dataset, Field, below, open_file, why
from mpibatch.inputs.origin import shown
from mpibatch.inputs.seen import SeenFiles
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_MOST_OPEN = 4
_CACHE = 64 * 2**20
"""Bytes of decompressed chunks that are kept, of all datasets of a file together."""


def open_reader(options: Hdf5Options, setup: bytes) -> Hdf5Reader:
    """`setup` is the survey's."""
    return Hdf5Reader(options, msgspec.msgpack.decode(setup, type=Hdf5Setup).datasets)


class Hdf5Reader:
    """Keeps the last files open, and of the last one what chunks are decompressed."""

    def __init__(self, options: Hdf5Options, datasets: list[Dataset]) -> None:
        self._group = options.group
        self._as_frame = options.as_ == "frame"
        self._datasets = datasets
        self._files: dict[bytes, h5py.File] = {}
        self._seen = SeenFiles()
        self._path: bytes | None = None
        self._open: list[h5py.Dataset] = []
        """The datasets of the file at `_path`."""

    def read(self, source: Slice, count: int) -> Batch:
        """Raises Unreadable where the file is not as the plan has it."""
        try:
            open_ = self._of(source)
            first = source.start + source.skip
            found = [dataset[first : first + count] for dataset in open_]
            self._seen.check(source.path, self._files[source.path].id.get_vfd_handle())
        except UNREADABLE as error:
            self.close()  # What is open may be what is wrong: a further try begins anew.
            raise Unreadable(_words(source.path, why(error))) from error
        except Unreadable:
            self.close()
            raise
        if self._as_frame:
            return Batch(data=_frame(self._datasets, found, count), bad=[])
        arrays = {one.name: _whole(one, values) for one, values in zip(self._datasets, found)}
        return Batch(data=arrays, bad=[])

    def close(self) -> None:
        self._open, self._path = [], None
        while self._files:
            self._files.popitem()[1].close()

    def _of(self, source: Slice) -> list[h5py.Dataset]:
        """The datasets of the file, which are as the plan has them."""
        if self._path != source.path:
            # Those of the other file are closed, and with them go their chunks.
            self._open, self._path = [], None
            group = below(self._file(source.path), self._group)
            self._open = [self._dataset(source.path, group, one) for one in self._datasets]
            self._path = source.path
        rows = min(dataset.shape[0] for dataset in self._open)
        if source.stop > rows or source.stop - source.start != source.rows:
            planned = f"rows {source.start:,} to {source.stop:,} were planned"
            raise Unreadable(_words(source.path, f"it has {rows:,} rows, while {planned}"))
        return self._open

    def _file(self, path: bytes) -> h5py.File:
        file = self._files.pop(path, None)
        if file is None:
            while len(self._files) >= _MOST_OPEN:
                self._files.pop(next(iter(self._files))).close()
            file = open_file(path, max(2**20, _CACHE // len(self._datasets)))
        self._files[path] = file  # The last one in order: the one that was used last.
        return file

    @staticmethod
    def _dataset(path: bytes, group: Any, wanted: Dataset) -> h5py.Dataset:
        import h5py

        found = None if group is None else below(group, wanted.name)
        if (
            not isinstance(found, h5py.Dataset)
            or list(found.shape or ())[1:] != wanted.shape[1:]
            or not found.shape
        ):
            raise Unreadable(_words(path, f"dataset {wanted.name} is not there, or of another shape"))
        return found


def _frame(datasets: list[Dataset], found: list[NDArray[Any]], count: int) -> pd.DataFrame:
    """Columns that stand in one array stay in it; the others are put beside them."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    single: dict[str, Any] = {}
    for dataset, values in zip(datasets, found):
        for field in dataset.fields:
            names = columns_of(dataset, field, "")
            inner = _field(field, values[field.name] if field.name else values)
            if inner.ndim == 2 and field.kind != TEXT:
                if single:
                    parts.append(pd.DataFrame(single))
                    single = {}
                parts.append(pd.DataFrame(inner, columns=names))
            else:
                columns = [inner] if inner.ndim == 1 else list(inner.T)
                single |= {name: _column(column) for name, column in zip(names, columns)}
    if single or not parts:
        parts.append(pd.DataFrame(single, index=pd.RangeIndex(count)))
    return parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)


def _column(values: NDArray[Any]) -> pd.Series[Any]:
    import pandas as pd

    try:
        return pd.Series(values)
    except UnicodeEncodeError:
        # Bytes that are no UTF-8, which pandas' own type for text cannot hold.
        return pd.Series(values, dtype=object)


def _whole(dataset: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    """A dataset as an array; one of a compound type as h5py gives it."""
    return values if dataset.fields[0].name else _field(dataset.fields[0], values)


def _field(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    if field.kind == TEXT:
        return _text(values)
    return values if field.kind == OTHER else values.astype(np.dtype(field.dtype), copy=False)


def _text(values: NDArray[Any]) -> NDArray[np.object_]:
    """Strings of either kind, which h5py gives as bytes. Bytes that are no UTF-8 are kept as surrogates."""
    import numpy as np

    found = np.empty(values.shape, dtype=object)
    found.ravel()[:] = [
        one.decode("utf-8", "surrogateescape") if isinstance(one, bytes) else one
        for one in values.ravel().tolist()
    ]
    return found


def _words(path: bytes, problem: str) -> str:
    return f"{shown(path)} cannot be read as it was planned: {problem.rstrip('.')}. Has it changed since?"
