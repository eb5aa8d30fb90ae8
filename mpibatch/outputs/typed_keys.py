"""Input keys for the formats whose texts must be UTF-8 and whose row numbers are numbers: Parquet and HDF5."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mpibatch.outputs import input_key
from mpibatch.outputs.encoding import Keys


def columns(collected: Any, names: Collection[str], items: int, keys: Keys) -> dict[str, list[Any]]:
    """What stands in front of the columns `names`. Raises NotEncodable.

    Bytes of a path that are not UTF-8 are spelled as `\\xff`.
    """
    item_keys = keys()
    places = input_key.positions(collected, items, item_keys.labelled)
    found = input_key.key_columns(places, item_keys)
    input_key.refuse_names(found, names)
    found[input_key.FILE] = [_spelled(path) for path in found[input_key.FILE]]
    return found


def _spelled(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
