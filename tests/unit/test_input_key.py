"""Which item a row belongs to, and its key in front of the row, in every format that is text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.outputs.encoders import make_encoder
from mpibatch.outputs.encoding import ItemKeys, NotEncodable, Rows
from mpibatch.outputs.input_key import INDEX, key_columns, keyed_frame, name_rows, positions, prefixes

FILES = ItemKeys(["/a", "/b c", "/c"], None)
TABLE = ItemKeys("/t.csv", [4, 6, 7])  # Row 5 could not be read.
TEXT = {"sep": " ", "header": False, "index": False}


def frame(labels: Any, name: str | None = INDEX) -> pd.DataFrame:
    return pd.DataFrame({"x": [10 * n for n in range(len(labels))]}, index=pd.Index(labels, name=name))


RIGHT: list[tuple[Any, int, bool, list[int]]] = [
    (["a", "b"], 2, True, [0, 1]),
    ([], 2, True, []),
    ([], 2, False, []),
    (np.zeros((2, 3)), 2, False, [0, 1]),
    (frame([0, 1, 2]), 3, True, [0, 1, 2]),
    # Filtered, put in another order, exploded.
    (frame([2, 5]), 6, True, [2, 5]),
    (frame([2, 0, 1]), 3, True, [2, 0, 1]),
    (frame([0, 0, 1, 1]), 2, True, [0, 0, 1, 1]),
    (frame([1]).iloc[:0], 2, True, []),
    (pd.Series([1.5], index=pd.Index([3], name=INDEX)), 4, True, [3]),
    # As many rows as items, and no labels that say otherwise.
    (frame([10, 11, 12]), 3, True, [0, 1, 2]),
    (frame(["x", "y"]), 2, True, [0, 1]),
    (frame([0, 0, 0]), 3, True, [0, 1, 2]),
    (frame([1, 0], name="id"), 2, True, [0, 1]),
    (frame([1.0, 0.0]), 2, True, [0, 1]),
    (frame([1, 0]), 2, False, [0, 1]),
    (pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, 1), (0, 0)])), 2, True, [0, 1]),
]


@pytest.mark.parametrize(("collected", "items", "labelled", "expected"), RIGHT, ids=range(len(RIGHT)))
def test_positions(collected: Any, items: int, labelled: bool, expected: list[int]) -> None:
    assert list(positions(collected, items, labelled)) == expected


WRONG: list[tuple[Any, int, bool, str]] = [
    (["a"], 2, True, r"a list of 1 rows for 2 items.*: it has no index\. Return one row for each item"),
    (np.zeros(3), 2, True, "a numpy.ndarray of 3 rows"),
    (frame([0, 1]), 3, False, "run\\(\\) got no DataFrame"),
    (frame([0, 1, 2]), 2, True, r"the label 2, but the rows that run\(\) got are 0 to 1"),
    (frame([-1]), 2, True, "the label -1"),
    (frame(["x"]), 2, True, "not the one that the rows had"),
    (frame([1], name="id"), 2, True, "not the one that the rows had"),
    # Those that pandas makes anew, as after reset_index, merge, or of a list.
    (frame([0, 1], name=None), 3, True, "a reset or a new one"),
    (pd.DataFrame([{"x": 1}]), 3, True, "a reset or a new one"),
    (frame([0, 1, 2, 3], name=None), 2, True, "a reset or a new one"),
    (frame([1.0]), 2, True, "not the one that the rows had"),
    (frame(pd.array([1, None, 0], dtype="Int64")), 2, True, "not the one that the rows had"),
    (pd.DataFrame({"x": [1]}, index=pd.MultiIndex.from_tuples([(1, 1)])), 2, True, "not the one"),
    (pd.Series([1, 2, 3]), 2, True, r"a pandas\.\S*Series of 3 rows"),
]


@pytest.mark.parametrize(("collected", "items", "labelled", "words"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_told_fails(collected: Any, items: int, labelled: bool, words: str) -> None:
    with pytest.raises(NotEncodable, match=words) as caught:
        positions(collected, items, labelled)
    assert "set add_input_key: false" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.data())
def test_rows_of_the_input_find_their_items(items: int, data: st.DataObject) -> None:
    """However run() filters, sorts or repeats the rows that it got: only where as many rows as items are
    repeated ones does the position count."""
    got = pd.DataFrame({"x": range(items)})
    name_rows(got)
    labels = data.draw(st.lists(st.integers(0, items - 1), max_size=10))
    returned = got.loc[labels]
    if len(labels) == items and len(set(labels)) < items:
        assert list(positions(returned, items)) == list(range(items))
    else:
        assert list(positions(returned, items)) == returned["x"].tolist()


def test_columns_and_prefixes() -> None:
    assert key_columns([2, 0], FILES) == {"input": ["/c", "/a"]}
    assert key_columns([2, 0, 0], TABLE) == {"input": ["/t.csv"] * 3, "input_row": [7, 4, 4]}
    assert key_columns([0], ItemKeys("/t", range(9, 10))) == {"input": ["/t"], "input_row": [9]}
    assert prefixes([1], FILES, " ") == ["/b c "]
    assert prefixes([1, 0], TABLE, ",") == ["/t.csv,6,", "/t.csv,4,"]


def test_a_frame_with_keys_is_another_one() -> None:
    given_frame = frame([2, 2])
    before = given_frame.copy(deep=True)
    keyed = keyed_frame(given_frame, [2, 2], TABLE)
    assert keyed.to_dict("list") == {"input": ["/t.csv"] * 2, "input_row": [7, 7], "x": [0, 10]}
    assert str(keyed["input_row"].dtype) == "int64"
    pd.testing.assert_frame_equal(given_frame, before)
    for name in ("input", "input_row"):
        with pytest.raises(NotEncodable, match=f"puts the name '{name}' in front"):
            keyed_frame(pd.DataFrame({name: [1]}), [0], TABLE)
    keyed_frame(pd.DataFrame({"input_row": [1]}), [0], FILES)  # Which have no row.


def encoded(form: str, result: object, keys: ItemKeys, **append_row: Any) -> Rows:
    encoder = make_encoder("append_row", form, {**TEXT, **append_row}, True)
    return encoder.encode(encoder.collect(result), 3, lambda: keys)


TEXTS: list[tuple[Any, ItemKeys, dict[str, Any], str]] = [
    (["x", 1, None], FILES, {}, "/a x\n/b c 1\n/c None\n"),
    (iter(["x", "y", "z"]), TABLE, {}, "/t.csv 4 x\n/t.csv 6 y\n/t.csv 7 z\n"),
    (np.array([1.5, 2, 3]), FILES, {"sep": ";"}, "/a;1.5\n/b c;2.0\n/c;3.0\n"),
    (pd.Series([5], index=pd.Index([1], name=INDEX)), TABLE, {}, "/t.csv 6 5\n"),
    (frame([1]), TABLE, {}, "/t.csv 6 0\n"),
    (frame([0, 1, 2]), FILES, {}, '/a 0\n"/b c" 10\n/c 20\n'),
    (frame([1]), TABLE, {"header": True, "sep": ","}, "input,input_row,x\n/t.csv,6,0\n"),
    ([], FILES, {}, ""),
]


@pytest.mark.parametrize(("result", "keys", "append_row", "text"), TEXTS, ids=range(len(TEXTS)))
def test_text(result: Any, keys: ItemKeys, append_row: dict[str, Any], text: str) -> None:
    rows = encoded("text", result, keys, **append_row)
    assert rows.fragment.decode() == text
    assert rows.rows == rows.returned == len(text.splitlines()) - bool(append_row.get("header"))


def test_text_of_names_that_are_not_utf_8() -> None:
    odd = ItemKeys(["/f\udcff"], None)
    for result in (["x"], pd.DataFrame({"x": ["x"]})):
        encoder = make_encoder("append_row", "text", TEXT, True)
        assert encoder.encode(encoder.collect(result), 1, lambda: odd).fragment == b"/f\xff x\n"


LINES: list[tuple[Any, ItemKeys, list[Any]]] = [
    (frame([1]), TABLE, [{"input": "/t.csv", "input_row": 6, "x": 0}]),
    (
        [{"x": 1}, 2, [3]],
        FILES,
        [{"input": "/a", "x": 1}, {"input": "/b c", "value": 2}, {"input": "/c", "value": [3]}],
    ),
    (
        pd.Series([1.5], index=pd.Index([2], name=INDEX)),
        TABLE,
        [{"input": "/t.csv", "input_row": 7, "value": 1.5}],
    ),
    (["x"] * 3, ItemKeys(["/f\udcff"] * 3, None), [{"input": "/f\\xff", "value": "x"}] * 3),
]


@pytest.mark.parametrize(("result", "keys", "objects"), LINES, ids=range(len(LINES)))
def test_json_lines(result: Any, keys: ItemKeys, objects: list[Any]) -> None:
    rows = encoded("jsonl", result, keys)
    assert [json.loads(line) for line in rows.fragment.splitlines()] == objects
    assert list(json.loads(rows.fragment.splitlines()[0])) == list(objects[0])  # The key is in front.


@pytest.mark.parametrize("form", ["text", "csv", "jsonl"])
def test_every_format_fails_alike(form: str) -> None:
    with pytest.raises(NotEncodable, match=r"add_input_key: run\(\) returned a list of 2 rows for 3 items"):
        encoded(form, ["x", "y"], FILES)
    # run() got a list of files: whatever index its DataFrame has, it is none of ours.
    with pytest.raises(NotEncodable, match=r"run\(\) got no DataFrame"):
        encoded(form, frame([0, 1]), FILES)
    with pytest.raises(NotEncodable, match=r"run\(\) got no DataFrame"):
        encoded(form, frame([0, 1]), ItemKeys("/t", [1, 2, 3], labelled=False))


def test_keys_are_made_only_where_they_are_wanted() -> None:
    def never() -> ItemKeys:
        raise AssertionError("asked for")

    for form in ("text", "csv", "jsonl"):
        encoder = make_encoder("append_row", form, TEXT, False)
        assert encoder.encode(encoder.collect(["x"]), 1, never).rows == 1
    counting = make_encoder("summary_only", "csv", TEXT, True)
    assert counting.encode(counting.collect(["x"]), 1, never) == Rows(returned=1)


def test_an_unknown_format_is_our_fault() -> None:
    with pytest.raises(AssertionError, match="xml"):
        make_encoder("append_row", "xml", TEXT, False)
