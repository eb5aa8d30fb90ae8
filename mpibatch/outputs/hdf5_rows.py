"""HDF5 at the processor: what `run()` returned becomes its form and npy blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpibatch.core.forms import encode_form
from mpibatch.outputs import arrays, encoding, typed_keys
from mpibatch.outputs.datasets import Named, columns_of
from mpibatch.outputs.encoding import BadReturn, Keys, NotEncodable, Rows, described
from mpibatch.outputs.input_key import FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Hdf5Encoder:
    """Makes fragments of an array of shape (n, ...), of several by name, of lists of such rows, of DataFrames.

    `add_input_key`: datasets in front say which item each row belongs to.
    """

    def __init__(self, add_input_key: bool) -> None:
        self._add_input_key = add_input_key

    def collect(self, result: object) -> Any:
        """Dicts of arrays as `Named`, tensors as arrays; the rest as `encoding.collect` has it."""
        if isinstance(result, Mapping):
            return _named(result)
        if encoding.is_data_frame(result) or encoding.is_series(result):
            return result
        if encoding.is_array(result) or hasattr(type(result), "__array__"):
            return _array(result)
        return encoding.collect(result, whole=True)

    def encode(self, collected: Any, items: int, keys: Keys) -> Rows:
        """The rows of what `collect` gave; without rows there is no form either. Raises NotEncodable."""
        returned = len(collected)
        if not returned:
            return Rows(returned=0)
        columns = columns_of(collected)
        if self._add_input_key:
            columns = _with_keys(columns, collected, items, keys)
        try:
            form = encode_form(arrays.form_of(columns))
        except UnicodeEncodeError as error:
            raise NotEncodable(f"a name of a dataset: {encoding.shown_surrogate(error)}") from error
        fragment = form + arrays.to_bytes(columns)
        return encoding.checked(
            Rows(returned=returned, rows=returned, fragment=fragment, header=len(form)), items
        )


def _named(result: Mapping[Any, Any]) -> Named:
    values = {
        name: _array(value) if hasattr(type(value), "__array__") and not encoding.is_series(value) else value
        for name, value in result.items()
    }
    for name, value in values.items():
        if isinstance(value, str | bytes) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
            raise BadReturn(
                f"run() returned a dict whose {name!r} is {described(value)}; each value has to be an array,"
                " or a list, with one row for each item that succeeded"
            )
    lengths = {str(name): len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        raise BadReturn(
            f"run() returned a dict of arrays with different numbers of rows, {lengths}; all of them need one"
            " row for each item that succeeded"
        )
    return Named(values, max(lengths.values(), default=0))


def _array(result: Any) -> NDArray[Any]:
    import numpy as np

    array = np.asarray(result)
    if not array.ndim:
        raise encoding.bad_return(result)
    return array


def _with_keys(
    columns: dict[str, NDArray[Any]], collected: Any, items: int, keys: Keys
) -> dict[str, NDArray[Any]]:
    import numpy as np

    front = typed_keys.columns(collected, columns, items, keys)
    return {
        **{name: np.array(values, object if name == FILE else np.int64) for name, values in front.items()},
        **columns,
    }
