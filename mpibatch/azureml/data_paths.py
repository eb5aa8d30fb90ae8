"""`run.input_datasets["labels"]`: a path that also takes the calls that scripts make on a dataset."""

from __future__ import annotations

import difflib
import glob
import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mpibatch.azureml.refusal import refuse

if TYPE_CHECKING:
    from pandas import DataFrame


class DataPath(str):
    """The path of a side input or side output. All of it is there already: nothing is mounted or copied for it."""

    __slots__ = ()

    @property
    def path(self) -> str:
        return str(self)

    mount_point = path

    def as_mount(self, path_on_compute: str | None = None) -> DataPath:
        return self

    as_download = as_hdfs = as_upload = as_direct = as_mount

    def as_named_input(self, name: str) -> DataPath:
        return self

    def mount(self, mount_point: str | None = None, **others: object) -> DataPath:
        """To be used by `with`, or by `start` and `stop`; it is where it is, whatever `mount_point` says."""
        return self

    def start(self) -> None:
        """It is there."""

    def stop(self) -> None:
        """It stays."""

    def __enter__(self) -> DataPath:
        return self

    def __exit__(self, *error: object) -> None:
        """It stays."""

    def to_path(self) -> list[str]:
        """All files, as paths below it with a slash in front."""
        return [f"/{os.path.relpath(file, self._root)}" for file in self._files()]

    def download(
        self, target_path: str | None = None, overwrite: bool = False, **others: object
    ) -> list[str]:
        """Copy all files there, or to a folder here; the paths of the copies."""
        folder = target_path or os.path.join(os.getcwd(), "downloaded")
        copies = []
        for file in self._files():
            copy = os.path.join(folder, os.path.relpath(file, self._root))
            if os.path.exists(copy) and not overwrite:
                raise FileExistsError(f"download: {copy} is there already; overwrite=True writes over it")
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            copies.append(shutil.copyfile(file, copy))
        return copies

    def to_pandas_dataframe(self, **others: object) -> DataFrame:
        """All files below each other: CSV, TSV, JSON lines or Parquet, by how their names end."""
        import pandas as pd

        frames = [_read(file) for file in self._files()]
        if not frames:
            raise FileNotFoundError(f"to_pandas_dataframe(): there is no file in {self}")
        return pd.concat(frames, ignore_index=True)

    @property
    def _root(self) -> str:
        return str(self) if os.path.isdir(self) else os.path.dirname(self)

    def _files(self) -> list[str]:
        if not os.path.isdir(self):
            return [str(self)]
        found = glob.glob("**", root_dir=str(self), recursive=True)
        return sorted(file for name in found if os.path.isfile(file := os.path.join(self, name)))


def _read(file: str) -> DataFrame:
    import pandas as pd

    match os.path.splitext(file)[1].lower():
        case ".csv":
            return pd.read_csv(file)
        case ".tsv":
            return pd.read_csv(file, sep="\t")
        case ".jsonl":
            return pd.read_json(file, lines=True)
        case ".parquet":
            return pd.read_parquet(file)
        case ending:
            return refuse(f"to_pandas_dataframe() of a file that ends in {ending or 'nothing'} ({file})")


class DataPaths(Mapping[str, DataPath]):
    """By name. `key`: where the job file has them."""

    def __init__(self, paths: Mapping[str, bytes], key: str) -> None:
        self._paths = {name: DataPath(os.fsdecode(path)) for name, path in paths.items()}
        self._key = key

    def __getitem__(self, name: str) -> DataPath:
        if name in self._paths:
            return self._paths[name]
        near = difflib.get_close_matches(str(name), self._paths, 1)
        meant = f" (is {near[0]} meant?)" if near else ""
        raise _Missing(
            f"the job has no {self._key} called {name}: it has {', '.join(self._paths) or 'none'}{meant}; add it in"
            f" the job file, like {self._key}: {{{name}: path}}"
        )

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_paths", ()):
            return self._paths[name]
        raise AttributeError(name)

    def __iter__(self) -> Any:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class _Missing(KeyError):
    def __str__(self) -> str:
        return str(self.args[0])
