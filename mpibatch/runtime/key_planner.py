"""Plans mini-batches of equal partition keys: files by the fields of their path formats, tables by columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from mpibatch.core.config import FilesInput, Job
from mpibatch.core.path_columns import columns_of_paths
from mpibatch.core.path_format import PathFormat, parse
from mpibatch.core.tables import CsvOptions, JsonlOptions, TableOptions
from mpibatch.inputs.files import find_files
from mpibatch.inputs.key_survey import PART_BYTES, KeySurvey, survey_keys
from mpibatch.inputs.origin import Origin, shown
from mpibatch.inputs.shuffle_plan import SortedTo
from mpibatch.inputs.walk import Remarks
from mpibatch.runtime.table_plan_keys import Group

__all__ = ["PART_BYTES", "KeySurvey", "SortedTo", "groups_of_files", "survey_keys", "survey_options"]


def survey_options(options: TableOptions, keys: Collection[str]) -> TableOptions:
    """How a table is surveyed: compressed files are unpacked, as a key's rows are a part of a file; but where the
    paths give all keys."""
    if isinstance(options, CsvOptions | JsonlOptions) and not set(keys) <= set(columns_of_paths(options)):
        return msgspec.structs.replace(options, unpack=True)
    return options


def groups_of_files(one: FilesInput, origin: Origin, job: Job, remarks: Remarks) -> Iterator[Group]:
    """A group for each combination of the keys' values that files have, in the order of its first file.

    Raises InputError where nothing is found, and where a path does not fit its format.
    """
    formats = [parse(path) for path in one.files]
    groups: dict[tuple[str, ...], bytearray] = {}
    for folder, names in find_files([path.pattern for path in formats], origin, remarks, job.output):
        for name in names:
            values = _fields(formats, folder + name, origin)
            key = tuple(values[field] for field in job.partition_keys)
            group = groups.get(key)
            if group is None:
                group = groups[key] = bytearray()
            group += folder + name + b"\0"
    for key, paths in groups.items():
        yield Group(dict(zip(job.partition_keys, key)), paths)


def _fields(formats: list[PathFormat], path: bytes, origin: Origin) -> dict[str, Any]:
    """Of the first format that the path fits."""
    for one in formats:
        values = one.match(path)
        if values is not None:
            return values
    raise origin.error(
        f"{shown(path)} does not fit: a field that comes twice must stand for the same text in both places."
        " Name the two fields differently, or move the file away."
    )
