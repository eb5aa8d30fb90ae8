"""Partition columns of Parquet: folders named `key=value` whose names are values of all rows below them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from mpibatch.core.settings import printable
from mpibatch.errors import InputError
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import TableFile

_MISSING = "__HIVE_DEFAULT_PARTITION__"
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")

Partition = list[tuple[str, str | None]]
"""Keys with their values, in the order of the folders; None: missing."""


def partition(path: bytes) -> Partition:
    """What the folders of a path say. Folders of other names, and the file's own name, say nothing."""
    found: Partition = []
    for folder in path.split(b"/")[:-1]:
        key, equals, value = folder.partition(b"=")
        if key and equals:
            text = _decoded(value)
            found.append((_decoded(key), None if text == _MISSING else text))
    return found


def _decoded(text: bytes) -> str:
    # A frame's text is UTF-8: other bytes stay apart from each other, and can be seen.
    return unquote_to_bytes(text).decode("utf-8", "backslashreplace")


def is_whole_number(text: str) -> bool:
    """Whether an int64 is written just like this, so that text and number are one and the same."""
    return bool(_WHOLE_NUMBER.fullmatch(text)) and -(2**63) <= int(text) < 2**63


def partition_columns(files: Sequence[TableFile], origin: str) -> dict[str, bool]:
    """The keys of the files' folders in their order; True where all values are whole numbers.

    Raises InputError where the files do not have the same keys in the same order.
    """
    first = [key for key, _ in partition(files[0].name)]
    if len(set(first)) < len(first):
        raise InputError(f"{origin}: a key comes twice in the folders of {shown(files[0].name)}{_REMEDY}")
    numbers = dict.fromkeys(first, False)
    text: set[str] = set()
    for file in files:
        found = partition(file.name)
        if [key for key, _ in found] != first:
            raise _differ(files[0], file, origin)
        for key, value in found:
            if value is None or key in text:
                continue
            if is_whole_number(value):
                numbers[key] = True
            else:
                text.add(key)
    return {key: number and key not in text for key, number in numbers.items()}


_REMEDY = "; rename the folders, or write `hive: false`, so that they are no columns"


def _differ(one: TableFile, other: TableFile, origin: str) -> InputError:
    return InputError(
        f"{origin}: the files' folders do not have the same keys in the same order:"
        f" {_keys(one)} of {shown(one.name)}, but {_keys(other)} of {shown(other.name)}{_REMEDY}"
    )


def _keys(file: TableFile) -> str:
    return ", ".join(printable(key) for key, _ in partition(file.name)) or "none"
