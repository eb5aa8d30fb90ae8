"""`Dataset`, `FileDataset` and `DatasetConsumptionConfig`: data to be partitioned, named as the reference's.

Sources: Microsoft's public reference of azureml.core.Dataset, azureml.data.FileDataset and
azureml.data.dataset_consumption_config. Nothing is copied or mounted: a dataset is a name for what lies in folders.
"""

from __future__ import annotations

import copy
import glob
import os
import random
import zlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Self

from mpibatch.api.datastores import DataPath, Datastore, copy_file
from mpibatch.api.refusals import ApiError, need, refuse
from mpibatch.api.sources import Place, Source, absolute, source
from mpibatch.core.path_format import parse

if TYPE_CHECKING:
    import pandas as pd

    from mpibatch.api.workspace import Workspace


class AbstractDataset:
    """What all datasets have in common."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name: str | None = None
        self.version: int | None = None
        self.description = ""
        self.tags: dict[str, str] = {}

    def job_input(self, partition_keys: Collection[str] = ()) -> dict[str, Any]:
        """An element of a job file's `inputs`; `partition_keys`: the job's."""
        return self._source.element(partition_keys)

    @property
    def partition_keys(self) -> list[str]:
        return self._source.keys()

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """The name under which a script finds it: `side_inputs`, `Run.get_context().input_datasets`."""
        return DatasetConsumptionConfig(name, self)

    def register(
        self, workspace: Workspace, name: str, description: str | None = None, tags: dict[str, str] | None = None,
        create_new_version: bool = False,
    ) -> Self:  # fmt: skip
        """Keep it under a name in the workspace. The data stay where they are.

        The same data once more are the same version; others need `create_new_version`.
        """
        from mpibatch.api.registered import register

        made = copy.copy(self)
        made.name, made.description, made.tags = name, description or "", dict(tags or {})
        made.version = register(
            workspace, name, made._source, made.description, made.tags, create_new_version
        )
        return made

    def skip(self, count: int) -> Self:
        return self._part("skip", slice(count, None))

    def take(self, count: int) -> Self:
        return self._part("take", slice(count))

    def _part(self, call: str, part: slice) -> Self:
        raise NotImplementedError

    def __repr__(self) -> str:
        named = f"{self.name}:{self.version}, " if self.name else ""
        return f"{type(self).__name__}({named}{', '.join(self._source.paths[:3])})"


class FileDataset(AbstractDataset):
    """Each file is an item."""

    @staticmethod
    def from_files(
        path: Place | Sequence[Place], validate: bool = True, partition_format: str | None = None,
        is_file: bool = False,
    ) -> FileDataset:  # fmt: skip
        """Folders with all that is below them, globs (`**` is any depth), files, or a list of such.

        `partition_format`: `{user}/{season}/{genre}.wav`, the end of each path, whose names can be `partition_keys`.
        """
        return FileDataset(
            source("FileDataset.from_files", "files", path, {}, partition_format, validate=validate)
        )

    @staticmethod
    def upload_directory(
        src_dir: str | os.PathLike[str], target: DataPath | Datastore | tuple[Datastore, str],
        pattern: str | None = None, overwrite: bool = False, show_progress: bool = True,
    ) -> FileDataset:  # fmt: skip
        """Copy a folder into a datastore; a dataset of what is there then."""
        call = "FileDataset.upload_directory"
        below = FileDataset.from_files(os.path.join(src_dir, pattern or "**"))
        base = os.path.abspath(os.path.expanduser(src_dir))
        folder = absolute(call, target)
        for file in below._source.files():
            copy_file(file, os.path.join(folder, os.path.relpath(file, base)), overwrite=overwrite)
        return FileDataset.from_files(folder)

    def side_path(self) -> str:
        """Where it is one file or one folder."""
        (path, *others) = self._source.paths
        if others or (glob.has_magic(path) and not os.path.exists(path)):
            raise ApiError(
                f"{self!r} is more than one path, and a side input is one file or folder: name the folder that holds"
                " them"
            )
        return path

    def to_path(self) -> list[str]:
        """All files, as paths below the folder that holds them, with a slash in front."""
        root = self._source.root()
        return [f"/{os.path.relpath(file, root)}" for file in self._source.files()]

    def download(
        self, target_path: str | os.PathLike[str] | None = None, overwrite: bool = False,
        ignore_not_found: bool = False,
    ) -> list[str]:  # fmt: skip
        """Copy all files to a folder (a new temporary one if none is named); the paths of the copies."""
        from tempfile import mkdtemp

        folder = os.path.abspath(os.path.expanduser(target_path or mkdtemp(prefix="dataset-")))
        root = self._source.root()
        return [
            copy_file(file, os.path.join(folder, os.path.relpath(file, root)), overwrite=overwrite)
            for file in self._source.files()
        ]

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """It is read where it lies: there is nothing to mount."""
        return DatasetConsumptionConfig(self._own_name(), self, "mount")

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Each mini-batch's files are copied to scratch, while the one before runs."""
        return DatasetConsumptionConfig(self._own_name(), self, "download")

    def _own_name(self) -> str:
        """The same for the same data, and hardly ever that of others."""
        return self.name or f"input_{zlib.crc32(repr(self._source).encode()):08x}"

    def take_sample(self, probability: float, seed: int | None = None) -> FileDataset:
        chance = random.Random(seed)
        return self._of([file for file in self._source.files() if chance.random() < probability])

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[FileDataset, FileDataset]:
        """So much of the files, from 0 to 1, and the others."""
        chance = random.Random(seed)
        files = self._source.files()
        first = {file for file in files if chance.random() < percentage}
        return self._of([file for file in files if file in first]), self._of(
            [file for file in files if file not in first]
        )

    def get_partition_key_values(self, partition_keys: Sequence[str] | None = None) -> list[dict[str, str]]:
        """The combinations that there are, in the order of the files."""
        keys = list(partition_keys or self.partition_keys)
        formats = [parse(one) for one in self._source.formats(keys)]
        unknown = [key for key in keys if key not in formats[0].fields]
        need("get_partition_key_values", not unknown, f"{unknown} are none of {list(formats[0].fields)}")
        found: dict[tuple[str, ...], None] = {}
        for file in map(os.fsencode, self._source.files()):
            values = next((one for form in formats if (one := form.match(file)) is not None), None)
            if values is not None:
                found[tuple(values[key] for key in keys)] = None
        return [dict(zip(keys, values, strict=True)) for values in found]

    def _part(self, call: str, part: slice) -> FileDataset:
        return self._of(self._source.files()[part])

    def _of(self, files: list[str]) -> FileDataset:
        need("FileDataset", bool(files), f"there is no file left of {self!r}")
        return FileDataset(
            Source(
                kind="files",
                paths=files,
                options=self._source.options,
                partition_format=self._source.partition_format,
            )
        )

    def to_pandas_dataframe(self) -> pd.DataFrame:
        refuse(
            "FileDataset.to_pandas_dataframe",
            "its items are files; TabularDataset.from_delimited_files and its sisters read tables",
        )


class DatasetConsumptionConfig:
    """A dataset under a name, as a step takes it. `dataset` may be a pipeline's parameter or output as well."""

    def __init__(
        self, name: str, dataset: Any, mode: str = "direct", path_on_compute: str | None = None
    ) -> None:
        legal = ("direct", "mount", "download", "hdfs")
        need(
            "DatasetConsumptionConfig", mode in legal, f"mode is {mode!r}: must be one of {', '.join(legal)}"
        )
        need("DatasetConsumptionConfig", bool(name) and isinstance(name, str), f"name is {name!r}: name it")
        self.name = name
        self.dataset = dataset
        self.mode = mode
        self.path_on_compute = path_on_compute

    def of(self, dataset: Any) -> DatasetConsumptionConfig:
        """The same of another dataset: of the value of a parameter."""
        if isinstance(dataset, DatasetConsumptionConfig):
            dataset = dataset.dataset
        return DatasetConsumptionConfig(self.name, dataset, self.mode, self.path_on_compute)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(self.name, self.dataset, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(self.name, self.dataset, "download", path_on_compute)

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(name, self.dataset, self.mode, self.path_on_compute)

    def job_input(self, partition_keys: Collection[str] = ()) -> dict[str, Any]:
        element: dict[str, Any] = self._value("job_input").job_input(partition_keys)
        return self.with_mode(element)

    def with_mode(self, element: dict[str, Any]) -> dict[str, Any]:
        """An element of `inputs`, with its `mode` where that is asked for and means something."""
        copied = self.mode == "download" and "files" in element
        return element | {"mode": "download"} if copied else element

    def side_path(self) -> str:
        path: str = self._value("side_path").side_path()
        return path

    def _value(self, wanted: str) -> Any:
        """The dataset; a parameter's default, where nothing else has been put in its place."""
        value = getattr(self.dataset, "default_value", self.dataset)
        if isinstance(value, DatasetConsumptionConfig):
            value = value.dataset
        if not hasattr(value, wanted):
            raise ApiError(
                f"DatasetConsumptionConfig {self.name}: {value!r} is a {type(value).__name__}, and not a dataset here"
            )
        return value

    def __repr__(self) -> str:
        return f"DatasetConsumptionConfig({self.name}, {self.dataset!r}, {self.mode})"
