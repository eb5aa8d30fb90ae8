"""Types of pyarrow from and to their text in a form (`core.arrow_types`), and tables made plain."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from mpibatch.core.arrow_types import MISSING, Nested, spell, take_apart
from mpibatch.core.forms import Column, Form

if TYPE_CHECKING:
    import pyarrow as pa

_PARAMETERS = re.compile(r"(\w+)[\[(](.+)[\])]")


class NoSuchColumn(Exception):
    """Parquet has no columns of this type; the text names it."""


@cache
def _simple_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    makers = [
        pa.null, pa.bool_, pa.int8, pa.int16, pa.int32, pa.int64, pa.uint8, pa.uint16, pa.uint32, pa.uint64,
        pa.float16, pa.float32, pa.float64, pa.string, pa.large_string, pa.binary, pa.large_binary,
        pa.date32, pa.date64,
    ]  # fmt: skip
    types = [make() for make in makers]
    types += [make(unit) for make in (pa.timestamp, pa.duration) for unit in ("s", "ms", "us", "ns")]
    types += [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
    return {MISSING: pa.float64(), **{str(type_): type_ for type_ in types}}


@cache
def from_text(text: str) -> pa.DataType:
    """The type that `to_text` gave this text for, or that merged forms have."""
    import pyarrow as pa

    if text in _simple_types():
        return _simple_types()[text]
    nested = take_apart(text)
    if nested is not None:
        return _nested(nested)
    found = _PARAMETERS.fullmatch(text)
    assert found is not None, text
    if found[1] == "timestamp":
        unit, zone = found[2].split(", tz=")
        return pa.timestamp(unit, zone)
    if found[1] == "fixed_size_binary":
        return pa.binary(int(found[2]))
    precision, scale = found[2].split(", ")
    return getattr(pa, found[1])(int(precision), int(scale))


def _nested(nested: Nested) -> pa.DataType:
    import pyarrow as pa

    types = [from_text(type_) for _, type_ in nested.fields]
    match nested.kind:
        case "list":
            return pa.list_(pa.field("item", types[0]))
        case "large_list":
            return pa.large_list(pa.field("item", types[0]))
        case "fixed_size_list":
            return pa.list_(pa.field("item", types[0]), nested.size)
        case "map":
            return pa.map_(*types)
        case _:
            names = [name for name, _ in nested.fields]
            return pa.struct(list(zip(names, types, strict=True)))


def to_text(type_: Any) -> str:
    """What Parquet will hold of this type: categories as their values, extensions as what they store.

    Raises NoSuchColumn.
    """
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(type_):
        return to_text(type_.value_type)
    if isinstance(type_, pa.BaseExtensionType):
        return to_text(type_.storage_type)
    if str(type_) in ("string_view", "binary_view"):
        return str(type_).removesuffix("_view")
    nested = _taken_apart(type_)
    if nested is not None:
        if not nested.fields:
            raise NoSuchColumn("dicts without keys (a struct without fields)")
        return spell(nested)
    text = str(type_)
    if text not in _simple_types() and not text.startswith(("timestamp[", "decimal", "fixed_size_binary[")):
        raise NoSuchColumn(text)
    if types.is_decimal(type_) and type_.scale < 0:
        raise NoSuchColumn(f"{text}, whose scale is negative")
    return text


def _taken_apart(type_: Any) -> Nested | None:
    from pyarrow import types

    if types.is_map(type_):
        return Nested("map", (("key", to_text(type_.key_type)), ("value", to_text(type_.item_type))))
    if types.is_struct(type_):
        return Nested("struct", tuple((field.name, to_text(field.type)) for field in type_))
    for kind in ("list", "large_list", "fixed_size_list"):
        if getattr(types, f"is_{kind}")(type_):
            size = type_.list_size if kind == "fixed_size_list" else 0
            return Nested(kind, (("item", to_text(type_.value_type)),), size)
    return None


def form_of(table: pa.Table) -> Form:
    """Raises NoSuchColumn, with the column's name."""
    columns = []
    for field, values in zip(table.schema, table.columns, strict=True):
        try:
            type_ = to_text(field.type)
        except NoSuchColumn as error:
            raise NoSuchColumn(f"column {field.name!r} holds {error}") from None
        unknown = type_ == "double" and values.null_count == len(values)
        columns.append(Column(field.name, MISSING if unknown else type_))
    return Form("parquet", tuple(columns))


def schema_of(form: Form) -> pa.Schema:
    import pyarrow as pa

    return pa.schema([pa.field(column.name, from_text(column.type)) for column in form.columns])


def cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with this schema and no other metadata; integers may become floats that are near them.

    Raises ArrowInvalid where a value is out of range, as a date of the year 9999 in nanoseconds.
    """
    import pyarrow as pa

    if table.schema.equals(schema, check_metadata=True):
        return table
    arrays = [_cast(array, field.type) for array, field in zip(table.columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _cast(array: Any, type_: pa.DataType) -> Any:
    import pyarrow as pa
    from pyarrow import compute

    if array.type == type_:
        return array
    if array.null_count == len(array):
        return pa.chunked_array([pa.nulls(len(array), type_)])
    options = compute.CastOptions(target_type=type_, allow_float_truncate=True)
    return compute.cast(array, options=options)
