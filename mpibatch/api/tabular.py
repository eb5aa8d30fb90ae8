"""`TabularDataset`: tables whose rows are items, named as the reference's; how they are read become our options.

Sources: Microsoft's public reference of azureml.data.TabularDataset and TabularDatasetFactory. What an option means
is decided where MLTable files are translated (`core.mltable_reads`), so that both ways of saying it mean the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mpibatch.api.data import AbstractDataset
from mpibatch.api.datastores import DataPath, Datastore
from mpibatch.api.refusals import ApiError, ExistsError, need, refuse
from mpibatch.api.sources import Kind, Place, Source, absolute, legal, source
from mpibatch.core.mltable_columns import convert, drop, keep
from mpibatch.core.mltable_reads import READS
from mpibatch.core.path_columns import path_columns

if TYPE_CHECKING:
    import pandas as pd

_ROWS = "write the rows that are wanted to a file of their own, or let run() pass over the others"


class DataType:
    """Types of columns, for `set_column_types`."""

    @staticmethod
    def to_bool(true_values: Any = None, false_values: Any = None, mismatch_as: Any = None) -> str:
        need(
            "DataType.to_bool",
            not (true_values or false_values),
            "words of one's own: let run() convert the column",
        )
        return "boolean"

    @staticmethod
    def to_long() -> str:
        return "int"

    @staticmethod
    def to_float(decimal_mark: str = ".") -> str:
        need(
            "DataType.to_float",
            decimal_mark == ".",
            'another decimal mark: pass inputs={"csv": ..., "decimal": ","}',
        )
        return "float"

    @staticmethod
    def to_string() -> str:
        return "string"

    @staticmethod
    def to_datetime(formats: str | Sequence[str] | None = None) -> Any:
        """Dates that begin with the year; others `run()` has to convert."""
        return {"datetime": {"formats": formats}} if formats else "datetime"

    @staticmethod
    def to_stream(workspace: Any = None, escaped: bool = False) -> NoReturn:
        refuse("DataType.to_stream", "a column of paths is text: run() opens the files")


class TabularDataset(AbstractDataset):
    """Each row is an item; `run()` gets DataFrames."""

    @staticmethod
    def from_delimited_files(
        path: Place | Sequence[Place], validate: bool = True, include_path: bool = False,
        infer_column_types: bool | Mapping[str, Any] = True, set_column_types: Mapping[str, Any] | None = None,
        separator: str = ",", header: Any = True, partition_format: str | None = None,
        support_multi_line: bool = False, empty_as_string: bool = False, encoding: str = "utf8",
    ) -> TabularDataset:  # fmt: skip
        """CSV files. `header`: whether each file has one; or by words, as `all_files_same_headers`, `no_header`."""
        read = {
            "delimiter": separator,
            "header": _header(header),
            "encoding": encoding,
            "support_multi_line": support_multi_line,
            "empty_as_string": empty_as_string,
            "infer_column_types": infer_column_types,
            "include_path_column": include_path,
        }
        return _table(
            "from_delimited_files", "csv", path, read, set_column_types, partition_format, validate=validate
        )

    @staticmethod
    def from_parquet_files(
        path: Place | Sequence[Place], validate: bool = True, include_path: bool = False,
        set_column_types: Mapping[str, Any] | None = None, partition_format: str | None = None,
    ) -> TabularDataset:  # fmt: skip
        """Parquet files; folders named `key=value` are columns."""
        read = {"include_path_column": include_path}
        return _table(
            "from_parquet_files", "parquet", path, read, set_column_types, partition_format, validate=validate
        )

    @staticmethod
    def from_json_lines_files(
        path: Place | Sequence[Place], validate: bool = True, include_path: bool = False,
        set_column_types: Mapping[str, Any] | None = None, partition_format: str | None = None,
        invalid_lines: str = "error", encoding: str = "utf8",
    ) -> TabularDataset:  # fmt: skip
        """Files with a JSON object in each line."""
        read = {"invalid_lines": invalid_lines, "encoding": encoding, "include_path_column": include_path}
        return _table(
            "from_json_lines_files",
            "jsonl",
            path,
            read,
            set_column_types,
            partition_format,
            validate=validate,
        )

    @staticmethod
    def from_sql_query(*arguments: Any, **keywords: Any) -> NoReturn:
        refuse("TabularDataset.from_sql_query", "write what the query gives to Parquet files, and name these")

    @staticmethod
    def register_pandas_dataframe(
        dataframe: pd.DataFrame, target: DataPath | Datastore | tuple[Datastore, str], name: str,
        description: str | None = None, tags: dict[str, str] | None = None, show_progress: bool = True,
        row_group_size: int | None = None, make_target_path_unique: bool = True,
    ) -> TabularDataset:  # fmt: skip
        """Write it as a Parquet file into a datastore, and register that in the datastore's workspace."""
        from mpibatch.api.registered import next_version

        folder = absolute("register_pandas_dataframe", target)
        datastore = _datastore(target)
        if make_target_path_unique:
            folder = os.path.join(folder, f"{name}-{next_version(datastore.workspace, name)}")
        os.makedirs(folder, exist_ok=True)
        file = os.path.join(folder, f"{name}.parquet")
        dataframe.to_parquet(file, row_group_size=row_group_size)
        made = TabularDataset.from_parquet_files(file)
        return made.register(datastore.workspace, name, description, tags, create_new_version=True)

    def keep_columns(self, columns: str | Sequence[str], validate: bool = False) -> TabularDataset:
        return self._with(keep, [columns] if isinstance(columns, str) else list(columns), "keep_columns")

    def drop_columns(self, columns: str | Sequence[str]) -> TabularDataset:
        names = [columns] if isinstance(columns, str) else list(columns)
        known = self
        if "columns" not in self._source.options:  # Then those that the first file has.
            known = self._with(keep, [str(one) for one in self._head().columns], "drop_columns")
        return known._with(drop, names, "drop_columns")

    def _with(self, change: Any, value: Any, call: str) -> TabularDataset:
        old = self._source
        options = legal(f"TabularDataset.{call}", change, old.kind, old.options, value)
        return TabularDataset(
            Source(kind=old.kind, paths=old.paths, options=options, partition_format=old.partition_format)
        )

    def to_pandas_dataframe(
        self, on_error: str = "null", out_of_range_datetime: str = "null"
    ) -> pd.DataFrame:
        """All of it, in this process."""
        import pandas as pd

        from mpibatch.api.table_files import read_table

        frames = [read_table(file, self._source) for file in self._groups()]
        return pd.concat(frames, ignore_index=True)

    def _head(self) -> pd.DataFrame:
        from mpibatch.api.table_files import read_table

        return read_table(self._groups()[0], self._source)

    def _groups(self) -> list[str]:
        """What is read at once: a folder of Parquet, for the columns in its folders' names; else each file."""
        (first, *others) = self._source.paths
        hive = self._source.options.get("hive", True)
        if self._source.kind == "parquet" and hive and not others and os.path.isdir(first):
            return [first]
        return self._source.files()

    def partition_by(
        self, partition_keys: Sequence[str], target: DataPath | Datastore | tuple[Datastore, str],
        name: str | None = None, show_progress: bool = True, partition_as_file_dataset: bool = False,
    ) -> TabularDataset:  # fmt: skip
        """Write it as Parquet into folders `key=value`; the dataset of what is there then. All of it is read in this
        process.

        For tables that fit no memory: `partition_keys` and `shuffle: true` in a job, which sorts them on its workers.
        """
        call = "TabularDataset.partition_by"
        need(
            call,
            not partition_as_file_dataset,
            "partition_as_file_dataset=True: name the folder by FileDataset.from_files",
        )
        folder = absolute(call, target).rstrip("/")
        if os.path.isdir(folder) and os.listdir(folder):
            raise ExistsError(f"{call}: {folder} holds something already: name an empty place")
        frame = self.to_pandas_dataframe()
        missing = [key for key in partition_keys if key not in frame.columns]
        need(
            call,
            not missing,
            f"no column is called {', '.join(map(str, missing))}; there are {list(frame.columns)}",
        )
        frame.to_parquet(folder, partition_cols=list(partition_keys))
        form = "/".join(f"{key}={{{key}}}" for key in partition_keys) + "/*.parquet"
        # Not as `path_columns`: the names of such folders give numbers back as numbers.
        made = TabularDataset(Source(kind="parquet", paths=[f"{folder}/"], partition_format=form))
        if name is not None:
            return made.register(_datastore(target).workspace, name, create_new_version=True)
        return made

    def get_partition_key_values(self, partition_keys: Sequence[str] | None = None) -> list[dict[str, str]]:
        """The combinations that the paths have, in the order of the files. Times are as in ISO 8601."""
        form = self._source.partition_format
        call = "TabularDataset.get_partition_key_values"
        need(call, form is not None, "the dataset has no partition_format: make it with one")
        columns = path_columns(form or "")
        keys = list(partition_keys or columns.names)
        unknown = [key for key in keys if key not in columns.names]
        need(call, not unknown, f"{unknown} are none of {list(columns.names)}")
        found: dict[tuple[str, ...], None] = {}
        for file in map(os.fsencode, self._source.files()):
            values = columns.values(file)
            if values is None:
                raise ApiError(
                    f"{call}: {os.fsdecode(file)} does not end as the partition_format says, {form}"
                )
            found[tuple(values[key] for key in keys)] = None
        return [dict(zip(keys, values, strict=True)) for values in found]

    def filter(self, expression: Any) -> NoReturn:
        refuse("TabularDataset.filter", _ROWS)

    def _part(self, call: str, part: slice) -> NoReturn:
        refuse(f"TabularDataset.{call}", f"{_ROWS}; ds.to_pandas_dataframe() gives all of them")

    def take_sample(self, probability: float, seed: int | None = None) -> NoReturn:
        refuse("TabularDataset.take_sample", _ROWS)

    def random_split(self, percentage: float, seed: int | None = None) -> NoReturn:
        refuse("TabularDataset.random_split", _ROWS)


def _datastore(target: DataPath | Datastore | tuple[Datastore, str]) -> Datastore:
    match target:
        case (Datastore() as datastore, _) | (Datastore() as datastore):
            return datastore
        case DataPath():
            return target.datastore
    raise ApiError(f"target is {target!r}: it must be a place in a datastore, like (datastore, 'tables/')")


_READ_BY = {"csv": "read_delimited", "parquet": "read_parquet", "jsonl": "read_json_lines"}


def _table(
    call: str, kind: Kind, path: Any, read: dict[str, Any], column_types: Mapping[str, Any] | None,
    partition_format: str | None, *, validate: bool,
) -> TabularDataset:  # fmt: skip
    call = f"TabularDataset.{call}"
    options = legal(call, READS[_READ_BY[kind]], read).options
    if column_types:
        types = [{"columns": [name], "column_type": kind} for name, kind in column_types.items()]
        options = legal(f"{call}: set_column_types", convert, kind, options, types)
    return TabularDataset(source(call, kind, path, options, partition_format, validate=validate))


def _header(header: Any) -> str:
    if isinstance(header, bool):
        return "all_files_same_headers" if header else "no_header"
    word = str(getattr(header, "name", header)).lower()  # Also a member of the reference's enumeration.
    known = {
        "all_files_have_same_headers": "all_files_same_headers",
        "only_first_file_has_headers": "from_first_file",
        "no_headers": "no_header",
        "combine_all_files_headers": "all_files_different_headers",
    }
    if isinstance(header, int):
        raise ApiError(f"from_delimited_files: header is {header}: True, False, or words like no_header")
    return known.get(word, word)
