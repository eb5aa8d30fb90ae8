"""Values of numpy, pandas and others in the words of Python that a JSON encoder knows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpibatch.outputs.encoding import ELEMENTS, described, is_array, is_data_frame, is_series
from mpibatch.results import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray


def json_values(column: Any) -> list[Any]:
    """Of a Series, what the encoder or `plainer` knows, to both of which what is missing is null."""
    import numpy as np

    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "fiubM":
        return array_values(column.to_numpy())
    return column.to_numpy(dtype=object).tolist()  # type: ignore[no-any-return]


def array_values(values: NDArray[Any]) -> list[Any]:
    """Nested lists for more than one dimension."""
    import numpy as np

    kind = values.dtype.kind
    if kind == "f" and values.dtype.itemsize != 8:
        # By way of text: the digits of the number as it is, not those of the float64 that is equal to it.
        return values.astype(str).astype(np.float64).tolist()  # type: ignore[no-any-return]
    if kind == "M" and values.ndim == 1:
        return _instants(values)
    if kind in "fiubUO":
        return values.tolist()  # type: ignore[no-any-return]
    return list(values)


def _instants(values: NDArray[Any]) -> list[str | None]:
    """ISO 8601, each with 0, 6 or 9 digits of a second, as it needs."""
    import numpy as np

    if np.datetime_data(values.dtype)[0] not in ("s", "ms", "us", "ns"):
        return [None if np.isnat(value) else str(value) for value in values]
    texts = np.datetime_as_string(values, unit="ns", casting="unsafe")
    return [_trimmed(text) for text in texts.tolist()]


def _trimmed(text: str) -> str | None:
    if text == "NaT":
        return None
    if not text.endswith("000"):
        return text
    return text[:-10] if text.endswith("000000000") else text[:-3]


def plainer(value: Any) -> Any:
    """A value that the encoder does not know in words that it knows. TypeError where JSON has none."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    if is_array(value):
        return array_values(value) if value.ndim else plainer(value[()])
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    if package == "numpy":
        return _of_numpy(value)
    if package == "pandas":
        return _of_pandas(value)
    if isinstance(value, os.PathLike):
        return plain(os.fspath(value))
    if hasattr(kind, "tolist"):  # Tensors.
        return value.tolist()
    for number in (int, float):
        if isinstance(value, number):
            return number(value)
    # A list or a tuple itself comes here only as the key of an object.
    if isinstance(value, Sequence) and kind not in ELEMENTS:
        return list(value)
    raise TypeError(f"JSON has no words for {described(value)}{' as a key' if kind in ELEMENTS else ''}")


def _of_numpy(value: Any) -> Any:
    import numpy as np

    kind = value.dtype.kind
    if kind in "mM":
        return None if np.isnat(value) else str(value)
    if kind == "f":
        return float(value) if value.dtype.itemsize == 8 else float(str(value))
    if kind in "iubSV":
        return value.item()
    raise TypeError(f"JSON has no words for {described(value)}")


def _of_pandas(value: Any) -> Any:
    import pandas as pd

    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        return value.isoformat()
    if is_data_frame(value):
        return dict(zip(map(str, value.columns), (json_values(column) for _, column in value.items())))
    if is_series(value):
        return json_values(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
