"""The footers of Parquet files, which the survey asks about: rows, row groups, bytes, schemas. No data is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mpibatch.inputs.parquet_schema import plain

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class Footers(msgspec.Struct, frozen=True, array_like=True, tag="parquet_footers"):
    """What do the footers of these files say?"""

    paths: list[bytes]
    columns: list[str] | None
    """Whose bytes count; None: those of all."""


class Footer(msgspec.Struct, frozen=True, array_like=True):
    """What one footer says."""

    groups: bytes = b""
    """Rows of each row group: little-endian int64."""
    size: int = 0
    """Bytes of all rows of the columns that are read, uncompressed."""
    schema: int = 0
    """Its number in the answer."""
    error: str | None = None
    """Why the file cannot be read."""


class FootersAnswer(msgspec.Struct, frozen=True, array_like=True, tag="parquet_footers_answer"):
    """The files' footers in the order of the question; files of one schema share it."""

    footers: list[Footer]
    schemas: list[bytes]


Question = Footers
Answer = FootersAnswer

_MOST_LOOKED_AT = 20_000
"""Parts of columns whose sizes are looked at in one file: of more, a sample of row groups."""


def answer(question: Question) -> Answer:
    """Reads the footers. A file that cannot be read is an answer too."""
    import pyarrow as pa

    footers: list[Footer] = []
    schemas: dict[bytes, int] = {}
    for path in question.paths:
        try:
            footers.append(_footer(path, question.columns, schemas))
        except (pa.ArrowException, OSError) as error:
            footers.append(Footer(error=why(error)))
    return FootersAnswer(footers, list(schemas))


def why(error: Exception) -> str:
    """Words of pyarrow or the system for why a file cannot be read, on one line."""
    if isinstance(error, OSError) and error.errno:
        return error.strerror or str(error)
    return " ".join(str(error).split()) or type(error).__name__


def _footer(path: bytes, columns: list[str] | None, schemas: dict[bytes, int]) -> Footer:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.OSFile(path) as source:
        metadata = pq.read_metadata(source)
    schema = metadata.schema.to_arrow_schema()
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    key = plain(schema).serialize().to_pybytes()
    return Footer(
        groups=np.array(rows, dtype="<i8").tobytes(),
        size=_size(metadata, schema, columns),
        schema=schemas.setdefault(key, len(schemas)),
    )


def _size(metadata: pq.FileMetaData, schema: pa.Schema, columns: list[str] | None) -> int:
    """Bytes of the file's rows in the columns, uncompressed, but not below the width of their types.

    Parquet may store a million equal numbers in ten bytes; the frame of a mini-batch holds them all.
    """
    fields: list[tuple[pa.Field, range]] = []
    first = 0
    for field in schema:
        end = first + _leaves(field.type)
        if columns is None or field.name in columns:
            fields.append((field, range(first, end)))
        first = end
    parts = sum(len(leaves) for _, leaves in fields) * metadata.num_row_groups
    looked_at = range(0, metadata.num_row_groups, 1 + parts // _MOST_LOOKED_AT)
    groups = [metadata.row_group(number) for number in looked_at]
    rows = sum(group.num_rows for group in groups)
    total = 0
    for field, leaves in fields:
        stored = sum(group.column(leaf).total_uncompressed_size for group in groups for leaf in leaves)
        total += max(stored, rows * _width(field.type))
    return int(total * metadata.num_rows // max(1, rows))


def _leaves(of: pa.DataType) -> int:
    """In how many columns Parquet stores the type."""
    import pyarrow as pa

    if isinstance(of, pa.BaseExtensionType):
        return _leaves(of.storage_type)
    if pa.types.is_dictionary(of):
        return _leaves(of.value_type)
    return sum(_leaves(of.field(number).type) for number in range(of.num_fields)) if of.num_fields else 1


def _width(of: pa.DataType) -> int:
    """Bytes that a value takes at least when it is read."""
    import pyarrow as pa

    fixed = pa.types.is_primitive(of) or pa.types.is_fixed_size_binary(of) or pa.types.is_decimal(of)
    return max(1, int(of.bit_width) // 8) if fixed else 4
