"""The job file's `inputs`: where items come from. Pure: nothing is looked up on disk here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mpibatch.core.places import Places
from mpibatch.core.settings import Problems, Wrong, did_you_mean, flag, shown, text

FILE_KINDS = ("files", "list")
TABLE_KINDS = ("csv", "jsonl", "parquet", "hdf5")
KINDS = FILE_KINDS + TABLE_KINDS
_OPTIONS: dict[str, tuple[str, ...]] = {"files": (), "list": ("check",)}
_EXAMPLE = "[{files: images/}]"


class FilesInput(msgspec.Struct, frozen=True, kw_only=True):
    """Each file is an item."""

    files: list[str]
    """Folders, globs or files: absolute; names that are not UTF-8 are spelled as `os.fsdecode` does."""
    text: str
    """As the job file has it, for messages and `context.dataset`."""


class ListInput(msgspec.Struct, frozen=True, kw_only=True):
    """Each line of a text file names a file, which is an item."""

    list: str
    """Absolute path of the text file."""
    check: bool = True
    """Whether to look if each file exists."""
    text: str


def read_inputs(problems: Problems, value: Any, places: Places) -> list[FilesInput | ListInput]:
    if not isinstance(value, list | tuple):
        hint = "; each input is an element of a list: put - before it" if isinstance(value, Mapping) else ""
        problems.add("inputs", f"is {shown(value)}: must be a list, like {_EXAMPLE}{hint}")
        return []
    if not value:
        problems.add("inputs", f"is an empty list: there must be at least one input, like {_EXAMPLE}")
    read = (_read_input(problems, f"inputs.{i}", element, places) for i, element in enumerate(value))
    return [one for one in read if one is not None]


def _read_input(problems: Problems, key: str, value: Any, places: Places) -> FilesInput | ListInput | None:
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
    if kind in TABLE_KINDS:
        why = "tables are not supported by this version yet; files and list are"
        problems.add(f"{key}.{kind}", f"is {shown(mapping[kind])}: {why}")
        return None
    problems.unknown_keys(f"{key}.", mapping, (kind, *_OPTIONS[kind]), _option_hint)
    if kind == "list":
        return _read_list(problems, key, mapping, places)
    return _read_files(problems, f"{key}.files", mapping["files"], places)


def _add_kind_problem(problems: Problems, key: str, mapping: Mapping[Any, Any], kinds: list[str]) -> None:
    if kinds:
        problems.add(key, f"has {' and '.join(kinds)}: one input has one kind; make it {len(kinds)} elements")
        return
    near = next((words for name in mapping if (words := did_you_mean(name, FILE_KINDS))), "")
    problems.add(key, f"is {shown(mapping)}: must have one of {', '.join(FILE_KINDS)}{near}")


def _option_hint(key: str, value: Any) -> str | None:
    return "; check belongs to list: inputs" if key == "check" else None


def _read_files(problems: Problems, key: str, value: Any, places: Places) -> FilesInput | None:
    if not isinstance(value, list | tuple):
        path = problems.take(key, value, text)
        return None if path is None else FilesInput(files=[places.pattern(path)], text=path)
    if not value:
        problems.add(key, "is an empty list: must name at least one folder, glob or file")
    paths = [problems.take(f"{key}.{i}", element, text) for i, element in enumerate(value)]
    named: list[str] = [path for path in paths if path is not None]
    return FilesInput(files=[places.pattern(path) for path in named], text=", ".join(named))


def _read_list(problems: Problems, key: str, mapping: Mapping[Any, Any], places: Places) -> ListInput | None:
    path = problems.take(f"{key}.list", mapping["list"], _one_path)
    check = problems.take(f"{key}.check", mapping["check"], flag) if "check" in mapping else True
    if path is None or check is None:
        return None
    return ListInput(list=places.absolute(path), check=check, text=path)


def _one_path(value: Any) -> str:
    if isinstance(value, list | tuple):
        raise Wrong(
            "must be the path of one text file that has a path in each line; for a list here use files:"
        )
    return text(value)
