"""Options that people bring along from pandas and its like to table inputs, and what to write here. Pure."""

from __future__ import annotations

from mpibatch.core.settings import nearest

_RENAMED = {
    "delimiter": "sep",
    "separator": "sep",
    "delim": "sep",
    "usecols": "columns",
    "fields": "columns",
    "dtypes": "dtype",
    "schema": "dtype",
    "types": "dtype",
    "quote_char": "quotechar",
    "quote": "quotechar",
    "escape_char": "escapechar",
    "escape": "escapechar",
    "charset": "encoding",
    "null_values": "na_values",
    "dataset": "datasets",
    "key": "group (a path of groups) or datasets",
    "path": "group (a path of groups)",
    "partitioning": "hive",
    "partition_format": "path_columns",
    "include_path": "path_column (the name of a column)",
    "include_path_column": "path_column (the name of a column)",
    "orient": "as (frame or records)",
    "newlines_in_values": "multiline",
}

_EXPLAINED = {
    "delim_whitespace": 'sep is one character, like sep: " "; columns aligned by several are not supported',
    "skipinitialspace": "spaces after sep belong to the value: let run() strip them",
    "skiprows": "a file's first line that is not blank is its header, or its first row with header: none",
    "skipfooter": "each line is a row",
    "nrows": "all rows are read; try a job out on a small file, by --set",
    "index_col": "no column becomes the index: let run() call set_index",
    "chunksize": "how many rows run() gets is mini_batch_size, a key of the job",
    "mini_batch_size": "it is a key of the job, for all inputs",
    "partition_keys": "it is a key of the job, for all inputs",
    "compression": "it is told by the ending: .gz, .bz2, .xz, .zst",
    "engine": "leave it out",
    "low_memory": "leave it out",
    "memory_map": "leave it out",
    "on_bad_lines": "a malformed record costs one item, which is listed in failed_items.jsonl",
    "error_bad_lines": "a malformed record costs one item, which is listed in failed_items.jsonl",
    "comment": "comments are not supported: each line is a row",
    "skip_blank_lines": "blank lines are no rows",
    "quoting": "quotechar: none means that quotes mean nothing",
    "doublequote": "a quote within quotes is doubled; or set escapechar",
    "lineterminator": "\\n, \\r\\n and \\r end a line",
    "converters": "let run() convert",
    "true_values": "let run() convert",
    "false_values": "let run() convert",
    "date_format": "let run() call pandas.to_datetime",
    "date_parser": "let run() call pandas.to_datetime",
    "dayfirst": "let run() call pandas.to_datetime",
    "filters": "let run() filter",
    "lines": "each line is an object: leave it out",
    "recursive": "a folder is taken with all below it",
}

_BY_KIND = {
    ("jsonl", "encoding"): "JSON lines are UTF-8",
    ("parquet", "datasets"): "here they are columns",
    ("hdf5", "columns"): "here they are datasets",
    ("csv", "as"): "run() gets a DataFrame; df.to_dict('records') makes dicts of it",
    ("parquet", "as"): "run() gets a DataFrame; df.to_dict('records') makes dicts of it",
}


def foreign_hint(option: str) -> str | None:
    """What to write instead, after a semicolon; None if nothing is known."""
    if option in _RENAMED:
        return f"; here it is {_RENAMED[option]}"
    explained = _EXPLAINED.get(option)
    return f"; {explained}" if explained else None


def own_name(option: str) -> str | None:
    """What an option of another program is called here; None where it is not just another name."""
    found = _RENAMED.get(option)
    return found and found.partition(" ")[0]


def foreign_name(option: str) -> str | None:
    """The option of another program that was probably meant; None where none is near."""
    return nearest(option, (*_RENAMED, *_EXPLAINED))


def known_elsewhere_hint(kind: str, option: str) -> str:
    """More words on an option that another kind of inputs has."""
    explained = _BY_KIND.get((kind, option))
    return f"; {explained}" if explained else ""
