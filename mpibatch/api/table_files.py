"""A table's file as a DataFrame in the caller's process, by the options with which a run reads it."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.api.refusals import ApiError
from mpibatch.api.sources import Source
from mpibatch.core.path_columns import columns_of_paths
from mpibatch.core.tables import JsonlOptions, TableOptions
from mpibatch.inputs.jsonl_frame import to_frame
from mpibatch.inputs.path_columns import framed, of_files
from mpibatch.inputs.ranges import open_stream, read_stream

if TYPE_CHECKING:
    import pandas as pd


def read_table(file: str, source: Source) -> pd.DataFrame:
    import pandas as pd

    whole: TableOptions = msgspec.convert({"type": source.kind, **source.options}, TableOptions)
    own = of_files(whole)
    plain = msgspec.to_builtins(own)
    options = {name: plain[name] for name in plain if name in source.options}
    match source.kind:
        case "csv":
            frame = pd.read_csv(file, **_csv(options))
        case "jsonl":
            frame = _json_lines(file, own)
        case "parquet":
            frame = pd.read_parquet(file, partitioning="hive" if options.get("hive", True) else None)
        case "files":
            raise AssertionError("files are no tables")
    columns = options.get("columns")
    if columns is not None:
        frame = pd.DataFrame(frame[columns])
    return framed(frame, whole, os.fsencode(os.path.abspath(file))) if columns_of_paths(whole) else frame


def _json_lines(file: str, options: TableOptions) -> pd.DataFrame:
    assert isinstance(options, JsonlOptions)
    path = os.fsencode(file)
    with closing(open_stream(path)) as stream:
        rows = msgspec.json.Decoder(dict[str, Any]).decode_lines(read_stream(path, stream))
    frame, misfits = to_frame(rows, options)
    if misfits:
        number, why = next(iter(misfits.items()))
        raise ApiError(f"{file}, row {number:,}: {why}; {len(misfits):,} rows do not fit in all")
    return frame


def _csv(options: dict[str, Any]) -> dict[str, Any]:
    known = ("sep", "encoding", "dtype", "parse_dates", "keep_default_na")
    given = {name: options[name] for name in known if name in options}
    return given | {"header": None if options.get("header") == "none" else 0, "escapechar": None}
