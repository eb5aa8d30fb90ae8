"""What the datasets of HDF5 files become: the columns of a frame, the same in all files. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mpibatch.core.settings import printable
from mpibatch.errors import InputError
from mpibatch.inputs.hdf5_contents import OTHER, TEXT, Contents, Dataset, Field
from mpibatch.inputs.origin import shown
from mpibatch.inputs.row_files import names_text, no_such
from mpibatch.inputs.survey import TableFile

_SHOWN_DATASETS = 12


class Hdf5Setup(msgspec.Struct, frozen=True):
    """What the readers of an input need to know: the datasets of the first file, with the types for all files."""

    datasets: list[Dataset]


def checked_rows(file: TableFile, contents: Contents, group: str, origin: str) -> int:
    """Rows of a file. Raises InputError where the job names what is not there or has no common rows."""
    if contents.no_group:
        raise no_such("group", group, contents.there, file, origin)
    if contents.no_dataset is not None:
        raise no_such("dataset", contents.no_dataset, contents.there, file, origin)
    datasets = contents.datasets
    if not datasets:
        raise InputError(
            f"{origin}: no dataset that has rows is directly in {printable(group)} of {shown(file.name)}:"
            " name another `group`, or the `datasets` to read"
            f"\n  datasets below it: {names_text(contents.there)}"
        )
    if not all(one.shape for one in datasets) or len({one.shape[0] for one in datasets}) > 1:
        raise InputError(
            f"{origin}: the datasets of {shown(file.name)} do not have the same first dimension, which is the rows:"
            f" {_shapes(datasets)}; name in `datasets` those that belong together"
        )
    return datasets[0].shape[0]


def _shapes(datasets: Sequence[Dataset]) -> str:
    some = ", ".join(f"{printable(one.name)} {tuple(one.shape)}" for one in datasets[:_SHOWN_DATASETS])
    return some + (", ..." if len(datasets) > _SHOWN_DATASETS else "")


def unified(found: Sequence[tuple[TableFile, list[Dataset]]], origin: str) -> list[Dataset]:
    """The datasets as all files have them: those of the first, with types that hold the values of all.

    Raises InputError where files have other datasets, kinds of values or trailing shapes.
    """
    first_file, first = found[0]
    fields = {one.name: one.fields for one in first}
    for file, datasets in found[1:]:
        by_name = {one.name: one for one in datasets}
        if by_name.keys() != fields.keys():
            raise _other_datasets(first_file, [one.name for one in first], file, list(by_name), origin)
        ordered = [by_name[one.name] for one in first]
        for one, other in zip(first, ordered):
            if _form(one) != _form(other):
                raise InputError(
                    f"{origin}: dataset {printable(one.name)} is {_words(one)} in {shown(first_file.name)},"
                    f" but {_words(other)} in {shown(file.name)}: write the files alike, or name other `datasets`"
                )
            fields[one.name] = [_promoted(*pair) for pair in zip(fields[one.name], other.fields)]
    return [msgspec.structs.replace(one, fields=fields[one.name]) for one in first]


def _form(dataset: Dataset) -> object:
    """What has to be equal in all files."""
    return dataset.shape[1:], [(field.name, field.kind, field.shape) for field in dataset.fields]


def _promoted(one: Field, other: Field) -> Field:
    import numpy as np

    if one.dtype == other.dtype or one.kind in (TEXT, OTHER):
        return one
    both = np.result_type(np.dtype(one.dtype), np.dtype(other.dtype))
    return msgspec.structs.replace(one, dtype=both.str)


def _words(dataset: Dataset) -> str:
    fields = ", ".join(
        " ".join(part for part in (field.name, field.dtype, str(field.shape or "")) if part)
        for field in dataset.fields
    )
    rows = ", ".join(["rows", *map(str, dataset.shape[1:])])
    return f"({rows}) of {printable(fields)}"


def _other_datasets(
    one: TableFile, names: list[str], other: TableFile, others: list[str], origin: str
) -> InputError:
    apart = sorted(set(names) ^ set(others))
    return InputError(
        f"{origin}: the files do not have the same datasets; not in both: {names_text(apart)}"
        f"\n  {shown(one.name)}: {names_text(names)}\n  {shown(other.name)}: {names_text(others)}"
        "\n  Name those to read in `datasets`, or leave out the files that differ."
    )


def frame_columns(datasets: Sequence[Dataset], origin: str) -> list[str]:
    """The columns of a frame, in order. Raises InputError where a dataset does not become columns."""
    columns: list[str] = []
    for one in datasets:
        for field in one.fields:
            columns += columns_of(one, field, origin)
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise InputError(
            f"{origin}: two columns would be named {printable(twice)}: write `as: arrays`, or name the `datasets`"
        )
    return columns


def columns_of(dataset: Dataset, field: Field, origin: str) -> list[str]:
    name = field.name or dataset.name
    inner = [*dataset.shape[1:], *field.shape]
    if field.kind == OTHER or len(inner) > 1 or (field.name and len(dataset.shape) > 1):
        raise InputError(
            f"{origin}: dataset {printable(dataset.name)}, {_words(dataset)}, does not become columns of a frame:"
            " write `as: arrays`, or name the `datasets` to read"
        )
    return [f"{name}_{number}" for number in range(inner[0])] if inner else [name]
