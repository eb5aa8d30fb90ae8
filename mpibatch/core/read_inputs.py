"""The job file's `inputs`, read and checked. Pure: nothing is looked up on disk here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from mpibatch.core.job_inputs import (
    COUNT,
    KINDS,
    TABLE_KINDS,
    ArchiveInput,
    CountInput,
    FilesInput,
    JobInput,
    ListInput,
    Mode,
    sort_of,
)
from mpibatch.core.partition_keys import read_path_format
from mpibatch.core.places import Places
from mpibatch.core.settings import Problems, Wrong, choice, did_you_mean, flag, shown, text, whole_number
from mpibatch.core.table_keys import OPTIONS, option_hint, read_options
from mpibatch.core.table_values import unique_names
from mpibatch.core.tables import TableInput, TableKind

_FILE_OPTIONS: dict[str, tuple[str, ...]] = {"files": ("members", "as", "mode"), "list": ("check", "mode")}
_EXAMPLE = "[{files: images/}]"
_MODE = choice("mount", "download")
_COUNT = whole_number(1, of="items, the numbers from 0 on")


def read_inputs(
    problems: Problems, value: Any, places: Places, partition_keys: Collection[str] = ()
) -> list[JobInput]:
    if not isinstance(value, list | tuple):
        hint = "; each input is an element of a list: put - before it" if isinstance(value, Mapping) else ""
        problems.add("inputs", f"is {shown(value)}: must be a list, like {_EXAMPLE}{hint}")
        return []
    if not value:
        problems.add("inputs", f"is an empty list: there must be at least one input, like {_EXAMPLE}")
    _check_mixture(problems, value)
    reader = _Reader(problems, places, list(partition_keys))
    read = (reader.read(f"inputs.{i}", element) for i, element in enumerate(value))
    return [one for one in read if one is not None]


def _check_mixture(problems: Problems, elements: list[Any] | tuple[Any, ...]) -> None:
    first: tuple[int, str] | None = None
    for number, element in enumerate(elements):
        sort = sort_of(element)
        if first is None and sort is not None:
            first = number, sort
        elif first is not None and sort not in (None, first[1]):
            beside = f"has {sort}, and inputs.{first[0]} has {first[1]}"
            why = "as run() gets something else of each; make two jobs of them"
            problems.add(f"inputs.{number}", f"{beside}: one job's inputs are all of one sort, {why}")
            return


class _Reader:
    """Reads the elements of `inputs`."""

    def __init__(self, problems: Problems, places: Places, partition_keys: list[str]) -> None:
        self._problems = problems
        self._places = places
        self._partition_keys = partition_keys

    def read(self, key: str, value: Any) -> JobInput | None:
        problems = self._problems
        if isinstance(value, str):
            problems.add(key, f"is {shown(value)}: say what it is, like {{files: {shown(value)}}}")
            return None
        mapping = problems.mapping(key, value, "{files: images/}")
        kinds = [kind for kind in KINDS if kind in mapping]
        if len(kinds) != 1:
            if isinstance(value, Mapping):
                _add_kind_problem(problems, key, mapping, kinds)
            return None
        kind = kinds[0]
        options = _FILE_OPTIONS.get(kind, ()) if kind not in TABLE_KINDS else tuple(OPTIONS[kind])

        def hint(option: str, value: Any) -> str | None:
            return _option_hint(kind, option, value)

        problems.unknown_keys(f"{key}.", mapping, (kind, *options), hint)
        if kind == COUNT:
            return self._count(key, mapping)
        if kind == "list":
            return self._list(key, mapping)
        if kind in TABLE_KINDS:
            return self._table(key, cast("TableKind", kind), mapping)
        return self._archives(key, mapping) if "members" in mapping else self._files(key, mapping)

    def _paths(self, key: str, value: Any) -> tuple[list[str], str] | None:
        """What is in the job file, each a path as it stands there, and all as one text."""
        if not isinstance(value, list | tuple):
            path = self._problems.take(key, value, text)
            return None if path is None else ([path], path)
        if not value:
            self._problems.add(key, "is an empty list: must name at least one folder, glob or file")
        taken = [self._problems.take(f"{key}.{i}", element, text) for i, element in enumerate(value)]
        paths: list[str] = [path for path in taken if path is not None]
        return paths, ", ".join(paths)

    def _patterns(self, key: str, value: Any) -> tuple[list[str], str] | None:
        named = self._paths(key, value)
        return None if named is None else ([self._places.pattern(path) for path in named[0]], named[1])

    def _files(self, key: str, mapping: Mapping[Any, Any]) -> FilesInput | None:
        if "as" in mapping:
            why = "it says what run() gets of members of archives, and there is no members"
            self._problems.add(f"{key}.as", f"is {shown(mapping['as'])}: {why}")
        where, value = f"{key}.files", mapping["files"]
        mode = self._mode(key, mapping)
        if not self._partition_keys:
            found = self._patterns(where, value)
            return (
                None
                if found is None or mode is None
                else FilesInput(files=found[0], text=found[1], mode=mode)
            )
        named = self._paths(where, value)
        if named is None or mode is None:
            return None
        keys = [f"{where}.{i}" for i in range(len(named[0]))] if isinstance(value, list | tuple) else [where]
        formats = [
            read_path_format(self._problems, one, path, self._partition_keys, self._places)
            for one, path in zip(keys, named[0])
        ]
        return FilesInput(files=[one for one in formats if one is not None], text=named[1], mode=mode)

    def _mode(self, key: str, mapping: Mapping[Any, Any]) -> Mode | None:
        return cast("Mode | None", self._problems.take(f"{key}.mode", mapping.get("mode", "mount"), _MODE))

    def _archives(self, key: str, mapping: Mapping[Any, Any]) -> ArchiveInput | None:
        self._refuse_partition_keys(f"{key}.members", mapping["members"])
        if self._mode(key, mapping) == "download":
            why = "members of archives are unpacked to scratch anyway (as: path), or read into memory (as: bytes)"
            self._problems.add(f"{key}.mode", f"is 'download': {why}; leave it out")
        found = self._patterns(f"{key}.files", mapping["files"])
        members = self._problems.take(f"{key}.members", mapping["members"], _globs)
        as_ = self._problems.take(f"{key}.as", mapping.get("as", "path"), choice("path", "bytes"))
        if found is None or members is None or as_ is None:
            return None
        return ArchiveInput(files=found[0], members=members, as_=as_, text=found[1])

    def _list(self, key: str, mapping: Mapping[Any, Any]) -> ListInput | None:
        self._refuse_partition_keys(f"{key}.list", mapping["list"])
        path = self._problems.take(f"{key}.list", mapping["list"], _one_path)
        check = self._problems.take(f"{key}.check", mapping["check"], flag) if "check" in mapping else True
        mode = self._mode(key, mapping)
        if path is None or check is None or mode is None:
            return None
        return ListInput(list=self._places.absolute(path), check=check, text=path, mode=mode)

    def _count(self, key: str, mapping: Mapping[Any, Any]) -> CountInput | None:
        self._refuse_partition_keys(f"{key}.{COUNT}", mapping[COUNT])
        count = self._problems.take(f"{key}.{COUNT}", mapping[COUNT], _COUNT)
        return None if count is None else CountInput(count=count)

    def _table(self, key: str, kind: TableKind, mapping: Mapping[Any, Any]) -> TableInput | None:
        found = self._patterns(f"{key}.{kind}", mapping[kind])
        options = read_options(self._problems, key, kind, mapping)
        if found is None or options is None:
            return None
        return TableInput(kind=kind, files=found[0], text=found[1], options=options)

    def _refuse_partition_keys(self, key: str, value: Any) -> None:
        if self._partition_keys:
            why = "partition_keys are for files: with a path format, and for tables; not for this"
            self._problems.add(key, f"is {shown(value)}: {why}")


def _add_kind_problem(problems: Problems, key: str, mapping: Mapping[Any, Any], kinds: list[str]) -> None:
    if kinds:
        problems.add(key, f"has {' and '.join(kinds)}: one input has one kind; make it {len(kinds)} elements")
        return
    near = next((words for name in mapping if (words := did_you_mean(name, KINDS))), "")
    problems.add(key, f"is {shown(mapping)}: must have one of {', '.join(KINDS)}{near}")


def _option_hint(kind: str, option: str, value: Any) -> str | None:
    owners = [owner for owner, options in _FILE_OPTIONS.items() if option in options]
    if option == "members":
        return "; members are files in archives: they belong to files: inputs, like {files: data/*.tar}"
    if option == "check":
        return "; check belongs to list: inputs"
    if kind == COUNT:
        return f"; a count has no options, as its items have no data: write {{{COUNT}: 100}}"
    if option == "mode":
        why = "of a table each mini-batch reads its own range, once and in order, so that copies would gain nothing"
        return f"; mode belongs to files: and list: inputs: {why}"
    return option_hint(kind, option, value, owners)


def _globs(value: Any) -> list[str]:
    if isinstance(value, bool):
        raise Wrong('must be a glob or a list of them; all members are "**"')
    return unique_names(value)


def _one_path(value: Any) -> str:
    if isinstance(value, list | tuple):
        raise Wrong(
            "must be the path of one text file that has a path in each line; for a list here use files:"
        )
    return text(value)
