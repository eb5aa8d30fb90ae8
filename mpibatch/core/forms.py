"""The form of rows: names and types of their columns, as each fragment carries it, and how forms are merged. Pure.

The output has one form, and it must not depend on who finished first. So merging is commutative,
associative and idempotent, and where some forms cannot be merged, they cannot in any order.
"""

from __future__ import annotations

import msgspec

from mpibatch.core import arrow_types, promotion
from mpibatch.core.promotion import Unpromotable

_SHOWN_COLUMNS = 8
_PROMOTE = {
    "csv": promotion.promote_csv,
    "parquet": arrow_types.promote,
    "hdf5": promotion.promote_hdf5,
}


class Column(msgspec.Struct, frozen=True, array_like=True):
    """A column, or a dataset of HDF5."""

    name: str
    type: str
    """In the words of the format: see `core.promotion` and `core.arrow_types`."""


class Form(msgspec.Struct, frozen=True, array_like=True):
    """What all rows of a fragment have in common."""

    format: str
    """csv, parquet or hdf5; text and JSON lines have no form."""
    columns: tuple[Column, ...]


class Unmergeable(Exception):
    """Fragments of these forms cannot stand in one output. The text shows what differs.

    `fragment`: where it is seen only when rows are written, the place among those written together of the one
    that does not fit.
    """

    def __init__(self, text: str, fragment: int | None = None) -> None:
        super().__init__(text)
        self.fragment = fragment


_DECODER = msgspec.msgpack.Decoder(Form)


def encode_form(form: Form) -> bytes:
    """Equal forms give equal bytes. UnicodeEncodeError if a name is not UTF-8."""
    return msgspec.msgpack.encode(form)


def decode_form(data: bytes | memoryview) -> Form:
    """What `encode_form` gave; msgspec.DecodeError if it is something else."""
    return _DECODER.decode(data)


def merge(one: Form, other: Form) -> Form:
    """The form that can hold the rows of both. Raises `Unmergeable`."""
    if one == other:
        return one
    if one.format != other.format:
        raise Unmergeable(f"rows of format {one.format} cannot stand beside rows of format {other.format}")
    if [column.name for column in one.columns] != [column.name for column in other.columns]:
        raise Unmergeable(_names_differ(one, other))
    promote = _PROMOTE[one.format]
    columns: list[Column] = []
    wrong: list[str] = []
    for mine, yours in zip(one.columns, other.columns, strict=True):
        try:
            columns.append(Column(mine.name, promote(mine.type, yours.type)))
        except Unpromotable as error:
            wrong.append(f"{mine.name!r} is {mine.type} in one and {yours.type} in the other{_why(error)}")
    if wrong:
        raise Unmergeable(
            f"columns of mini-batches have types that do not go together: {_some(wrong, '; ')}."
            f" {_both(one, other)} Give these columns the same type in every mini-batch, as with astype()"
        )
    return Form(one.format, tuple(columns))


def shown(form: Form) -> str:
    """In words, for messages: `a int64, b string`."""
    return _some([f"{column.name!r} {column.type}" for column in form.columns]) or "no columns"


def _why(error: Unpromotable) -> str:
    return f" ({error})" if str(error) else ""


def _names_differ(one: Form, other: Form) -> str:
    mine = [column.name for column in one.columns]
    yours = [column.name for column in other.columns]
    missing = [repr(name) for name in mine if name not in set(yours)]
    more = [repr(name) for name in yours if name not in set(mine)]
    differs = [f"only one has {_some(missing)}"] if missing else []
    differs += [f"only the other has {_some(more)}"] if more else []
    if not differs:
        differs = ["their order, or how often a name stands there"]
    return (
        f"mini-batches have different columns: {'; '.join(differs)}. {_both(one, other)}"
        " Return the same columns in the same order from every mini-batch"
    )


def _both(one: Form, other: Form) -> str:
    return f"One has: {shown(one)}. The other has: {shown(other)}."


def _some(texts: list[str], separator: str = ", ") -> str:
    more = len(texts) - _SHOWN_COLUMNS
    return separator.join(texts[:_SHOWN_COLUMNS]) + (f"{separator}and {more} more" if more > 0 else "")
