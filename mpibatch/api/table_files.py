"""A table's file as a DataFrame in the caller's process, by the options with which a run reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpibatch.api.sources import Source

if TYPE_CHECKING:
    import pandas as pd


def read_table(file: str, source: Source) -> pd.DataFrame:
    import pandas as pd

    options = source.options
    match source.kind:
        case "csv":
            frame = pd.read_csv(file, **_csv(options))
        case "jsonl":
            frame = pd.read_json(file, lines=True, dtype=options.get("dtype", True), convert_dates=False)
        case "parquet":
            frame = pd.read_parquet(file)
        case "files":
            raise AssertionError("files are no tables")
    columns = options.get("columns")
    if source.kind == "jsonl":
        for name in options.get("parse_dates", []):
            frame[name] = pd.to_datetime(frame[name])
    return frame if columns is None else pd.DataFrame(frame[columns])


def _csv(options: dict[str, Any]) -> dict[str, Any]:
    known = ("sep", "encoding", "dtype", "parse_dates", "keep_default_na")
    given = {name: options[name] for name in known if name in options}
    return given | {"header": None if options.get("header") == "none" else 0, "escapechar": None}
