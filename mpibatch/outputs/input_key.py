"""Which item each row belongs to, and the item's key in front of the row: `add_input_key`.

The key is the path of the item's file, `input`, and for rows of tables their number in that file from 0,
`input_row`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpibatch.outputs.encoding import BadRows, ItemKeys, described, is_data_frame, is_series

if TYPE_CHECKING:
    import pandas as pd

FILE = "input"
ROW = "input_row"
INDEX = "mini_batch_item"
"""Name of the index of a DataFrame that `run()` gets. By it the index is known again after a filter, a sort, an
`explode`; one that is made anew counts from 0 too, and without the name it would be taken for that of other rows.
None that a column is likely to have: pandas refuses to group by a name that is both."""


def name_rows(data: Any) -> None:
    """Give the index of what `run()` gets its name, if it is a DataFrame."""
    if is_data_frame(data):
        data.index = data.index.rename(INDEX)


def positions(collected: Any, items: int, labelled: bool = True) -> Sequence[int]:
    """For each row of `collected` the number, from 0, of the item that it belongs to.

    By position where there are as many rows as items. `labelled` tells that `run()` got a DataFrame, whose
    index counts from 0 (`name_rows`): if a DataFrame or a Series still has this index, then by it where there
    are other rows than items (some left out, or repeated), or where the rows were put in another order.
    Raises NotEncodable where it cannot be told.
    """
    rows = len(collected)
    if rows == 0:
        return range(0)
    why = "it has no index" if labelled else "run() got no DataFrame, so there are no labels to go by"
    if labelled and (is_data_frame(collected) or is_series(collected)):
        labels = collected.index
        why = _no_labels_of_input(labels, items)
        # As many: only an index that names each item once says more than the position does.
        if not why and (rows != items or labels.is_unique):
            return labels.tolist()  # type: ignore[no-any-return]
    if rows == items:
        return range(items)
    raise BadRows(
        f"add_input_key: run() returned {described(collected)} of {rows} rows for {items} items, and which row "
        f"belongs to which item cannot be told: {why}. Return one row for each item, in their order; or, where "
        f"run() gets a DataFrame, rows of it with the index that they had; or set add_input_key: false and let "
        "run() put the input into its rows"
    )


def _no_labels_of_input(labels: Any, items: int) -> str:
    """Why these are not labels that `run()` got; empty if they are."""
    if labels.nlevels > 1 or labels.name != INDEX or labels.dtype.kind not in "iu" or labels.hasnans:
        return "its index is not the one that the rows had when run() got them, but a reset or a new one"
    low, high = labels.min(), labels.max()
    if low < 0 or high >= items:
        odd = low if low < 0 else high
        return f"its index has the label {odd}, but the rows that run() got are 0 to {items - 1}"
    return ""


def key_columns(places: Sequence[int], keys: ItemKeys) -> dict[str, list[Any]]:
    """The columns that stand in front: `input`, and for tables `input_row`."""
    paths = keys.paths
    files = [paths] * len(places) if isinstance(paths, str) else [paths[place] for place in places]
    if keys.rows is None:
        return {FILE: files}
    return {FILE: files, ROW: [int(keys.rows[place]) for place in places]}


def keyed_frame(frame: pd.DataFrame, places: Sequence[int], keys: ItemKeys) -> pd.DataFrame:
    """`frame`, which stays as it is, with the key in front."""
    import numpy as np
    import pandas as pd

    columns = key_columns(places, keys)
    refuse_names(columns, frame.columns)
    keyed = frame.copy(deep=False)
    for name in reversed(columns):
        # Object, as paths that are not UTF-8 cannot stand in pandas' own kind of text.
        dtype = np.object_ if name == FILE else np.int64
        keyed.insert(0, name, pd.Series(columns[name], keyed.index, dtype))
    return keyed


def refuse_names(columns: dict[str, list[Any]], taken: Any) -> None:
    """Raise BadRows if what `run()` returned has a key's name already."""
    for name in columns:
        if name in taken:
            raise BadRows(
                f"add_input_key puts the name {name!r} in front of each row, but what run() returned has that "
                "name already: name it otherwise in run(), or set add_input_key: false"
            )


def prefixes(places: Sequence[int], keys: ItemKeys, sep: str) -> list[str]:
    """The key of each row as text that ends in `sep`."""
    parts = [map(str, column) for column in key_columns(places, keys).values()]
    return [sep.join((*part, "")) for part in zip(*parts)]
