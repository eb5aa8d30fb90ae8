"""What `run()` returned as columns of HDF5: names of datasets, and an array for each (`outputs.arrays`)."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpibatch.outputs.encoding import NotEncodable, described, is_array, is_data_frame, is_series

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

ONE = "data"
"""Name of the dataset where there are no names."""
_NUMBER_KINDS = "biufc"
_MOST_BYTES = {"f": 8, "c": 16}
"""Numbers of more bytes are those of some machines only."""
_NO_DATES = ': HDF5 has no dates; return them as text, as with astype(str), or as numbers, astype("int64")'


class Named:
    """Arrays and lists by name, of one length, which is its own."""

    def __init__(self, values: Mapping[Any, Any], length: int) -> None:
        self.values = dict(values)
        self._length = length

    def __len__(self) -> int:
        return self._length


def columns_of(collected: Any) -> dict[str, NDArray[Any]]:
    """By name, all with one row for each of what was returned, which are some. Raises NotEncodable."""
    if is_data_frame(collected):
        named: list[tuple[Any, Any]] = list(collected.items())
    elif isinstance(collected, Named):
        named = list(collected.values.items())
    elif is_series(collected):
        named = [(ONE if collected.name is None else collected.name, collected)]
    elif not is_array(collected) and isinstance(collected[0], Mapping):
        named = _of_dicts(collected)
    else:
        named = [(ONE, collected)]
    if not named:
        raise NotEncodable(f"run() returned {len(collected)} rows without a column, which HDF5 cannot hold")
    _check_names([str(name) for name, _ in named])
    return {str(name): _column(values, f"dataset {str(name)!r}") for name, values in named}


def _of_dicts(rows: Sequence[Any]) -> list[tuple[Any, Any]]:
    names = list(rows[0])
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or row.keys() != rows[0].keys():
            found = f"the keys {list(row)}" if isinstance(row, Mapping) else f"{described(row)}"
            raise NotEncodable(
                f"element {number} (counting from 0) of what run() returned has {found}, but element 0 is"
                f" a dict with the keys {names}; return dicts with equal keys"
            )
    return [(name, [row[name] for row in rows]) for name in names]


def _check_names(names: list[str]) -> None:
    taken: set[str] = set()
    for name in names:
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise NotEncodable(f"{name!r} cannot be the name of a dataset in HDF5")
        if name in taken:
            raise NotEncodable(f"run() returned more than one column {name!r}")
        taken.add(name)
    for name in names:
        if any(other.startswith(f"{name}/") for other in names):
            raise NotEncodable(f"{name!r} cannot be a dataset and a group of datasets in HDF5 at one time")


def _column(values: Any, what: str) -> NDArray[Any]:
    if is_series(values):
        return _of_series(values, what)
    if is_array(values):
        return _of_array(values, what)
    return _of_elements(list(values), what)


def _of_series(series: pd.Series[Any], what: str) -> NDArray[Any]:
    """Numbers that pandas may lack (Int64 and the like) become floats where one is missing."""
    import pandas as pd

    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _of_series(series.astype(dtype.categories.dtype), what)
    if not pd.api.types.is_extension_array_dtype(dtype):
        return _of_array(series.to_numpy(), what)
    if pd.api.types.is_numeric_dtype(dtype):
        if not series.isna().any():
            return _of_array(series.to_numpy(dtype.numpy_dtype), what)
        if not pd.api.types.is_bool_dtype(dtype):
            return series.to_numpy("float64", na_value=float("nan"))
    return _of_elements(series.tolist(), what)


def _of_array(array: NDArray[Any], what: str) -> NDArray[Any]:
    kind = array.dtype.kind
    if kind in _NUMBER_KINDS and array.dtype.itemsize <= _MOST_BYTES.get(kind, 8):
        return array
    if kind in "OUS" and array.ndim == 1:
        return _of_elements(array.tolist(), what)
    hint = ""
    if kind in "Mm":
        hint = _NO_DATES
    raise NotEncodable(
        f"{what}: HDF5 files here hold no {array.ndim}-dimensional arrays of {array.dtype}{hint}"
    )


def _of_elements(elements: list[Any], what: str) -> NDArray[Any]:
    """Texts, of which missing ones are empty, or numbers and arrays of one shape."""
    import numpy as np

    text = any(isinstance(element, str | bytes) or element is None for element in elements)
    if text and all(isinstance(element, str | bytes) or _is_missing(element) for element in elements):
        texts = np.empty(len(elements), object)
        texts[:] = [_text(element, number, what) for number, element in enumerate(elements)]
        return texts
    arrays = [_of_element(element, number, what) for number, element in enumerate(elements)]
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise NotEncodable(
                f"{what}: element {number} (counting from 0) has the shape {array.shape}, element 0"
                f" {arrays[0].shape}; all need the same shape"
            )
    return _of_array(np.stack(arrays), what)


def _of_element(element: Any, number: int, what: str) -> NDArray[Any]:
    import numpy as np

    try:
        array = np.asarray(element)
    except (TypeError, ValueError) as error:
        raise NotEncodable(
            f"{what}: element {number} (counting from 0), {described(element)}, cannot be made into an"
            f" array: {type(error).__name__}: {error}"
        ) from error
    if array.dtype.kind not in _NUMBER_KINDS:
        raise NotEncodable(
            f"{what}: element {number} (counting from 0) is {described(element)}, which is neither text"
            f" like all others nor a number or an array of numbers{_NO_DATES if _is_date(element) else ''}"
        )
    return array


def _is_date(element: Any) -> bool:
    return isinstance(element, datetime.date | datetime.time | datetime.timedelta)


def _is_missing(element: Any) -> bool:
    if isinstance(element, float):
        return math.isnan(element)
    return element is None or type(element).__name__ in ("NAType", "NaTType")


def _text(element: Any, number: int, what: str) -> str:
    try:
        text = element.decode() if isinstance(element, bytes) else element if isinstance(element, str) else ""
        text.encode()
    except UnicodeError as error:
        raise NotEncodable(f"{what}: element {number} (counting from 0) is not UTF-8: {error}") from error
    if "\0" in text:
        raise NotEncodable(
            f"{what}: element {number} (counting from 0) holds a NUL, which texts of HDF5 cannot"
        )
    return text
