"""What a dataset is made of: a kind, absolute paths, and options as a job file has them. Paths that people give."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from mpibatch.api.datastores import DataPath, Datastore
from mpibatch.api.refusals import ApiError, refuse
from mpibatch.core.azure_paths import is_uri
from mpibatch.core.mltable_paths import of_tables, path_formats
from mpibatch.core.path_columns import names_in
from mpibatch.core.path_format import parse
from mpibatch.core.settings import Problems, Wrong, shown
from mpibatch.core.table_keys import read_options
from mpibatch.core.tables import CsvOptions
from mpibatch.inputs.files import find_files
from mpibatch.inputs.origin import Origin
from mpibatch.inputs.parquet_hive import partition
from mpibatch.inputs.path_values import NoSuchTime, find_values
from mpibatch.inputs.walk import Remarks

Kind = Literal["files", "csv", "jsonl", "parquet"]
Place = str | os.PathLike[str] | tuple[Datastore, str]
"""What stands for a path: also a place in a datastore, written as a tuple."""
T = TypeVar("T")

_WAY = "copy the data to a folder here, and give its path"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a dataset's data lie, and how they are read."""

    kind: Kind
    paths: list[str]
    """Folders, globs and files, absolute."""
    options: dict[str, Any] = {}
    """Of an element of `inputs`."""
    partition_format: str | None = None
    hive_keys: list[str] = []
    """Of Parquet: columns that are written as folders `key=value`, by `TabularDataset.partition_by`."""

    def element(self, partition_keys: Collection[str] = ()) -> dict[str, Any]:
        """An element of a job file's `inputs`, for a job with these `partition_keys`."""
        paths = self.paths
        if self.kind == "files" and partition_keys:
            paths = self.formats(partition_keys)
        return {self.kind: paths[0] if len(paths) == 1 else paths, **self.options}

    def formats(self, partition_keys: Collection[str] = ()) -> list[str]:
        """Path formats, as files with partition keys have them."""
        if self.partition_format is None:
            raise ApiError(
                f"partition_keys {', '.join(partition_keys)}: the dataset of {self.paths[0]} has no partition_format;"
                ' make it with one: Dataset.File.from_files(path, partition_format="{user}/{season}.wav")'
            )
        folders = [f"{path}/" if os.path.isdir(path) else path for path in self.paths]
        formats = [
            legal("partition_format", path_formats, [path], _without_base(path, self.partition_format))
            for path in folders
        ]
        return [path for (path,) in formats]

    def keys(self) -> list[str]:
        """The names in the partition format; none without one."""
        if self.partition_format is None:
            return list(self.hive_keys)
        if self.kind != "files":
            return list(names_in(self.partition_format))
        return list(parse(self.formats()[0]).fields)

    def values(self, path: bytes) -> Mapping[str, str | None]:
        """What the path of a table's file says of `keys`."""
        if self.partition_format is None:
            return dict(partition(path))
        try:
            values = find_values(CsvOptions(path_columns=self.partition_format), path) or {}
        except NoSuchTime as error:
            raise ApiError(f"{os.fsdecode(path)}: {error}") from None
        return {name: str(value) for name, value in values.items()}

    def files(self) -> list[str]:
        """All files, in the order in which a run takes them. InputError where there is none."""
        origin = Origin("path", self.paths[0] if len(self.paths) == 1 else ", ".join(self.paths))
        found = find_files(self.paths, origin, Remarks())
        return [os.fsdecode(folder + name) for folder, names in found for name in names]

    def root(self) -> str:
        """The folder below which all of it lies."""
        folders = [_literal(path) for path in self.paths]
        return os.path.commonpath(folders) if len(folders) > 1 else folders[0]


def source(
    call: str, kind: Kind, path: Place | Sequence[Place], options: dict[str, Any], partition_format: str | None,
    *, validate: bool,
) -> Source:  # fmt: skip
    """`validate`: look whether there is anything, as all classes of datasets do unless told otherwise."""
    listed = _listed(path)
    if not listed:
        raise ApiError(f"{call}: path is an empty list: name at least one folder, glob or file")
    if partition_format is not None and kind != "files":
        options = legal(f"{call}: partition_format", of_tables, kind, options, partition_format)
    made = Source(
        kind=kind,
        paths=[absolute(call, one) for one in listed],
        options=options,
        partition_format=partition_format,
    )
    made.keys()  # So that a format that cannot be is told of here.
    if kind != "files":
        check_options(call, kind, options)
    if validate:
        made.files()
    return made


def check_options(call: str, kind: Kind, options: dict[str, Any]) -> None:
    """Raises ApiError where the job that is made of a table later would refuse them."""
    assert kind != "files"
    problems = Problems(call)
    read_options(problems, "its input", kind, options)
    if problems.lines:
        raise ApiError(f"{call}: {'; '.join(problems.lines)}")


def absolute(call: str, place: Any) -> str:
    """A slash at the end stays, as it says that a folder is meant."""
    if isinstance(place, tuple) and len(place) == 2 and isinstance(place[0], Datastore):
        place = DataPath(place[0], place[1])
    if isinstance(place, Datastore):
        place = DataPath(place, None)
    if not isinstance(place, str | os.PathLike):
        raise ApiError(
            f"{call}: path is {shown(place)}: give a path, a list of paths, or a place in a datastore,"
            ' like (datastore, "images/")'
        )
    path = os.path.expanduser(os.fspath(place))
    if not path:
        raise ApiError(f"{call}: path is empty: name a folder, a glob or a file")
    if is_uri(path):
        refuse(f"{call}({path!r})", _WAY)
    if glob.has_magic(path) and not os.path.isabs(path):
        return os.path.join(glob.escape(os.getcwd()), path)
    return os.path.abspath(path) + ("/" if path.endswith("/") and path != "/" else "")


def legal(call: str, function: Callable[..., T], *arguments: Any) -> T:
    """What a function of the core gives; its complaint as an ApiError."""
    try:
        return function(*arguments)
    except Wrong as wrong:
        raise ApiError(f"{call}: {wrong}") from None


def _listed(path: Any) -> list[Any]:
    is_place = isinstance(path, tuple) and len(path) == 2 and isinstance(path[0], Datastore)
    return list(path) if isinstance(path, list | tuple) and not is_place else [path]


def _literal(path: str) -> str:
    """What stands in front of the first glob, down to a folder."""
    if not glob.has_magic(path):
        return path.rstrip("/") if os.path.isdir(path) else os.path.dirname(path)
    parts = path.split("/")
    magic = next(
        number for number, part in enumerate(parts) if glob.has_magic(part) and not _is_escaped(part)
    )
    return "/".join(part if not glob.has_magic(part) else _unescaped(part) for part in parts[:magic]) or "/"


def _is_escaped(part: str) -> bool:
    return glob.escape(_unescaped(part)) == part


def _unescaped(part: str) -> str:
    for character in "*?[":
        part = part.replace(f"[{character}]", character)
    return part


def _without_base(path: str, partition_format: str) -> str:
    """The format without the folders at its beginning that a path, whose folder is taken whole, ends with already."""
    parts = [part for part in partition_format.split("/") if part not in ("", ".")]
    whole = path.endswith("/") or "**" in path or os.path.isdir(path)
    base = _literal(path).split("/")
    plain = next((number for number, part in enumerate(parts) if "{" in part), len(parts))
    for number in range(plain, 0, -1):
        if whole and base[-number:] == parts[:number]:
            return "/".join(parts[number:])
    return "/".join(parts)
