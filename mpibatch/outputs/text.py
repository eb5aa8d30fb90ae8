"""Text output: what `run()` returned becomes lines of UTF-8 (CONTRACT sections 1 and 3).

Two steps, as they differ in whose time and whose fault it is: `collect` looks at the returned value
and consumes generators, inside the timed call; `encode` makes bytes of it. Neither imports pandas
or numpy: who returns a DataFrame has imported pandas already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, Sized
from typing import Any

import msgspec

from mpibatch.work import WARN_MORE_ROWS, WARN_NEWLINE

MAX_FRAGMENT = (1 << 31) - (1 << 20)
"""Bytes that the rows of one mini-batch may have: counts of MPI are signed 32-bit numbers."""

_ACCEPTED = (
    "accepted are a list, a tuple, a pandas DataFrame or Series, a numpy array of one dimension or more, "
    "any other sequence with a length, and a generator: one element (or row) for each item that succeeded"
)
_ELEMENTS = (list, tuple)
_NO_SEQUENCE = (str, bytes, bytearray, memoryview, Mapping, Set)


class BadReturn(Exception):
    """`run()` returned what cannot be taken for rows; the text names its type and what is accepted."""


class NotEncodable(Exception):
    """An element cannot be written; the text names it. `__cause__` is the error behind it."""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What one `run()` returned, as it is stored."""

    returned: int
    """Elements or rows that the script returned."""
    rows: int = 0
    """Rows in the fragment: `returned`, or 0 where nothing is stored."""
    fragment: bytes = b""
    header: int = 0
    """Length in bytes of the header that the fragment begins with."""
    warnings: int = 0
    """Bits `WARN_*`."""


class TextEncoder:
    """Makes fragments of returned values. `append_row`: keyword arguments of `DataFrame.to_csv`, complete."""

    def __init__(self, output_action: str, append_row: Mapping[str, Any]) -> None:
        self._stores = output_action == "append_row"
        self._to_csv = dict(append_row)

    def collect(self, result: object) -> Any:
        """The value in a form for `encode`: a DataFrame, or elements that can be counted and gone through.

        Consumes an iterator, so what it raises is the script's error. Raises `BadReturn`.
        """
        if isinstance(result, _ELEMENTS) or _is_data_frame(result):
            return result
        kind = type(result)
        if isinstance(result, _NO_SEQUENCE) or _is_foreign_table(kind):
            raise _bad_return(result)
        if isinstance(result, Iterator):
            return list(result) if self._stores else range(sum(1 for _ in result))
        if isinstance(result, Sequence) or (hasattr(kind, "__len__") and hasattr(kind, "__getitem__")):
            return self._elements(result)
        raise _bad_return(result)

    def _elements(self, result: Any) -> Sized:
        try:
            length = len(result)
        except TypeError:  # Arrays and tensors of no dimension have `__len__`, but no length.
            raise _bad_return(result) from None
        if not self._stores:
            return range(length)
        elements = list(result)
        if len(elements) != length:
            raise BadReturn(
                f"run() returned {_described(result)} whose length is {length}, but going through it gives "
                f"{len(elements)} elements; {_ACCEPTED}"
            )
        return elements

    def encode(self, collected: Any, items: int) -> Rows:
        """The rows of what `collect` gave, for a mini-batch of `items`. Raises `NotEncodable`."""
        if not self._stores:
            returned = len(collected)
            return Rows(returned=returned, warnings=WARN_MORE_ROWS if returned > items else 0)
        rows = _lines(collected) if isinstance(collected, _ELEMENTS) else self._frame(collected)
        if len(rows.fragment) > MAX_FRAGMENT:
            raise NotEncodable(
                f"the rows of this mini-batch have {len(rows.fragment):,} bytes; at most {MAX_FRAGMENT:,} "
                "are possible: make mini_batch_size smaller, or let the script store them itself "
                "(output_action: summary_only)"
            )
        if rows.returned > items:
            return msgspec.structs.replace(rows, warnings=rows.warnings | WARN_MORE_ROWS)
        return rows

    def _frame(self, frame: Any) -> Rows:
        """Byte for byte what `to_csv` gives, the header (if it is on) included."""
        header = 0
        has_header = self._to_csv.get("header", True) is not False
        if has_header and not len(frame.columns) and not len(frame):
            return Rows(returned=0)  # Its header, an empty line, must not stand for that of all others.
        try:
            text = frame.to_csv(**self._to_csv)
            if has_header:
                head = frame.iloc[:0].to_csv(**self._to_csv)
                header = len(head.encode("utf-8", "surrogateescape"))
            fragment = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            line = str(error.object).count("\n", 0, error.start)
            raise NotEncodable(
                f"line {line} (counting from 0) of the DataFrame that run() returned cannot be written: "
                f"{_surrogate(error)}"
            ) from error
        except Exception as error:
            raise NotEncodable(
                f"DataFrame.to_csv({_keywords(self._to_csv)}) of what run() returned raised "
                f"{type(error).__name__}: {error}"
            ) from error
        return Rows(returned=len(frame), rows=len(frame), fragment=fragment, header=header)


def _lines(elements: Iterable[object]) -> Rows:
    """`str(element)` and a newline for each; names that are not UTF-8 come out as the bytes they are."""
    try:
        lines = list(map(str, elements))
        bare = "".join(lines)
        odd = "\n" in bare or "\r" in bare  # Half the time of counting the newlines of the text.
        del bare
        lines.append("")  # So that the last line ends too, without a second copy of the text.
        fragment = "\n".join(lines).encode("utf-8", "surrogateescape")
    except Exception as error:
        raise _culprit(elements, error) from error
    count = len(lines) - 1
    return Rows(returned=count, rows=count, fragment=fragment, warnings=WARN_NEWLINE if odd else 0)


def _culprit(elements: Iterable[object], error: Exception) -> NotEncodable:
    """Which element it was: looked for only once something has failed."""
    for number, element in enumerate(elements):
        what = f"element {number} (counting from 0; {_described(element)}) of what run() returned"
        try:
            text = str(element)
        except Exception as raised:
            why = f"its __str__ raised {type(raised).__name__}: {raised}"
            return NotEncodable(f"{what} cannot be written: {why}")
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as bad:
            return NotEncodable(f"{what} cannot be written: {_surrogate(bad)}")
    return NotEncodable(f"what run() returned cannot be written: {type(error).__name__}: {error}")


def _surrogate(error: UnicodeEncodeError) -> str:
    found = str(error.object)[error.start : error.start + 1]
    return f"it holds the lone surrogate {found!a}, which UTF-8 has no bytes for"


def _is_data_frame(value: object) -> bool:
    pandas = sys.modules.get("pandas")
    kind = getattr(pandas, "DataFrame", None)  # Another thread may just be importing pandas.
    return kind is not None and isinstance(value, kind)


def _is_foreign_table(kind: type) -> bool:
    """Tables of polars, pyarrow and the like: going through them gives columns, not rows."""
    return hasattr(kind, "to_pandas") and hasattr(kind, "columns")


def _bad_return(result: object) -> BadReturn:
    hint = ""
    if result is None:
        hint = " (is a `return` missing?)"
    elif isinstance(result, str | bytes):
        hint = " (for one row, return a list of one element)"
    elif isinstance(result, Mapping):
        hint = " (return its items as a list)"
    elif isinstance(result, Set):
        hint = " (it has no order: return a list)"
    elif _is_foreign_table(type(result)):
        hint = " (return its to_pandas())"
    elif hasattr(result, "__len__"):
        hint = " without a length"
    return BadReturn(f"run() returned {_described(result)}{hint}; {_ACCEPTED}")


def _described(value: object) -> str:
    """`None`, `a str`, `a torch.Tensor`."""
    if value is None:
        return "None"
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _keywords(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in settings.items())
