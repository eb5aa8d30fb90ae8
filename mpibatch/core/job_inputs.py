"""What a job's `inputs` are: where items come from. Pure; `core.read_inputs` makes them of a job file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mpibatch.core.tables import TableInput

FILE_KINDS = ("files", "list")
TABLE_KINDS = ("csv", "jsonl", "parquet", "hdf5")
COUNT = "count"
PATH_KINDS = FILE_KINDS + TABLE_KINDS
KINDS = (*PATH_KINDS, COUNT)

Mode = Literal["mount", "download"]
"""Whether `run()` gets the files where they are, or copies on its node's scratch."""


class FilesInput(msgspec.Struct, frozen=True, kw_only=True):
    """Each file is an item."""

    files: list[str]
    """Folders, globs or files: absolute; names that are not UTF-8 are spelled as `os.fsdecode` does.
    With partition keys path formats, for `core.path_format.parse`."""
    text: str
    """As the job file has it, for messages and `context.dataset`."""
    mode: Mode = "mount"


class ListInput(msgspec.Struct, frozen=True, kw_only=True):
    """Each line of a text file names a file, which is an item."""

    list: str
    """Absolute path of the text file."""
    check: bool = True
    """Whether to look if each file exists."""
    text: str
    mode: Mode = "mount"


class ArchiveInput(msgspec.Struct, frozen=True, kw_only=True):
    """Each member of its archives that matches is an item."""

    files: list[str]
    """Folders, globs or files, as in FilesInput: tar or zip archives."""
    members: list[str]
    """Globs; a member is an item if one of them matches it."""
    as_: Literal["path", "bytes"] = msgspec.field(name="as", default="path")
    """What `run()` gets of each: a path in the processor's scratch folder, or (name, bytes)."""
    text: str
    """As the job file has it, for messages and `context.dataset`."""


class CountInput(msgspec.Struct, frozen=True, kw_only=True):
    """Items without data: the numbers from 0 on."""

    count: int
    """How many there are; at least 1."""

    @property
    def text(self) -> str:
        """For messages and `context.dataset`."""
        return f"{COUNT}: {self.count}"


JobInput = FilesInput | ListInput | TableInput | ArchiveInput | CountInput


def sort_of(element: Any) -> str | None:
    """What a job's inputs have in common; None where the element is wrong anyway."""
    if not isinstance(element, Mapping):
        return None
    if any(kind in element for kind in TABLE_KINDS):
        return "tables"
    if COUNT in element:
        return "a count"
    if "files" in element and "members" in element:
        return "members of archives"
    return "files" if any(kind in element for kind in FILE_KINDS) else None


def are_tables(value: Any) -> bool:
    """Whether `inputs`, as the job file has it, are tables, right or wrong."""
    elements = value if isinstance(value, list | tuple) else []
    return any(sort_of(element) == "tables" for element in elements)
