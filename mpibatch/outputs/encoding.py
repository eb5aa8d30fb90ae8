"""What the encoders of all formats share: the words, which values `run()` may return, and rows as a DataFrame.

Two steps, as they differ in whose time and whose fault it is: `collect` looks at the returned value and
consumes generators, inside the timed call; `encode` makes a fragment of it. Pandas and numpy are imported
only where a DataFrame is to be made: who returns one has imported pandas already.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mpibatch.work import WARN_MORE_ROWS

if TYPE_CHECKING:
    import pandas as pd

MAX_FRAGMENT = (1 << 31) - (1 << 20)
"""Bytes that the rows of one mini-batch may have: counts of MPI are signed 32-bit numbers."""

ACCEPTED = (
    "accepted are a list, a tuple, a pandas DataFrame or Series, a numpy array of one dimension or more, "
    "any other sequence with a length, and a generator: one element (or row) for each item that succeeded"
)
ELEMENTS = (list, tuple)
_NO_SEQUENCE = (str, bytes, bytearray, memoryview, Mapping, Set)
_ONE_ROW = (list, tuple)


class BadReturn(Exception):
    """`run()` returned what cannot be taken for rows; the text names its type and what is accepted."""


class NotEncodable(Exception):
    """An element cannot be written; the text names it. `__cause__` is the error behind it."""


class BadRows(NotEncodable):
    """The rows together are no output of their items, whatever each of them is."""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What one `run()` returned, as it is stored.

    Nothing returned that has no columns either (an empty list) has an empty fragment, without a form.
    """

    returned: int
    """Elements or rows that the script returned."""
    rows: int = 0
    """Rows in the fragment: `returned`, or 0 where nothing is stored."""
    fragment: bytes = b""
    header: int = 0
    """Length in bytes of the header, or of the form (`core.forms`), that the fragment begins with."""
    warnings: int = 0
    """Bits `WARN_*`."""


class ItemKeys(msgspec.Struct, frozen=True):
    """Which items `run()` got, without those that could not be read."""

    paths: list[str] | str
    """The file of each item, or the one file of all of them. As `os.fsdecode` spells them."""
    rows: Sequence[int] | None
    """Row number of each item in its table, from 0; None where the items are files."""
    labelled: bool = True
    """`run()` got the rows of a table as a DataFrame, whose index counted them from 0."""


Keys = Callable[[], ItemKeys]
"""Called only where the keys are wanted, as making them takes time."""


class Encoder(Protocol):
    """Makes fragments of what `run()` returns."""

    def collect(self, result: object) -> Any:
        """The value in a form for `encode`, with a length. Consumes iterators, so that what these raise is
        the script's error. Raises BadReturn."""

    def encode(self, collected: Any, items: int, keys: Keys) -> Rows:
        """The rows of what `collect` gave, for `items` items. Raises NotEncodable."""


def collect(result: object, *, stores: bool = True, whole: bool = False) -> Any:
    """A DataFrame, a list or a tuple as it is; what else has elements as a list; BadReturn for the rest.

    `whole`: Series and numpy arrays stay what they are too. Without `stores`, only the length is right.
    """
    if isinstance(result, ELEMENTS) or is_data_frame(result):
        return result
    kind = type(result)
    if isinstance(result, _NO_SEQUENCE) or is_foreign_table(kind):
        raise bad_return(result)
    if isinstance(result, Iterator):
        return list(result) if stores else range(sum(1 for _ in result))
    if isinstance(result, Sequence) or (hasattr(kind, "__len__") and hasattr(kind, "__getitem__")):
        return _elements(result, stores, whole)
    raise bad_return(result)


def _elements(result: Any, stores: bool, whole: bool) -> Any:
    try:
        length = len(result)
    except TypeError:  # Arrays and tensors of no dimension have `__len__`, but no length.
        raise bad_return(result) from None
    if not stores:
        return range(length)
    if whole and (is_series(result) or is_array(result)):
        return result
    elements = list(result)
    if len(elements) != length:
        raise BadReturn(
            f"run() returned {described(result)} whose length is {length}, but going through it gives "
            f"{len(elements)} elements; {ACCEPTED}"
        )
    return elements


def checked(rows: Rows, items: int) -> Rows:
    """`rows` with a warning if there are more than `items`. NotEncodable if a message cannot hold them."""
    if len(rows.fragment) > MAX_FRAGMENT:
        raise NotEncodable(
            f"the rows of this mini-batch have {len(rows.fragment):,} bytes; at most {MAX_FRAGMENT:,} "
            "are possible: make mini_batch_size smaller, or let the script store them itself "
            "(output_action: summary_only)"
        )
    if rows.returned > items:
        return msgspec.structs.replace(rows, warnings=rows.warnings | WARN_MORE_ROWS)
    return rows


def as_frame(collected: Any) -> pd.DataFrame:
    """The rows of what `collect(..., whole=True)` gave, in columns.

    A DataFrame is itself. Dicts give their keys as columns, lists and tuples and arrays of two dimensions
    the numbers from 0 (or the fields of named tuples); all else is one column, named "value" or as the
    Series is. Raises NotEncodable for a mixture of these, and for arrays of more dimensions.
    """
    if is_data_frame(collected):
        return collected  # type: ignore[no-any-return]
    if is_series(collected):
        return collected.to_frame("value" if collected.name is None else collected.name)  # type: ignore[no-any-return]
    if is_array(collected) and collected.ndim > 2:
        raise NotEncodable(
            f"run() returned a numpy array of {collected.ndim} dimensions, {collected.shape}, which has no "
            "columns; return one of one or two dimensions, or set append_row_format: hdf5"
        )
    try:
        return _made(collected)
    except (TypeError, ValueError, OverflowError) as error:
        raise NotEncodable(
            f"what run() returned cannot be made into a DataFrame: {type(error).__name__}: {error}"
        ) from error


def _made(collected: Any) -> pd.DataFrame:
    import pandas as pd

    if is_array(collected):
        return pd.DataFrame({"value": collected} if collected.ndim == 1 else collected)
    if not len(collected):
        return pd.DataFrame()
    rows = collected if _have_columns(collected) else {"value": list(collected)}
    try:
        return pd.DataFrame(rows)
    except UnicodeEncodeError:
        return _of_objects(pd.DataFrame(rows, dtype=object))


def _of_objects(frame: pd.DataFrame) -> pd.DataFrame:
    """Each column of its own kind; but names that are not UTF-8 stay objects, as pandas' text cannot hold them."""
    for place in range(len(frame.columns)):
        with contextlib.suppress(UnicodeEncodeError):
            better: Any = frame.iloc[:, place].infer_objects()
            frame.isetitem(place, better)
    return frame


def column_names(frame: pd.DataFrame) -> list[str]:
    """The names as text. NotEncodable where they are of several levels, or a name stands there twice."""
    if frame.columns.nlevels > 1:
        raise NotEncodable(
            "the DataFrame that run() returned has column names of several levels; make names of one level, "
            "such as frame.columns = ['_'.join(map(str, name)) for name in frame.columns]"
        )
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NotEncodable(
            f"the DataFrame that run() returned has more than one column {twice!r}; give each its own name"
        )
    return names


def _have_columns(elements: Sequence[object]) -> bool:
    """They are rows of several values: all of them dicts, or all of them lists. Raises NotEncodable."""
    first = elements[0]
    kinds = Mapping if isinstance(first, Mapping) else _ONE_ROW if isinstance(first, _ONE_ROW) else None
    for number, element in enumerate(elements):
        same = isinstance(element, kinds) if kinds else not isinstance(element, Mapping | list | tuple)
        if not same:
            raise NotEncodable(
                f"element {number} (counting from 0) of what run() returned is {described(element)}, but "
                f"element 0 is {described(first)}; return rows of one kind: dicts, lists or tuples, or values"
            )
    return kinds is not None


def is_data_frame(value: object) -> bool:
    return _is_of("pandas", "DataFrame", value)


def is_series(value: object) -> bool:
    return _is_of("pandas", "Series", value)


def is_array(value: object) -> bool:
    """A numpy array."""
    return _is_of("numpy", "ndarray", value)


def _is_of(module: str, name: str, value: object) -> bool:
    kind = getattr(sys.modules.get(module), name, None)  # Another thread may just be importing it.
    return kind is not None and isinstance(value, kind)


def is_foreign_table(kind: type) -> bool:
    """Tables of polars, pyarrow and the like: going through them gives columns, not rows."""
    return hasattr(kind, "to_pandas") and hasattr(kind, "columns")


def bad_return(result: object) -> BadReturn:
    hint = ""
    if result is None:
        hint = " (is a `return` missing?)"
    elif isinstance(result, str | bytes):
        hint = " (for one row, return a list of one element)"
    elif isinstance(result, Mapping):
        hint = " (return its items as a list)"
    elif isinstance(result, Set):
        hint = " (it has no order: return a list)"
    elif is_foreign_table(type(result)):
        hint = " (return its to_pandas())"
    elif hasattr(type(result), "__await__") or hasattr(type(result), "__aiter__"):
        hint = " (it is never awaited: make run() itself an async def)"
    elif hasattr(result, "__len__"):
        hint = " without a length"
    return BadReturn(f"run() returned {described(result)}{hint}; {ACCEPTED}")


def described(value: object) -> str:
    """`None`, `a str`, `a torch.Tensor`."""
    if value is None:
        return "None"
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def shown_surrogate(error: UnicodeEncodeError) -> str:
    """Why a text cannot be written."""
    found = str(error.object)[error.start : error.start + 1]
    return f"it holds the lone surrogate {found!a}, which UTF-8 has no bytes for"
