"""The words for table inputs: what the job file says of each kind, checked, and how large a mini-batch is. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

TableKind = Literal["csv", "jsonl", "parquet", "hdf5"]


class CsvOptions(msgspec.Struct, frozen=True, kw_only=True, tag="csv"):
    """How the CSV files of an input are read."""

    header: Literal["all", "first", "none", "each"] = "all"
    """Each file begins with the same header; only the first one has it; none has one; each has its own."""
    names: list[str] | None = None
    """Column names of files without a header; None: they are numbered from 0, as in pandas."""
    sep: str = ","
    """One character that is one byte in the encoding."""
    quotechar: str | None = '"'
    """None: quotes mean nothing."""
    escapechar: str | None = None
    encoding: str = "utf-8"
    columns: list[str] | None = None
    """Those to read, in this order; None: all."""
    dtype: dict[str, str] | str | None = None
    """By column, or for all; "from_first_rows": those that pandas infers from the input's first rows."""
    parse_dates: list[str] = []
    na_values: list[str] = []
    keep_default_na: bool = True
    decimal: str = "."
    thousands: str | None = None
    multiline: bool = True
    """Fields in quotes may hold newlines. False: each newline ends a record."""
    unpack: bool = False
    """Unpack compressed files into the run folder, whatever their size, so that they are cut; in UTF-8, if
    they, compressed or not, are in an encoding in which nothing can be cut (utf-16)."""
    path_column: str | None = None
    """A column with the file's path, of this name; in front of the others, or where `columns` has it."""
    path_columns: str | None = None
    """Columns that the ends of the files' paths give (`core.path_columns`): behind the others, or where `columns`
    has them."""


class JsonlOptions(msgspec.Struct, frozen=True, kw_only=True, tag="jsonl"):
    """How files of JSON lines are read: a line is a row, an object."""

    as_: Literal["frame", "records"] = msgspec.field(name="as", default="frame")
    """What `run()` gets: a DataFrame, or a list of dicts."""
    columns: list[str] | None = None
    dtype: dict[str, str] | None = None
    parse_dates: list[str] = []
    unpack: bool = False
    path_column: str | None = None
    path_columns: str | None = None


class ParquetOptions(msgspec.Struct, frozen=True, kw_only=True, tag="parquet"):
    """How Parquet files are read."""

    columns: list[str] | None = None
    """Those to read, in this order, partition columns among them; None: all."""
    hive: bool = True
    """Folders named `key=value` below the input become columns."""
    path_column: str | None = None
    path_columns: str | None = None


class Hdf5Options(msgspec.Struct, frozen=True, kw_only=True, tag="hdf5"):
    """How HDF5 files are read: a row is an index of the first dimension."""

    group: str = "/"
    datasets: list[str] | None = None
    """Paths below `group`, of equal first dimension; None: all datasets directly in it."""
    as_: Literal["frame", "arrays"] = msgspec.field(name="as", default="frame")
    """What `run()` gets: a DataFrame, or a dict of numpy arrays of shape (n, ...)."""
    path_column: str | None = None
    path_columns: str | None = None


TableOptions = CsvOptions | JsonlOptions | ParquetOptions | Hdf5Options


class TableInput(msgspec.Struct, frozen=True, kw_only=True):
    """Each row of its files is an item."""

    kind: TableKind
    files: list[str]
    """Folders, globs or files: absolute; names that are not UTF-8 are spelled as `os.fsdecode` does."""
    text: str
    """As the job file has it, for messages and `context.dataset`."""
    options: TableOptions


class BySize(msgspec.Struct, frozen=True):
    """A mini-batch is about so many bytes of a file, cut at the next row."""

    bytes: int


class ByRows(msgspec.Struct, frozen=True):
    """A mini-batch is so many rows of a file, the last one of each file maybe less."""

    rows: int


MiniBatchSize = BySize | ByRows
