"""Text output: what `run()` returned becomes lines of UTF-8 (CONTRACT sections 1 and 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import add
from typing import Any

from mpibatch.outputs.encoding import (
    ELEMENTS,
    BadReturn,
    Keys,
    NotEncodable,
    Rows,
    checked,
    collect,
    described,
    is_data_frame,
    shown_surrogate,
)
from mpibatch.work import WARN_NEWLINE

__all__ = ["BadReturn", "NotEncodable", "Rows", "TextEncoder"]


class TextEncoder:
    """Makes fragments of returned values; of nothing, if the action is summary_only.

    `append_row`: keyword arguments of `DataFrame.to_csv`, complete. `add_input_key`: each row begins with
    its input, as `outputs.input_key` tells.
    """

    def __init__(
        self, output_action: str, append_row: Mapping[str, Any], add_input_key: bool = False
    ) -> None:
        self._stores = output_action == "append_row"
        self._to_csv = dict(append_row)
        self._keyed = add_input_key and self._stores
        self._writer: Any = None

    def collect(self, result: object) -> Any:
        """The value in a form for `encode`: a DataFrame, or elements that can be counted and gone through.

        Consumes an iterator, so what it raises is the script's error. Raises `BadReturn`.
        """
        if isinstance(result, ELEMENTS):  # The usual case, of which there may be a hundred thousand a second.
            return result
        return collect(result, stores=self._stores, whole=self._keyed)

    def encode(self, collected: Any, items: int, keys: Keys | None = None) -> Rows:
        """The rows of what `collect` gave, for a mini-batch of `items`. Raises `NotEncodable`."""
        if not self._stores:
            return checked(Rows(returned=len(collected)), items)
        if self._keyed:
            rows = self._with_keys(collected, items, keys)
        else:
            rows = _lines(collected) if isinstance(collected, ELEMENTS) else self._frame(collected)
        return checked(rows, items)

    def _with_keys(self, collected: Any, items: int, keys: Keys | None) -> Rows:
        from mpibatch.outputs.input_key import keyed_frame, positions, prefixes

        assert keys is not None, "add_input_key needs the keys"
        given = keys()
        places = positions(collected, items, given.labelled and given.rows is not None)
        if is_data_frame(collected):
            return self._frame(keyed_frame(collected, places, given))
        return _lines(list(collected), prefixes(places, given, self._to_csv.get("sep", " ")))

    def _frame(self, frame: Any) -> Rows:
        """Byte for byte what `to_csv` gives, the header (if it is on) included."""
        if self._writer is None:
            from mpibatch.outputs.frame_text import FrameText

            self._writer = FrameText(self._to_csv)
        has_header = self._to_csv.get("header", True) is not False
        if has_header and not len(frame.columns) and not len(frame):
            return Rows(returned=0)  # Its header, an empty line, must not stand for that of all others.
        try:
            head, body = self._writer.parts(frame)
            header = head.encode("utf-8", "surrogateescape")
            fragment = header + body.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            line = str(error.object).count("\n", 0, error.start)
            raise NotEncodable(
                f"line {line} (counting from 0) of the DataFrame that run() returned cannot be written: "
                f"{shown_surrogate(error)}"
            ) from error
        except Exception as error:
            raise NotEncodable(
                f"DataFrame.to_csv({_keywords(self._to_csv)}) of what run() returned raised "
                f"{type(error).__name__}: {error}"
            ) from error
        return Rows(returned=len(frame), rows=len(frame), fragment=fragment, header=len(header))


def _lines(elements: Iterable[object], prefixes: Sequence[str] | None = None) -> Rows:
    """`str(element)` and a newline for each; names that are not UTF-8 come out as the bytes they are."""
    try:
        lines = list(map(str, elements))
        if prefixes is not None:
            lines = list(map(add, prefixes, lines))
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
        what = f"element {number} (counting from 0; {described(element)}) of what run() returned"
        try:
            text = str(element)
        except Exception as raised:
            why = f"its __str__ raised {type(raised).__name__}: {raised}"
            return NotEncodable(f"{what} cannot be written: {why}")
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as bad:
            return NotEncodable(f"{what} cannot be written: {shown_surrogate(bad)}")
    return NotEncodable(f"what run() returned cannot be written: {type(error).__name__}: {error}")


def _keywords(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in settings.items())
