"""The job file's keys for rows: their format, their file, their order, which depend on each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpibatch.core.settings import Problems, Wrong, shown, text
from mpibatch.core.to_csv import read_to_csv

RESERVED_NAMES = ("failed_items.jsonl", "job_result.json", "metrics.jsonl", "artifacts", "logs", ".mpibatch")
"""What a run folder holds besides the rows."""

FORMATS = ("text", "csv", "jsonl", "parquet", "hdf5")
_USUAL_ENDING = {"text": ".txt", "csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet", "hdf5": ".h5"}
_PROMISES = {
    "text": (".txt",),
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
    "hdf5": (".h5", ".hdf5", ".hdf", ".he5"),
}
"""Endings that tell of a format."""
_SUITS = {
    "text": ("text", "csv", "jsonl"),
    "csv": ("csv", "text"),
    "jsonl": ("jsonl", "text"),
    "parquet": ("parquet",),
    "hdf5": ("hdf5",),
}
"""What a name may promise where rows have a format: lines of text may well be somebody's CSV."""
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4", ".7z", ".tgz", ".tar")
_NEVER = (".feather", ".arrow", ".npy", ".npz", ".xlsx", ".xls", ".pkl", ".pickle", ".orc", ".avro")

_TO_CSV_FORMATS = ("text", "csv")
_AS_THEY_COME_FORMATS = ("text", "jsonl")


def read_rows(problems: Problems, given: Mapping[Any, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`: the simple keys, as far as they are given: a key that is wrong is None in it."""
    form = values.get("append_row_format", "text")
    read: dict[str, Any] = {}
    if "append_row_file_name" in given:
        name = problems.take("append_row_file_name", given["append_row_file_name"], _file_name)
        if name is not None and form is not None:
            problems.take("append_row_file_name", name, lambda value: _check_promise(value, form))
        read["append_row_file_name"] = name
    elif form is not None:
        read["append_row_file_name"] = f"parallel_run_step{_USUAL_ENDING[form]}"
    if "append_row" in given:
        read["append_row"] = read_to_csv(problems, "append_row", given["append_row"])
        if form not in (None, *_TO_CSV_FORMATS) and given["append_row"]:
            what = f"keywords of to_csv mean nothing for append_row_format: {form}; leave one of the two out"
            problems.add("append_row", f"is {shown(given['append_row'])}: {what}")
    if values.get("add_input_key") is None:
        # Rows of arrays have no place for a path in them, so it stands beside them.
        read["add_input_key"] = form == "hdf5"
    if values.get("output_action") == "summary_only":
        _check_without_rows(problems, values)
    elif values.get("order") == "completion" and form not in (None, *_AS_THEY_COME_FORMATS):
        legal = " and ".join(_AS_THEY_COME_FORMATS)
        problems.add("order", f'is "completion": it is for {legal}; append_row_format is {form}')
    return read


def _file_name(value: Any) -> str:
    name: str = text(value)
    if "/" in name or "\\" in name:
        raise Wrong("must be a file name without a path: the folder is set by output")
    if name in RESERVED_NAMES or name in (".", ".."):
        raise Wrong(f"must be another name: a run folder has its own {', '.join(RESERVED_NAMES)}")
    if len(name.encode("utf-8", "surrogateescape")) > 200:
        raise Wrong("must not be longer than 200 bytes")
    return name


def _check_promise(name: str, form: str) -> None:
    """Raises `Wrong` if the name's ending tells of another format."""
    lower = name.lower()
    example = f"rows{_USUAL_ENDING[form]}"
    if lower.endswith(_COMPRESSED):
        raise Wrong(f"rows are written uncompressed, and the name must not promise more, like {example}")
    if lower.endswith(_NEVER):
        legal = ", ".join(FORMATS)
        raise Wrong(f"append_row_format is {form}; take a name like {example}. Formats are {legal}")
    for other, endings in _PROMISES.items():
        if lower.endswith(endings) and other not in _SUITS[form]:
            way = f"write append_row_format: {other}, or another name, like {example}"
            raise Wrong(f"the name promises {other}, and append_row_format is {form}: {way}")


def _check_without_rows(problems: Problems, values: Mapping[str, Any]) -> None:
    why = "and output_action: summary_only writes none; leave one of the two out"
    if values.get("order") == "completion":
        problems.add("order", f'is "completion": it is for rows of text, {why}')
    if values.get("append_row_format") not in (None, "text"):
        problems.add("append_row_format", f"is {shown(values['append_row_format'])}: it is for rows, {why}")
    if values.get("add_input_key"):
        problems.add("add_input_key", f"is true: it is for rows, {why}")
