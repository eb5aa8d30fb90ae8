"""HDF5: a resizable dataset for each column, to which rows are appended in their order."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibatch.core.forms import Form, decode_form
from mpibatch.outputs import arrays
from mpibatch.outputs.partial import PartialFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 1 << 20
"""Of a chunk of a dataset, unless one row is larger."""
_TEXT_BYTES = 16
"""A text in a dataset: where it lies."""


class Hdf5Sink:
    """Value for value the same however rows are grouped; texts lie elsewhere in the file then."""

    def __init__(self, partial: Path) -> None:
        self._file = PartialFile(partial, quiet=True)
        self._hdf5: Any = None
        self._form = Form("hdf5", ())
        self._datasets: list[Any] = []

    def start(self, form: bytes | None) -> None:
        import h5py

        self._let_go()
        self._file.begin()
        self._form = Form("hdf5", ()) if form is None else decode_form(form)
        with self._file.naming():
            self._hdf5 = h5py.File(self._file, "w", rdcc_nbytes=4 * CHUNK_BYTES)
            self._datasets = [
                self._hdf5.create_dataset(column.name, **_settings(column.type))
                for column in self._form.columns
            ]

    def append(self, fragments: list[tuple[memoryview, int]]) -> None:
        pieces: list[list[NDArray[Any]]] = [[] for _ in self._form.columns]
        for fragment, header in fragments:
            if header:
                form = decode_form(fragment[:header])
                columns = arrays.from_bytes(form, fragment[header:])
                for piece, column in zip(pieces, columns, strict=True):
                    piece.append(column)
        with self._file.naming():
            for dataset, piece in zip(self._datasets, pieces, strict=True):
                _extend(dataset, piece)

    def finish(self) -> None:
        with self._file.naming():
            self._hdf5.close()
        self._datasets, self._hdf5 = [], None
        self._file.sync()
        self._file.close()

    def close(self) -> None:
        self._let_go()
        self._file.close()

    def _let_go(self) -> None:
        """Closing writes to the file to the last: not to ours."""
        self._file.drop()
        if self._hdf5 is not None:
            with contextlib.suppress(Exception):
                self._hdf5.close()
        self._datasets, self._hdf5 = [], None


def _settings(type_: str) -> dict[str, Any]:
    """Of a dataset without rows."""
    import h5py
    import numpy as np

    name, shape = arrays.dtype_and_shape(type_)
    dtype = h5py.string_dtype("utf-8") if name == arrays.TEXT else np.dtype(name)
    row_bytes = math.prod(shape) * (_TEXT_BYTES if name == arrays.TEXT else dtype.itemsize)
    rows = max(1, CHUNK_BYTES // max(1, row_bytes))
    return {
        "shape": (0, *shape),
        "maxshape": (None, *(length or None for length in shape)),
        "chunks": (rows, *(length or 1 for length in shape)),
        "dtype": dtype,
        "track_times": False,
    }


def _extend(dataset: Any, pieces: list[NDArray[Any]]) -> None:
    import numpy as np

    if not pieces:
        return
    rows = np.concatenate(pieces, dtype=dataset.dtype, casting="same_kind")
    before = dataset.shape[0]
    dataset.resize(before + len(rows), axis=0)
    if rows.size:
        dataset[before:] = rows
