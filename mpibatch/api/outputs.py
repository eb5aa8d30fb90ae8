"""What a step makes and others read: `PipelineData`, `OutputFileDatasetConfig`, and how the next step reads it.

Sources: Microsoft's public reference of azureml.pipeline.core.PipelineData and azureml.data.output_dataset_config.
Where an output lies is decided when a pipeline is submitted; here it has a name only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpibatch.api.refusals import need
from mpibatch.api.registry import check_name
from mpibatch.api.sources import absolute
from mpibatch.api.tabular import TabularDataset

ANYWHERE = "/"
"""A path to make a table's options with, which are all that is taken of it."""


class _Output:
    """What both kinds have in common: how a later step reads it."""

    def __init__(self, name: str) -> None:
        self._name = check_name("output", name)

    @property
    def name(self) -> str:
        return self._name

    def element(self, path: str) -> dict[str, Any]:
        """An element of `inputs` for the step that reads it from `path`: each file is an item."""
        return {"files": path}

    def as_input(self, input_name: str | None = None) -> OutputRead:
        return OutputRead(self, input_name or self.name)

    as_named_input = as_input

    def as_download(
        self, input_name: str | None = None, path_on_compute: str | None = None, overwrite: bool | None = None
    ) -> OutputRead:
        return OutputRead(self, input_name or self.name, mode="download")

    def as_dataset(self) -> OutputRead:
        return OutputRead(self, self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class PipelineData(_Output):
    """What a step makes, by a name: its rows, or a folder that its script writes into."""

    def __init__(
        self, name: str, datastore: Any = None, output_name: str | None = None, output_mode: str = "mount",
        output_path_on_compute: str | None = None, output_overwrite: bool | None = None,
        data_type: str | None = None, is_directory: bool | None = None, pipeline_output_name: str | None = None,
        training_output: Any = None,
    ) -> None:  # fmt: skip
        need("PipelineData", training_output is None, "training_output: there are no training steps here")
        super().__init__(output_name or name)
        self.datastore = datastore
        self.output_mode = output_mode
        self.data_type = data_type
        self.pipeline_output_name = pipeline_output_name

    def as_mount(self, input_name: str | None = None) -> OutputRead:
        return OutputRead(self, input_name or self.name)


class OutputFileDatasetConfig(_Output):
    """A folder that a step makes. `destination`: where it is to lie, a path or `(datastore, "folder/{run-id}")`."""

    def __init__(
        self, name: str | None = None, destination: Any = None, source: Any = None,
        partition_format: str | None = None,
    ) -> None:  # fmt: skip
        need(
            "OutputFileDatasetConfig",
            source is None,
            "source: a step's folder has no other place here: leave it out",
        )
        super().__init__(name or f"output_{next(_numbers)}")
        self.destination = None if destination is None else absolute("OutputFileDatasetConfig", destination)
        self.partition_format = partition_format
        self.registered_as: str | None = None
        """The name under which it is registered in the workspace when the run is complete."""

    def as_mount(self, disable_metadata_cache: bool = False) -> OutputFileDatasetConfig:
        """It is written where it stays."""
        return self

    def as_upload(self, overwrite: bool = False, source_globs: Any = None) -> OutputFileDatasetConfig:
        return self

    def register_on_complete(
        self, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> OutputFileDatasetConfig:
        self.registered_as = check_name("dataset", name)
        return self

    def read_delimited_files(self, **options: Any) -> OutputRead:
        return self.as_input().parse_delimited_files(**options)

    def read_parquet_files(self, **options: Any) -> OutputRead:
        return self.as_input().parse_parquet_files(**options)


OutputDatasetConfig = OutputFileDatasetConfig


class OutputRead:
    """A step's output as the input of another: under a name, and as files or as a table."""

    def __init__(
        self, output: _Output, name: str, *, table: TabularDataset | None = None, mode: str = "mount"
    ) -> None:
        self.output = output
        self.name = check_name("input", name)
        self._table = table
        self._mode = mode

    def element(self, path: str) -> dict[str, Any]:
        """An element of `inputs` that reads it from `path`, which may be one that stands for it yet."""
        if self._table is None:
            return self.output.element(path) | ({"mode": "download"} if self._mode == "download" else {})
        element = self._table.job_input()
        return {kind: path if kind == next(iter(element)) else value for kind, value in element.items()}

    def as_named_input(self, name: str) -> OutputRead:
        return OutputRead(self.output, name, table=self._table, mode=self._mode)

    def as_mount(self, *ignored: Any, **also: Any) -> OutputRead:
        return OutputRead(self.output, self.name, table=self._table)

    def as_download(self, *ignored: Any, **also: Any) -> OutputRead:
        return OutputRead(self.output, self.name, table=self._table, mode="download")

    as_direct = as_mount

    def parse_delimited_files(self, **options: Any) -> OutputRead:
        """Its rows are items; options as of `TabularDataset.from_delimited_files`."""
        return self._of(TabularDataset.from_delimited_files(ANYWHERE, **_of_tables(options)))

    def parse_parquet_files(self, **options: Any) -> OutputRead:
        return self._of(TabularDataset.from_parquet_files(ANYWHERE, **_of_tables(options)))

    def parse_json_lines_files(self, **options: Any) -> OutputRead:
        return self._of(TabularDataset.from_json_lines_files(ANYWHERE, **_of_tables(options)))

    read_delimited_files = parse_delimited_files
    read_parquet_files = parse_parquet_files

    def keep_columns(self, columns: Any) -> OutputRead:
        need(
            "keep_columns",
            self._table is not None,
            f"{self.output!r} is read as files: parse_delimited_files() first",
        )
        assert self._table is not None
        return self._of(self._table.keep_columns(columns))

    def _of(self, table: TabularDataset) -> OutputRead:
        return OutputRead(self.output, self.name, table=table)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.output!r}, {self.name})"


def _of_tables(options: dict[str, Any]) -> dict[str, Any]:
    """The same options, by the names that factories of datasets have for them."""
    given = {
        "support_multi_line" if name == "quoted_line_breaks" else name: value
        for name, value in options.items()
    }
    given.pop("file_extension", None)
    return given | {"validate": False}


_numbers = iter(range(1, 1_000_000))
