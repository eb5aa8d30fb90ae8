"""The columns that the first files of an MLTable have: what `drop_columns` and files without a header are read by.

Only a look: whether the files can be read is for the run to find out.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from mpibatch.errors import InputError
from mpibatch.inputs.compressed import Damaged, blocks
from mpibatch.inputs.files import find_files
from mpibatch.inputs.origin import Origin
from mpibatch.inputs.walk import Remarks

_BLOCK = 1 << 16
"""Bytes that are looked at: longer records than that are not."""
_MOST_FILES = 20
"""Files that are looked at, as the first ones may be empty."""


def first_columns(kind: str, options: Mapping[str, Any], files: Sequence[str]) -> list[str] | None:
    """The fields of the first record of CSV files, or the columns of Parquet files. `files`: absolute, or globs.

    None: there is no file yet, it is of another kind, or cannot be read so far.
    """
    try:
        for path in islice(_paths(files), _MOST_FILES):
            match kind:
                case "csv":
                    found = _fields(path, str(options.get("sep", ",")), str(options.get("encoding", "utf-8")))
                case "parquet":
                    found = _of_parquet(path)
                case _:
                    return None
            if found:
                return found
    except (OSError, ValueError, InputError, Damaged, csv.Error, LookupError):
        pass
    return None


def _paths(files: Sequence[str]) -> Iterator[bytes]:
    """In the order in which the run takes them."""
    for folder, names in find_files(files, Origin("inputs", ""), Remarks()):
        for name in names:
            yield os.path.join(folder, name)


def _fields(path: bytes, separator: str, encoding: str) -> list[str] | None:
    block = next(blocks(path, _BLOCK), b"")
    text = codecs.getincrementaldecoder(encoding)().decode(block).removeprefix("\ufeff")
    if len(block) >= _BLOCK and "\n" not in text:
        return None
    records = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    # pandas passes over empty lines as well.
    return next((record for record in records if record), None)


def _of_parquet(path: bytes) -> list[str]:
    import pyarrow.parquet as pq

    return [str(name) for name in pq.read_schema(os.fsdecode(path)).names]
