"""The job file's key `side_outputs`: folders that the script writes into. Pure.

A name without a path is a folder of the run folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from mpibatch.core.job_inputs import ArchiveInput, FilesInput, JobInput
from mpibatch.core.named_values import PLACE_NAME
from mpibatch.core.places import Places, contains, without_dots
from mpibatch.core.row_keys import RESERVED_NAMES
from mpibatch.core.settings import Problems, Wrong, printable, shown, text
from mpibatch.core.tables import TableInput

KEY = "side_outputs"
_FIELD = re.compile(r"\{[^}]*\}")
_EXAMPLE = "{models: , plots: runs/plots}"
_TAKEN = (*RESERVED_NAMES, "shares")
"""What a run folder holds besides rows, and an array's."""


def read_side_outputs(
    problems: Problems, given: Mapping[Any, Any], values: Mapping[str, Any], places: Places
) -> dict[str, str]:
    """By name, absolute. `values`: the run folder, the inputs, and the name of the rows file if it is given."""
    read: dict[str, str] = {}
    run_folder: str = values["output"]
    for name, value in problems.mapping(KEY, given[KEY], _EXAMPLE).items():
        if not (isinstance(name, str) and PLACE_NAME.fullmatch(name)):
            problems.add(
                f"{KEY}.{shown(name)}", f"is {shown(value)}: no legal name; legal is {PLACE_NAME.pattern}"
            )
            continue

        def check(value: Any, name: str = name) -> str:
            folder = f"{run_folder}/{name}" if value is None else places.absolute(plain_path(value))
            _refuse_own(folder, run_folder, (*_TAKEN, values.get("append_row_file_name") or ""))
            _refuse_inputs(folder, run_folder, values.get("inputs", []))
            return folder

        taken = problems.take(f"{KEY}.{printable(name)}", value, check)
        if taken is not None:
            read[name] = taken
    return read


def plain_path(value: Any) -> str:
    """Text in which nothing was meant to be filled in. Raises `Wrong`."""
    path: str = text(value)
    if "${" in path:
        raise Wrong(
            "must be a path as it is: ${...} is filled in in arguments only, and a relative path is relative to the"
            " job file's folder"
        )
    return path


def _refuse_own(folder: str, run_folder: str, names: Sequence[str]) -> None:
    if contains(folder, run_folder):
        raise Wrong(f"{shown(folder)} must be a folder of its own, not the run folder or above it")
    own = next((name for name in names if name and contains(f"{run_folder}/{name}", folder)), None)
    if own is not None:
        raise Wrong(f"{shown(folder)} must be another folder than what the run folder has as {own}")


def _refuse_inputs(folder: str, run_folder: str, inputs: Sequence[JobInput]) -> None:
    if contains(run_folder, folder):  # A run's output is not its input.
        return
    for one in inputs:
        for pattern in _patterns(one):
            if _may_find(pattern, folder):
                raise Wrong(
                    f"{shown(folder)} is inside the input {shown(pattern)}, so that what the script writes there"
                    " would be an item of the next run: choose a folder outside"
                )


def input_with(file: str, inputs: Sequence[JobInput]) -> str | None:
    """The path or glob of the input of which `file` is an item, or would be one."""
    return next((one for given in inputs for one in _patterns(given) if _takes(one, file)), None)


def _takes(pattern: str, file: str) -> bool:
    parts = [part for part in pattern.split("/") if part]
    names = without_dots(file)
    if not parts:
        return True
    is_folder = not _is_glob(parts[-1]) or pattern.endswith("/")
    for part, name in zip(parts, names):
        if part == "**":
            return is_folder or parts[-1] == part or _fits(parts[-1], names[-1])
        if not _fits(part, name):
            return False
    return len(parts) == len(names) or (len(parts) < len(names) and is_folder)


def _patterns(one: JobInput) -> Iterator[str]:
    if isinstance(one, FilesInput | ArchiveInput | TableInput):
        yield from one.files


def _may_find(pattern: str, folder: str) -> bool:
    """Whether a folder, or a glob, takes files directly in `folder`, or below it, for items."""
    parts = [part for part in pattern.split("/") if part]
    names = [name for name in folder.split("/") if name]
    for number, (part, name) in enumerate(zip(parts, names), 1):
        if part == "**":
            return True
        if not _fits(part, name):
            return False
        if number == len(parts):
            return not _is_glob(part) or pattern.endswith("/")
    return any(map(_is_glob, parts)) and (len(parts) == len(names) + 1 or "**" in parts)


def _fits(part: str, name: str) -> bool:
    # A field of a path format stands for any text.
    return part == name or fnmatchcase(name, _FIELD.sub("*", part))


def _is_glob(part: str) -> bool:
    return any(c in part for c in "*?[{")
