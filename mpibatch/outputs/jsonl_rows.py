"""The jsonl format: a line of JSON for each row, without a form or a header.

A DataFrame gives an object for each row, a list the JSON of its elements. What is missing, and the floats
that JSON has no words for (NaN and the infinities), become null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.outputs.encoding import (
    ELEMENTS,
    ItemKeys,
    Keys,
    NotEncodable,
    Rows,
    checked,
    collect,
    column_names,
    described,
    is_data_frame,
    is_series,
    shown_surrogate,
)
from mpibatch.outputs.json_values import array_values, json_values, plainer
from mpibatch.results import plain

if TYPE_CHECKING:
    import pandas as pd


class JsonlEncoder:
    """Makes fragments of returned values. `add_input_key`: each object begins with its input."""

    def __init__(self, add_input_key: bool) -> None:
        self._keyed = add_input_key
        self._encoder = msgspec.json.Encoder(enc_hook=plainer)
        self._names: list[str] = []
        self._row: Callable[..., Any] = dict

    def collect(self, result: object) -> Any:
        """As `outputs.encoding.collect`."""
        return collect(result, whole=True)

    def encode(self, collected: Any, items: int, keys: Keys) -> Rows:
        """The rows of what `collect` gave. Raises NotEncodable."""
        try:
            elements = self._elements(collected, items, keys)
            fragment = self._encoder.encode_lines(elements)
        except NotEncodable:
            raise
        except Exception as error:
            raise self._culprit(collected, error) from error
        count = len(elements)
        return checked(Rows(returned=count, rows=count, fragment=fragment), items)

    def _elements(self, collected: Any, items: int, keys: Keys) -> Sequence[Any]:
        """What is encoded, one for each row."""
        if is_data_frame(collected):
            return self._of_frame(_keyed_frame(collected, items, keys) if self._keyed else collected)
        if isinstance(collected, ELEMENTS):
            elements: Sequence[Any] = collected
        else:
            elements = json_values(collected) if is_series(collected) else array_values(collected)
        return _with_keys(elements, collected, items, keys) if self._keyed else elements

    def _of_frame(self, frame: pd.DataFrame) -> Sequence[Any]:
        names = column_names(frame)
        if not names:
            return [{} for _ in range(len(frame))]
        if names != self._names:
            self._names, self._row = names, _row_maker(names)
        return list(map(self._row, *(json_values(column) for _, column in frame.items())))

    def _culprit(self, collected: Any, error: Exception) -> NotEncodable:
        """Which element it was: looked for only once something has failed."""
        what, why = "what run() returned", error
        if not is_data_frame(collected):
            for number, element in enumerate(collected):
                try:
                    self._encoder.encode(element)
                except Exception as raised:
                    what = f"element {number} (counting from 0; {described(element)}) of {what}"
                    why = raised
                    break
        reason = (
            shown_surrogate(why) if isinstance(why, UnicodeEncodeError) else f"{type(why).__name__}: {why}"
        )
        return NotEncodable(f"{what} cannot be written as JSON: {reason}")


def _row_maker(names: list[str]) -> Callable[..., Any]:
    """Makes an object with these names of the values of a row; a struct is made faster than a dict."""
    fields = [f"f{number}" for number in range(len(names))]
    try:
        return msgspec.defstruct("Row", fields, rename=dict(zip(fields, names)), gc=False)
    except ValueError:  # A name with quotes or the like.
        return lambda *values: dict(zip(names, values))


def _given(collected: Any, items: int, keys: Keys) -> tuple[Sequence[int], ItemKeys]:
    """Which item each row belongs to, and the keys as JSON can hold them."""
    from mpibatch.outputs.input_key import positions

    given = keys()
    paths = plain(given.paths) if isinstance(given.paths, str) else list(map(plain, given.paths))
    places = positions(collected, items, given.labelled and given.rows is not None)
    return places, ItemKeys(paths, given.rows)


def _keyed_frame(frame: pd.DataFrame, items: int, keys: Keys) -> pd.DataFrame:
    from mpibatch.outputs.input_key import keyed_frame

    return keyed_frame(frame, *_given(frame, items, keys))


def _with_keys(elements: Sequence[Any], collected: Any, items: int, keys: Keys) -> list[dict[str, Any]]:
    """Objects with the key in front; what is no object becomes one with a `value`."""
    from mpibatch.outputs.input_key import key_columns, refuse_names

    columns = key_columns(*_given(collected, items, keys))
    fronts = [dict(zip(columns, front)) for front in zip(*columns.values(), strict=True)]
    for front, element in zip(fronts, elements, strict=True):
        if isinstance(element, Mapping):
            refuse_names(columns, element)
            front.update(element)
        else:
            front["value"] = element
    return fronts
