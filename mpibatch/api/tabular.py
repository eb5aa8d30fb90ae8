"""`TabularDataset`: tables whose rows are items, named as the reference's; how they are read become our options.

Sources: Microsoft's public reference of azureml.data.TabularDataset and TabularDatasetFactory. What an option means
is decided where MLTable files are translated (`core.mltable_reads`), so that both ways of saying it mean the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mpibatch.api.data import AbstractDataset
from mpibatch.api.datastores import DataPath, Datastore
from mpibatch.api.refusals import ApiError, ExistsError, need, refuse
from mpibatch.api.sources import Kind, Place, Source, absolute, check_options, legal, source
from mpibatch.core.mltable_columns import convert, drop, keep
from mpibatch.core.mltable_reads import READS
from mpibatch.core.tables import TableInput, TableOptions
from mpibatch.errors import InputError
from mpibatch.inputs.origin import Origin
from mpibatch.inputs.survey import Unreadable

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
            first = next(self._frames("drop_columns"), None)
            need(
                "TabularDataset.drop_columns", first is not None, "the files have no rows: name those to keep"
            )
            known = self._with(keep, [str(one) for one in first.columns], "drop_columns")  # type: ignore[union-attr]
        return known._with(drop, names, "drop_columns")

    def _with(self, change: Any, value: Any, call: str) -> TabularDataset:
        old = self._source
        options = legal(f"TabularDataset.{call}", change, old.kind, old.options, value)
        check_options(f"TabularDataset.{call}", old.kind, options)
        return TabularDataset(msgspec.structs.replace(old, options=options))

    def to_pandas_dataframe(
        self, on_error: str = "null", out_of_range_datetime: str = "null"
    ) -> pd.DataFrame:
        """All of it, in this process."""
        import pandas as pd

        frames = list(self._frames("to_pandas_dataframe"))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _frames(self, call: str) -> Iterator[pd.DataFrame]:
        """The rows of each file, as a run reads them."""
        from mpibatch.runtime.table_here import read_table

        call = f"TabularDataset.{call}"
        try:
            for batch in read_table(*self._input()):
                if batch.bad:
                    first = batch.bad[0].error.message
                    raise ApiError(f"{call}: {len(batch.bad):,} rows cannot be read: {first}")
                yield batch.data
        except (InputError, Unreadable) as error:
            raise ApiError(f"{call}: {error}") from error

    def _input(self) -> tuple[TableInput, Origin]:
        source = self._source
        assert source.kind != "files"
        text = ", ".join(source.paths)
        options: TableOptions = msgspec.convert({"type": source.kind, **source.options}, TableOptions)
        return TableInput(kind=source.kind, files=source.paths, text=text, options=options), Origin(
            "path", text
        )

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
        # Not as `path_columns`: the names of such folders give numbers back as numbers.
        made = TabularDataset(
            Source(kind="parquet", paths=[f"{folder}/"], hive_keys=[str(key) for key in partition_keys])
        )
        if name is not None:
            return made.register(_datastore(target).workspace, name, create_new_version=True)
        return made

    def get_partition_key_values(
        self, partition_keys: Sequence[str] | None = None
    ) -> list[dict[str, str | None]]:
        """The combinations that the paths have, in the order of the files, as in `context.partition_key_value`."""
        from mpibatch.runtime.table_here import table_files

        call = "TabularDataset.get_partition_key_values"
        there = self.partition_keys
        need(call, bool(there), "the dataset has no partition_format: make it with one")
        keys = [partition_keys] if isinstance(partition_keys, str) else list(partition_keys or there)
        unknown = [key for key in keys if key not in there]
        need(call, not unknown, f"{unknown} are none of {there}")
        found: dict[tuple[str | None, ...], None] = {}
        for file in table_files(*self._input()):
            values = self._source.values(file.name)
            if not set(keys) <= set(values):
                raise ApiError(f"{call}: {os.fsdecode(file.name)} does not end as the partition_format says")
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
