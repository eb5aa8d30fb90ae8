"""Schemas of Parquet files: which columns are read, and the one type of each in which all files are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core.settings import printable
from mpibatch.errors import InputError
from mpibatch.inputs.origin import shown
from mpibatch.inputs.row_files import names_text, no_such
from mpibatch.inputs.survey import TableFile

if TYPE_CHECKING:
    import pyarrow as pa


class ParquetSetup(msgspec.Struct, frozen=True):
    """What the readers of an input need to know."""

    schema: bytes
    """Arrow's IPC form of what `run()` gets, partition columns among it, in order."""
    partition: list[str]
    """Which of its columns come from the names of folders."""


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema without metadata, but for pandas' own dtypes of columns (`Int64`), which Arrow does not know.

    An index that pandas has stored is an ordinary column under the name that it has in the file.
    """
    import pyarrow as pa

    fields = [field.remove_metadata() for field in schema]
    return pa.schema(fields, metadata=_own_dtypes((schema.metadata or {}).get(b"pandas")))


def _own_dtypes(metadata: bytes | None) -> dict[bytes, bytes] | None:
    try:
        columns = json.loads(metadata)["columns"] if metadata else []
        kept = [
            {"name": column["field_name"], "field_name": column["field_name"]}
            | {key: column[key] for key in ("pandas_type", "numpy_type", "metadata")}
            for column in columns
            if column["numpy_type"] not in _NUMPY_TYPES
        ]
    except (ValueError, KeyError, TypeError):
        return None  # Of another writer, or damaged: the columns can be read all the same.
    return pandas_metadata(kept)


_NUMPY_TYPES = {"object", "str", "bool", "datetime64[ns]", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def pandas_metadata(columns: list[dict[str, Any]]) -> dict[bytes, bytes] | None:
    """Metadata by which pyarrow restores the dtypes of these columns, and makes no index of any."""
    if not columns:
        return None
    whole = {"index_columns": [], "column_indexes": [], "columns": columns, "attributes": {}}
    return {b"pandas": json.dumps(whole).encode()}


def own_dtypes(schema: pa.Schema) -> list[dict[str, Any]]:
    """What `plain` has kept of pandas' metadata, by column."""
    metadata = (schema.metadata or {}).get(b"pandas")
    found: list[dict[str, Any]] = json.loads(metadata)["columns"] if metadata else []
    return found


def wanted(
    schema: pa.Schema, columns: Sequence[str] | None, partition: Sequence[str], file: TableFile, origin: str
) -> list[str]:
    """The columns to read, in order: those that the job names, else all of the file and then the partition's."""
    there = [*schema.names, *(key for key in partition if key not in schema.names)]
    if len(set(there)) < len(there):
        twice = next(name for name in there if there.count(name) > 1)
        raise InputError(
            f"{origin}: column {printable(twice)} comes twice in {shown(file.name)}:"
            " write the files with one column of each name"
        )
    if columns is None:
        return there
    for name in columns:
        if name not in there:
            raise no_such("column", name, there, file, origin)
    return list(dict.fromkeys(columns))


def unified(
    found: Sequence[tuple[TableFile, pa.Schema]], names: Sequence[str] | None, origin: str
) -> pa.Schema:
    """One schema for all files, whose different schemas these are, in the order of the first.

    `names`: the columns that have to be there; None: all, and no file may have others. Raises InputError
    where the files' columns or types do not go together.
    """
    import pyarrow as pa

    first_file, first = found[0]
    order = first.names if names is None else names
    types = {name: first.field(name).type for name in order}
    for file, schema in found[1:]:
        if names is not None and (missing := [name for name in names if name not in schema.names]):
            raise no_such("column", missing[0], schema.names, file, origin)
        if set(order) - set(schema.names) or (len(schema.names) != len(order) and names is None):
            raise _other_columns((first_file, first.names), (file, schema.names), origin)
        for name in order:
            promoted = _promoted(types[name], schema.field(name).type)
            if promoted is None:
                raise _other_types(name, found, file, origin)
            types[name] = promoted
    for file, schema in found:
        for name, to in types.items():
            if not _can_become(schema.field(name).type, to):
                raise _other_types(name, found, file, origin)
    # pandas notes columns as well that it has written as the names of folders.
    noted = [one for one in own_dtypes(first) if one["name"] in types]
    kept = [one for one in noted if types[one["name"]] == first.field(one["name"]).type]
    return pa.schema(list(types.items()), metadata=pandas_metadata(kept))


def _promoted(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both; None where there is none."""
    import pyarrow as pa

    if one == other:
        return one
    values = [found.value_type if pa.types.is_dictionary(found) else found for found in (one, other)]
    both = pa.types.is_dictionary(one) and pa.types.is_dictionary(other)
    for pair in ([[one, other]] if both else []) + [values]:
        try:
            schemas = [pa.schema([("x", found)]) for found in pair]
            return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        except pa.ArrowException:
            continue
    return None


def _can_become(found: pa.DataType, to: pa.DataType) -> bool:
    import pyarrow as pa

    try:
        return found == to or bool(pa.array([], found).cast(to).type == to)
    except pa.ArrowException:
        return False


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the types of these columns. Raises ArrowInvalid where a value does not fit."""
    import pyarrow as pa

    for number, field in enumerate(table.schema):
        to = schema.field(field.name).type
        if field.type != to:
            # Whole numbers of other files lose their last digits as they do in pandas; all else must fit.
            safe = not pa.types.is_integer(field.type) or not pa.types.is_floating(to)
            table = table.set_column(number, field.name, table.column(number).cast(to, safe=safe))
    return table


def _other_columns(
    one: tuple[TableFile, Sequence[str]], other: tuple[TableFile, Sequence[str]], origin: str
) -> InputError:
    apart = sorted(set(one[1]) ^ set(other[1]))
    return InputError(
        f"{origin}: the files do not have the same columns; not in both: {names_text(apart)}"
        f"\n  {shown(one[0].name)}: {names_text(one[1])}\n  {shown(other[0].name)}: {names_text(other[1])}"
        "\n  Name the columns to read in `columns`, or leave out the files that differ."
    )


def _other_types(
    name: str, found: Sequence[tuple[TableFile, pa.Schema]], file: TableFile, origin: str
) -> InputError:
    """Column `name` of `file` has a type that does not go together with that of an earlier file."""
    schemas = {one.path: schema for one, schema in found}
    own = schemas[file.path].field(name).type
    # The first that it does not go with: with the very first one it may, where a third has widened the type.
    other = next(
        (one for one, schema in found if _promoted(schema.field(name).type, own) is None), found[0][0]
    )
    return InputError(
        f"{origin}: column {printable(name)} is {schemas[other.path].field(name).type} in {shown(other.name)},"
        f" but {own} in {shown(file.name)}, which does not go together: write the files with one type"
    )
