"""What is in HDF5 files, which the survey asks about: datasets, their shapes and types. No data is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import h5py
    import numpy as np

TEXT = "text"
OTHER = "other"
"""Nothing that a column could hold: arrays of varying length, references, compound types in compound types."""

_VARIABLE_BYTES = 16
"""What a string of variable length is taken for."""
_MOST_SEEN = 1000
"""Names that are looked at to tell what there is where something is missing."""


class Datasets(msgspec.Struct, frozen=True, array_like=True, tag="hdf5_datasets"):
    """What are the datasets of these files?"""

    paths: list[bytes]
    group: str
    datasets: list[str] | None
    """Paths below the group; None: all with a dimension that are directly in it."""


class Field(msgspec.Struct, frozen=True, array_like=True):
    """The values of a dataset, or of one field of its compound type."""

    name: str
    """Empty: the dataset is of no compound type."""
    kind: str
    """TEXT, OTHER, or numpy's kind: one of `biufcmM`."""
    dtype: str
    """As numpy spells it, in native byte order; of the others, words for messages."""
    shape: list[int]
    """Of each value, where it is an array itself."""


class Dataset(msgspec.Struct, frozen=True, array_like=True):
    """One dataset."""

    name: str
    shape: list[int]
    fields: list[Field]
    row_bytes: int
    chunk_rows: int
    """0: it is not stored in chunks."""


class Contents(msgspec.Struct, frozen=True, array_like=True):
    """What one file has of what was asked for."""

    datasets: list[Dataset] = []
    no_group: bool = False
    """The group is not there."""
    no_dataset: str | None = None
    """One that was asked for by name and is not there."""
    there: list[str] = []
    """What is there instead: paths of datasets below the group, or of groups."""
    error: str | None = None
    """Why the file cannot be read."""


class ContentsAnswer(msgspec.Struct, frozen=True, array_like=True, tag="hdf5_contents"):
    """In the order of the question's files."""

    contents: list[Contents]


UNREADABLE = (OSError, RuntimeError, ValueError, KeyError)
"""What h5py raises where a file is damaged."""


def open_file(path: bytes, cache_bytes: int = 2**20) -> h5py.File:
    """`cache_bytes`: of decompressed chunks that are kept of each open dataset."""
    import h5py

    # Nobody writes to an input. Locks fail on read-only file systems and on some that are shared by nodes.
    return h5py.File(path, "r", locking=False, rdcc_nbytes=cache_bytes)


def answer(question: Datasets) -> ContentsAnswer:
    """Looks into the files. One that cannot be read is an answer too."""
    found = []
    for path in question.paths:
        try:
            with open_file(path) as file:
                found.append(_contents(file, question.group, question.datasets))
        except UNREADABLE as error:
            found.append(Contents(error=why(error)))
    return ContentsAnswer(found)


def why(error: Exception) -> str:
    """Words of h5py or the system for why a file cannot be read, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _contents(file: h5py.File, group_path: str, names: list[str] | None) -> Contents:
    import h5py

    group = below(file, group_path)
    if not isinstance(group, h5py.Group):
        groups = [name for name, found in _all_below(file) if isinstance(found, h5py.Group)]
        return Contents(no_group=True, there=["/", *groups])
    if names is None:
        inside = [(name, below(group, name)) for name in group]
        datasets = [
            _dataset(name, found) for name, found in inside if isinstance(found, h5py.Dataset) and found.shape
        ]
        return Contents(datasets) if datasets else Contents(there=_datasets_below(group))
    datasets = []
    for name in names:
        found = below(group, name)
        if not isinstance(found, h5py.Dataset):
            return Contents(no_dataset=name, there=_datasets_below(group))
        datasets.append(_dataset(name, found))
    return Contents(datasets)


def below(group: h5py.Group, path: str) -> Any:
    """What is at a path below the group; None: nothing, or a link that leads nowhere."""
    inner = path.strip("/")
    try:
        return group[inner] if inner else group
    except (KeyError, OSError):
        return None


def _datasets_below(group: h5py.Group) -> list[str]:
    import h5py

    return [path for path, other in _all_below(group) if isinstance(other, h5py.Dataset)]


def _all_below(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """Groups and datasets with their paths, as many as a message could need."""
    found: list[tuple[str, Any]] = []

    def visit(path: str, other: Any) -> bool | None:
        found.append((path, other))
        return True if len(found) >= _MOST_SEEN else None

    group.visititems(visit)
    return iter(found)


def _dataset(name: str, dataset: h5py.Dataset) -> Dataset:
    import h5py

    shape = list(dataset.shape or ())
    dtype = dataset.dtype
    variable = h5py.check_string_dtype(dtype) is not None and dtype.kind == "O"
    item = _VARIABLE_BYTES if variable else dtype.itemsize
    names = dtype.names or ()
    return Dataset(
        name=name,
        shape=shape,
        fields=[_field(one, dtype.fields[one][0]) for one in names] or [_field("", dtype)],
        row_bytes=item * math.prod(shape[1:]),
        chunk_rows=dataset.chunks[0] if dataset.chunks else 0,
    )


def _field(name: str, dtype: np.dtype[Any]) -> Field:
    import h5py

    base, shape = dtype.base, list(dtype.shape)
    if h5py.check_string_dtype(base) is not None:
        return Field(name, TEXT, "text", shape)
    if base.kind in "biufcmM":
        return Field(name, base.kind, base.newbyteorder("=").str, shape)
    return Field(name, OTHER, str(base), shape)
