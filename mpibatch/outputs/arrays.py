"""Columns of HDF5 as types of a form and as bytes in a fragment: npy blocks, one after the other.

A column is an array of shape (n, ...) of truth values or numbers, or an array of objects, which are
texts: `str` on the way in, their UTF-8 on the way out.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpibatch.core.forms import Column, Form

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXT = "str"


def form_of(columns: Mapping[str, NDArray[Any]]) -> Form:
    """Their names and types: numpy's name of the dtype, and the shape of a row, as `float32|512`."""
    return Form("hdf5", tuple(Column(name, _type_of(array)) for name, array in columns.items()))


def _type_of(array: NDArray[Any]) -> str:
    dtype = TEXT if array.dtype.kind == "O" else array.dtype.name
    return f"{dtype}|{','.join(map(str, array.shape[1:]))}"


def dtype_and_shape(type_: str) -> tuple[str, tuple[int, ...]]:
    """Of a type in a form; the dtype is `TEXT` or a name of numpy's."""
    dtype, _, shape = type_.partition("|")
    return dtype, tuple(int(length) for length in shape.split(",") if length)


def to_bytes(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """All columns. UnicodeEncodeError where a text is not UTF-8."""
    import numpy as np

    file = io.BytesIO()
    for array in columns.values():
        if array.dtype.kind != "O":
            np.lib.format.write_array(file, array, allow_pickle=False)
            continue
        texts = [text.encode() for text in array.tolist()]
        lengths = np.array([len(text) for text in texts], "<i8")
        np.lib.format.write_array(file, lengths, allow_pickle=False)
        np.lib.format.write_array(file, np.frombuffer(b"".join(texts), np.uint8), allow_pickle=False)
    return file.getvalue()


def from_bytes(form: Form, data: memoryview) -> list[NDArray[Any]]:
    """The columns of a fragment of this form."""
    import numpy as np

    file = io.BytesIO(data)
    columns: list[NDArray[Any]] = []
    for column in form.columns:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if dtype_and_shape(column.type)[0] == TEXT:
            array = _texts(array, np.lib.format.read_array(file, allow_pickle=False).tobytes())
        columns.append(array)
    return columns


def _texts(lengths: NDArray[np.int64], data: bytes) -> NDArray[Any]:
    import numpy as np

    texts = np.empty(len(lengths), object)
    stop = 0
    for number, length in enumerate(lengths.tolist()):
        start, stop = stop, stop + length
        texts[number] = data[start:stop]
    return texts
