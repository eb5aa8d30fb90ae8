"""What run() may return, and the bytes that become of it."""

from __future__ import annotations

import array
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpibatch.outputs import encoding
from mpibatch.outputs.text import BadReturn, NotEncodable, Rows, TextEncoder
from mpibatch.work import WARN_MORE_ROWS, WARN_NEWLINE

DEFAULTS = {"sep": " ", "header": False, "index": False}


def encoded(result: object, items: int = 1000, **to_csv: Any) -> Rows:
    encoder = TextEncoder("append_row", {**DEFAULTS, **to_csv})
    return encoder.encode(encoder.collect(result), items)


class Colour(str, Enum):  # noqa: UP042  (its str() is not its value)
    RED = "r"


class Sized:
    """No Sequence by name, but it has a length and elements by number."""

    def __init__(self, claimed: int, real: int) -> None:
        self.claimed = claimed
        self.real = real

    def __len__(self) -> int:
        return self.claimed

    def __getitem__(self, index: int) -> str:
        if index >= self.real:
            raise IndexError
        return f"<{index}>"


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no words for it")


class Table:
    """As those of polars and pyarrow look."""

    columns = ("a",)

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame()

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return [1][index]


def shown(value: object) -> str:
    """A test's name, the same in each process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", f"{value!a}")[:40]


def three() -> Iterator[int]:
    yield from (1, 2, 3)


SEQUENCES: list[tuple[object, bytes]] = [
    ([], b""),
    ((), b""),
    (["a", "b"], b"a\nb\n"),
    (("a", 1, None), b"a\n1\nNone\n"),
    (["1 2", 'x"y'], b'1 2\nx"y\n'),
    ([""], b"\n"),
    (range(2), b"0\n1\n"),
    (deque("ab"), b"a\nb\n"),
    (array.array("i", [7, 8]), b"7\n8\n"),
    (np.array([1.5, 2.0]), b"1.5\n2.0\n"),
    (np.array([0.1], np.float32), b"0.1\n"),
    (np.array([[1, 2], [3, 4]]), b"[1 2]\n[3 4]\n"),
    (np.array([]), b""),
    (pd.Series([1, 2], index=["x", "y"]), b"1\n2\n"),
    (pd.Index(["x", "y"]), b"x\ny\n"),
    (three(), b"1\n2\n3\n"),
    (map(str, [1]), b"1\n"),
    (iter([]), b""),
    (Sized(2, 2), b"<0>\n<1>\n"),
    ([b"x", [1], {"k": 2}], b"b'x'\n[1]\n{'k': 2}\n"),
    ([Colour.RED], b"Colour.RED\n"),
    (["z\u00fc\u20ac\U0001f600"], "z\u00fc\u20ac\U0001f600\n".encode()),
    (["f\udcff\udc80"], b"f\xff\x80\n"),
]


@pytest.mark.parametrize(("result", "fragment"), SEQUENCES, ids=shown)
def test_one_line_per_element(result: object, fragment: bytes) -> None:
    rows = encoded(result)
    assert rows.fragment == fragment
    assert rows.rows == rows.returned == fragment.count(b"\n")
    assert (rows.header, rows.warnings) == (0, 0)


WRONG: list[tuple[object, str]] = [
    (None, "None (is a `return` missing?)"),
    ("text", "a str (for one row, return a list of one element)"),
    (b"text", "a bytes (for one row"),
    (bytearray(b"x"), "a bytearray"),
    (memoryview(b"x"), "a memoryview"),
    ({"a": 1}, "a dict (return its items as a list)"),
    ({1}, "a set (it has no order"),
    ({"a": 1}.keys(), "a dict_keys"),
    (1, "an int;"),
    (True, "a bool;"),
    (np.float64(1.5), "a numpy.float64"),
    (np.array(3), "a numpy.ndarray without a length"),
    (object(), "an object;"),
    (Table(), "(return its to_pandas())"),
]


@pytest.mark.parametrize("output_action", ["append_row", "summary_only"])
@pytest.mark.parametrize(("result", "words"), WRONG, ids=shown)
def test_what_is_refused_is_named(result: object, words: str, output_action: str) -> None:
    with pytest.raises(BadReturn) as caught:
        TextEncoder(output_action, DEFAULTS).collect(result)
    message = str(caught.value)
    assert message.startswith("run() returned ")
    assert words in message
    assert "accepted are a list, a tuple, a pandas DataFrame" in message


def test_a_length_that_is_not_true_is_refused() -> None:
    with pytest.raises(
        BadReturn, match="whose length is 3, but going through it gives 2 elements; accepted are"
    ):
        encoded(Sized(3, 2))


def test_what_a_generator_raises_comes_out_as_it_is() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("midway")

    with pytest.raises(KeyError, match="midway"):
        TextEncoder("append_row", DEFAULTS).collect(broken())


UNWRITABLE: list[tuple[list[object], str]] = [
    (["a", "b\ud800c"], "element 1 (counting from 0; a str)"),
    (["\ud800"], "'\\ud800'"),
    (
        [1, 2, Unprintable()],
        "Unprintable) of what run() returned cannot be written: its __str__ raised ValueError",
    ),
    ([Unprintable()], "no words for it"),
]


@pytest.mark.parametrize(("result", "words"), UNWRITABLE, ids=range(len(UNWRITABLE)))
def test_what_cannot_be_written_is_named_by_its_number(result: list[object], words: str) -> None:
    with pytest.raises(NotEncodable) as caught:
        encoded(result)
    assert words in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("result", "warnings"),
    [(["a\nb"], WARN_NEWLINE), (["a\r"], WARN_NEWLINE), (["\n"], WARN_NEWLINE), (["a b"], 0), ([["\n"]], 0)],
)
def test_a_newline_inside_is_written_as_it_is_with_a_warning(result: list[object], warnings: int) -> None:
    rows = encoded(result)
    assert rows.warnings == warnings
    assert rows.fragment == f"{result[0]}\n".encode()
    assert rows.rows == 1


@pytest.mark.parametrize("output_action", ["append_row", "summary_only"])
@pytest.mark.parametrize(("returned", "items", "warns"), [(2, 2, False), (3, 2, True), (0, 2, False)])
def test_more_elements_than_items_warn(output_action: str, returned: int, items: int, warns: bool) -> None:
    encoder = TextEncoder(output_action, DEFAULTS)
    for result in ([*range(returned)], iter(range(returned)), pd.DataFrame({"a": [*range(returned)]})):
        rows = encoder.encode(encoder.collect(result), items)
        assert rows.returned == returned
        assert rows.warnings == (WARN_MORE_ROWS if warns else 0)


@pytest.mark.parametrize(
    "result",
    [["a", "b"], ("a", "b"), iter("ab"), pd.DataFrame({"a": [1, 2]}), np.zeros(2), [Unprintable()] * 2],
)
def test_summary_only_stores_nothing(result: object) -> None:
    encoder = TextEncoder("summary_only", DEFAULTS)
    assert encoder.encode(encoder.collect(result), 2) == Rows(returned=2)


FRAMES: dict[str, pd.DataFrame] = {
    "plain": pd.DataFrame({"a": [1, 2], "b": ["x y", 'q"q'], "c": [0.1, float("nan")]}),
    "no rows": pd.DataFrame({"a": [], "b": []}),
    "nothing": pd.DataFrame(),
    "newlines": pd.DataFrame({"line\nbreak": ["x\ny", "z"]}),
    "number names": pd.DataFrame([[1.5, 2.5]], columns=[0.25, 3]),
    "twice a name": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "unicode": pd.DataFrame({"\u00e4": ["\u20ac", "\U0001f600"]}),
    "levels": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["n", "m"])
    ),
    "index": pd.DataFrame({"a": [1, 2]}, index=pd.Index(["i", "j"], name="key")),
    "dates": pd.DataFrame({"t": [pd.Timestamp("2024-02-29"), pd.NaT]}),
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"sep": ","},
    {"header": True},
    {"header": True, "index": True, "sep": "\t"},
    {"header": True, "index": True, "index_label": "row"},
    {"header": True, "lineterminator": "\r\n", "na_rep": "-", "float_format": "%.2f"},
]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (name, settings)
        for name in FRAMES
        for settings in SETTINGS
        if name != "nothing" or not settings.get("header")  # Which has a test of its own.
    ],
    ids=str,
)
def test_a_data_frame_is_byte_for_byte_to_csv(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    frame = FRAMES[name]
    keywords = {**DEFAULTS, **settings}
    frame.to_csv(tmp_path / "expected", **keywords)
    expected = (tmp_path / "expected").read_bytes()
    rows = encoded(frame, **settings)
    assert rows.fragment == expected
    assert rows.rows == rows.returned == len(frame)
    assert rows.warnings == 0
    if not keywords["header"]:
        assert rows.header == 0
    else:
        # What is left without the header is what to_csv gives without one.
        frame.to_csv(tmp_path / "body", **{**keywords, "header": False})
        assert rows.fragment[rows.header :] == (tmp_path / "body").read_bytes()


def test_an_empty_frame_without_columns_has_no_header() -> None:
    assert encoded(pd.DataFrame(), header=True) == Rows(returned=0)


def test_header_names_of_the_settings_count_as_a_header() -> None:
    rows = encoded(pd.DataFrame({"a": [1], "b": [2]}), header=["first", "second"])
    assert (rows.fragment, rows.header) == (b"first second\n1 2\n", len(b"first second\n"))


def test_a_data_frame_that_cannot_be_written() -> None:
    with pytest.raises(NotEncodable, match=r"line 1 \(counting from 0\) of the DataFrame.*\\ud800"):
        encoded(pd.DataFrame({"a": ["x", "\ud800"]}, dtype=object))
    with pytest.raises(NotEncodable, match=r"to_csv\(sep=' '.*raised Error: need to escape"):
        encoded(pd.DataFrame({"a": ["x y"]}), quoting=3)
    assert encoded(pd.DataFrame({"a": ["f\udcff"]}, dtype=object)).fragment == b"f\xff\n"


def test_more_bytes_than_a_message_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_FRAGMENT", 10)
    assert encoded(["123456789"]).rows == 1
    with pytest.raises(
        NotEncodable, match="have 11 bytes; at most 10 are possible: make mini_batch_size smaller"
    ):
        encoded(["1234567890"])


def test_neither_pandas_nor_numpy_is_imported() -> None:
    code = (
        "import sys; from mpibatch.outputs.text import TextEncoder as T; t = T('append_row', {}); "
        "t.encode(t.collect([1, 'a']), 2); print({'pandas', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@given(st.lists(st.one_of(st.text(), st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))))
def test_any_text_comes_back_or_is_refused(elements: list[str]) -> None:
    try:
        expected = b"".join(element.encode("utf-8", "surrogateescape") + b"\n" for element in elements)
    except UnicodeEncodeError:
        with pytest.raises(NotEncodable):
            encoded(elements)
        return
    rows = encoded(elements)
    assert rows.fragment == expected
    assert rows.rows == len(elements)
    inside = any(mark in element for element in elements for mark in "\r\n")
    assert rows.warnings == (WARN_NEWLINE if inside else 0)
