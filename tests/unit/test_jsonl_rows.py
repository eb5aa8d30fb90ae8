"""Rows as JSON lines."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.outputs.encoding import BadReturn, ItemKeys, NotEncodable, Rows
from mpibatch.outputs.jsonl_rows import JsonlEncoder
from mpibatch.work import WARN_MORE_ROWS


def encoded(result: object, items: int = 1000) -> Rows:
    def never() -> ItemKeys:
        raise AssertionError("keys are not wanted")

    encoder = JsonlEncoder(False)
    return encoder.encode(encoder.collect(result), items, never)


def objects(rows: Rows) -> list[Any]:
    def none(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    assert rows.header == 0
    assert rows.fragment.count(b"\n") == rows.rows == rows.returned
    return [json.loads(line, parse_constant=none) for line in rows.fragment.split(b"\n")[:-1]]


class Colour(enum.Enum):
    RED = "r"


class Text(str):
    pass


class Tensor:
    def tolist(self) -> list[int]:
        return [1, 2]


class Number(float):
    pass


INSTANT = pd.Timestamp("2024-02-29 01:02:03.5")
VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (1.5, 1.5),
    (math.nan, None),
    (-math.inf, None),
    (2**63 - 1, 2**63 - 1),
    ('a\n"\u00fc', 'a\n"\u00fc'),
    ({"a": [1, {"b": math.nan}]}, {"a": [1, {"b": None}]}),
    ({1: 2}, {"1": 2}),
    ((1, "x"), [1, "x"]),
    (np.float64(0.1), 0.1),
    (np.float64("nan"), None),
    (np.float32(0.1), 0.1),
    (np.float16(0.1), 0.1),
    (np.longdouble(1.5), 1.5),
    (np.int8(3), 3),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array([0.1, np.nan], np.float32), [0.1, None]),
    (np.array(7), 7),
    (np.array([1, "a", None], object), [1, "a", None]),
    (np.array(["2024-02-29", "NaT"], "M8[ns]"), ["2024-02-29T00:00:00", None]),
    (np.array(["2024-02", "NaT"], "M8[M]"), ["2024-02", None]),
    (np.array([["2024-02-29"]], "M8[s]"), [["2024-02-29T00:00:00"]]),
    (np.datetime64("NaT"), None),
    (np.datetime64("2024-02-29"), "2024-02-29"),
    (pd.NA, None),
    (pd.NaT, None),
    (INSTANT, "2024-02-29T01:02:03.500000"),
    (INSTANT.tz_localize("UTC"), "2024-02-29T01:02:03.500000+00:00"),
    (pd.Timedelta("1s"), "P0DT0H0M1S"),
    (pd.Interval(0, 1), "(0, 1]"),
    (pd.Series([1.5, None]), [1.5, None]),
    (pd.Index([1, 2]), [1, 2]),
    (pd.DataFrame({"a": [1, 2]}), {"a": [1, 2]}),
    (datetime.date(2024, 2, 29), "2024-02-29"),
    (decimal.Decimal("1.50"), "1.50"),
    (Colour.RED, "r"),
    (Text("x"), "x"),
    (Number(2.5), 2.5),
    (collections.OrderedDict(a=1), {"a": 1}),
    (collections.ChainMap({"a": 1}), {"a": 1}),
    (range(2), [0, 1]),
    (Path("/a"), "/a"),
    (Path("/f\udcff"), "/f\\xff"),
    (Tensor(), [1, 2]),
    (b"ab", "YWI="),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=range(len(VALUES)))
def test_values(value: Any, expected: Any) -> None:
    assert objects(encoded([value])) == [expected]
    assert objects(encoded([{"k": [value]}])) == [{"k": [expected]}]


def three_instants(unit: str) -> Any:
    return np.array(["2024-02-29", "NaT", "1969-12-31T23:59:59"], f"M8[{unit}]")


COLUMNS: list[tuple[Any, list[Any]]] = [
    (np.array([1.5, np.nan, -np.inf]), [1.5, None, None]),
    (np.array([0.1, np.nan, np.inf], np.float32), [0.1, None, None]),
    (np.array([1, 2, 3], np.uint8), [1, 2, 3]),
    (np.array([True, False, True]), [True, False, True]),
    (pd.array([1, None, 3], dtype="Int64"), [1, None, 3]),
    (pd.array([0.5, None, 3], dtype="Float64"), [0.5, None, 3.0]),
    (pd.array([True, None, False], dtype="boolean"), [True, None, False]),
    (["x", None, "y"], ["x", None, "y"]),
    (pd.Series(["x", None, np.nan], dtype=object), ["x", None, None]),
    (pd.Categorical(["x", None, "y"]), ["x", None, "y"]),
    (pd.Series([[1], None, {"a": np.int64(2)}], dtype=object), [[1], None, {"a": 2}]),
    *(
        (three_instants(unit), ["2024-02-29T00:00:00", None, "1969-12-31T23:59:59"])
        for unit in ("s", "ms", "ns")
    ),
    (
        np.array(
            ["2024-02-29T00:00:00.5", "2024-02-29T00:00:00.000001", "2024-02-29T00:00:00.000000001"], "M8[ns]"
        ),
        ["2024-02-29T00:00:00.500000", "2024-02-29T00:00:00.000001", "2024-02-29T00:00:00.000000001"],
    ),
    (pd.to_datetime(["2024-02-29", "NaT", "NaT"], utc=True), ["2024-02-29T00:00:00+00:00", None, None]),
    (pd.to_timedelta([1, None, None], "s"), ["P0DT0H0M1S", None, None]),
]


@pytest.mark.parametrize(("values", "expected"), COLUMNS, ids=range(len(COLUMNS)))
def test_columns(values: Any, expected: list[Any]) -> None:
    frame = pd.DataFrame({"a b": values, "n": [0, 1, 2]})
    frame.index = pd.Index([7, 7, 7])
    assert objects(encoded(frame)) == [{"a b": value, "n": n} for n, value in enumerate(expected)]
    assert objects(encoded(frame["a b"])) == expected


@pytest.mark.parametrize("name", ["a", "", 'q"', "back\\slash", "line\n", "\u20ac", 5, 0.25, None])
def test_any_name_of_a_column(name: Any) -> None:
    frame = pd.DataFrame([[1]], columns=pd.Index([name], dtype=object))
    assert objects(encoded(frame)) == [{str(name): 1}]


def test_frames_of_different_columns_after_each_other() -> None:
    encoder = JsonlEncoder(False)
    for names in (["a", "b"], ["b", "a"], ["a"], [], ["a", "b"]):
        frame = pd.DataFrame([range(len(names))], columns=names, index=[0])
        rows = encoder.encode(encoder.collect(frame), 1, None)  # type: ignore[arg-type]
        assert objects(rows) == [{name: n for n, name in enumerate(names)}]
        assert list(objects(rows)[0]) == names


@pytest.mark.parametrize(
    "result", [[], (), pd.DataFrame(), pd.DataFrame({"a": []}), np.zeros(0), np.zeros((0, 3)), iter(())]
)
def test_nothing(result: Any) -> None:
    assert encoded(result) == Rows(returned=0)


def test_arrays_give_a_line_for_each_of_the_first_dimension() -> None:
    assert encoded(np.array([[1, 2], [3, 4]])).fragment == b"[1,2]\n[3,4]\n"
    assert encoded(np.array(["x", "y"])).fragment == b'"x"\n"y"\n'
    assert encoded(x for x in "ab").fragment == b'"a"\n"b"\n'


WRONG: list[tuple[Any, str]] = [
    (
        [1, object()],
        r"element 1 \(counting from 0; an object\) .* as JSON: TypeError: JSON has no words for an object",
    ),
    ([1j], "no words for a complex"),
    ([np.complex64(1)], "no words for a numpy.complex64"),
    ([{(1, 2): 3}], "no words for a tuple as a key"),
    (["a", "\ud800"], "element 1 .* the lone surrogate"),
    (
        pd.DataFrame({"a": pd.Series(["\ud800"], dtype=object)}),
        r"what run\(\) returned cannot .* lone surrogate",
    ),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column 'a'"),
    (pd.DataFrame([[1, 2]], columns=["1", 1]), "more than one column '1'"),
    (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", 1)])), "several levels"),
]


@pytest.mark.parametrize(("result", "words"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_written_is_named(result: Any, words: str) -> None:
    with pytest.raises(NotEncodable, match=words):
        encoded(result)


@pytest.mark.parametrize("result", [None, "text", {"a": 1}, 5])
def test_what_is_refused(result: Any) -> None:
    with pytest.raises(BadReturn, match=r"run\(\) returned"):
        encoded(result)


def test_more_rows_than_items_warn() -> None:
    assert encoded([1, 2], items=1).warnings == WARN_MORE_ROWS


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


def without_words(value: Any) -> Any:
    """What JSON has of it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [without_words(element) for element in value]
    if isinstance(value, dict):
        return {key: without_words(element) for key, element in value.items()}
    return value


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON, max_size=4))
def test_any_values_come_back(values: list[Any]) -> None:
    assert objects(encoded(values)) == without_words(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(width=32), st.integers(-(2**63), 2**63 - 1), st.text())))
def test_frames_come_back(rows: list[tuple[float, int, str]]) -> None:
    frame = pd.DataFrame(rows, columns=["f", "i", "t"]).astype({"f": np.float32, "i": np.int64})
    back = objects(encoded(frame))
    assert [(row["i"], row["t"]) for row in back] == [(i, t) for _, i, t in rows]
    numbers = np.array([math.nan if row["f"] is None else row["f"] for row in back], np.float32)
    expected = np.array([f if math.isfinite(f) else math.nan for f, _, _ in rows], np.float32)
    assert numbers.tobytes() == expected.tobytes() or np.array_equal(numbers, expected, equal_nan=True)
