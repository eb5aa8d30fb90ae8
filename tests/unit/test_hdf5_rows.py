"""HDF5 fragments: what run() may return, and the arrays that become of it."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mpibatch.core import forms
from mpibatch.outputs import arrays, encoding
from mpibatch.outputs.encoding import BadReturn, ItemKeys, NotEncodable, Rows
from mpibatch.outputs.hdf5_rows import Hdf5Encoder
from mpibatch.outputs.input_key import INDEX
from mpibatch.work import WARN_MORE_ROWS

FILES = ItemKeys(paths=["/a/one", "/a/tw\udcff"], rows=None)
TABLE = ItemKeys(paths="/a/t.csv", rows=range(7, 9))


class Tensor:
    """As those of torch and TensorFlow look."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self._values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Tensor:
        return Tensor(self._values[index])


def encoded(result: object, items: int = 1000, keys: ItemKeys | None = None) -> Rows:
    encoder = Hdf5Encoder(keys is not None)
    return encoder.encode(encoder.collect(result), items, lambda: keys or FILES)


def types(result: object) -> dict[str, str]:
    rows = encoded(result)
    form = forms.decode_form(rows.fragment[: rows.header])
    assert form.format == "hdf5"
    return {column.name: column.type for column in form.columns}


def values(rows: Rows) -> dict[str, list[Any]]:
    form = forms.decode_form(rows.fragment[: rows.header])
    columns = arrays.from_bytes(form, memoryview(rows.fragment)[rows.header :])
    return {column.name: array.tolist() for column, array in zip(form.columns, columns, strict=True)}


def test_an_array() -> None:
    given_ = np.arange(12, dtype="float32").reshape(3, 2, 2)
    rows = encoded(given_)
    assert (rows.returned, rows.rows, rows.warnings) == (3, 3, 0)
    assert types(given_) == {"data": "float32|2,2"}
    assert values(rows) == {"data": given_.tolist()}


@pytest.mark.parametrize(
    ("result", "type_", "data"),
    [
        ([np.array([1, 2], "int8"), np.array([3, 4], "int8")], "int8|2", [[1, 2], [3, 4]]),
        ([Tensor([1.0, 2.0])], "float64|2", [[1.0, 2.0]]),
        (Tensor(np.ones((2, 1), "float16")), "float16|1", [[1.0], [1.0]]),
        ([1, 2], "int64|", [1, 2]),
        ([1, 2.5], "float64|", [1.0, 2.5]),
        ([np.float32(1)], "float32|", [1.0]),
        ([2**64 - 1], "uint64|", [2**64 - 1]),
        ([True, False], "bool|", [True, False]),
        ([1j], "complex128|", [1j]),
        (["a", None, "é"], "str|", [b"a", b"", "é".encode()]),
        ([b"a"], "str|", [b"a"]),
        ([None], "str|", [b""]),
        (np.array(["a", "bc"]), "str|", [b"a", b"bc"]),
        (np.array([b"a", b"bc"]), "str|", [b"a", b"bc"]),
        (np.array(["a", float("nan")], object), "str|", [b"a", b""]),
        (np.array([1, 2], ">i2"), "int16|", [1, 2]),
        (np.asfortranarray(np.arange(6).reshape(2, 3)), "int64|3", [[0, 1, 2], [3, 4, 5]]),
        (np.arange(10)[::5], "int64|", [0, 5]),
        ((x for x in [[1, 2]]), "int64|2", [[1, 2]]),
        (pd.Series([1.5]), "float64|", [1.5]),
        (np.zeros((2, 0)), "float64|0", [[], []]),
    ],
)
def test_one_dataset(result: Any, type_: str, data: list[Any]) -> None:
    rows = encoded(kept := list(result) if hasattr(result, "__next__") else result)
    assert types(kept) == {"data": type_}
    assert values(rows) == {"data": data}


def test_several_datasets() -> None:
    result = {
        "emb": np.zeros((2, 3), "float32"),
        "g/label": ["a", "b"],
        5: pd.Series([1, 2]),
        "t": Tensor([1, 2]),
    }
    assert types(result) == {"emb": "float32|3", "g/label": "str|", "5": "int64|", "t": "int64|"}
    assert values(encoded(result))["g/label"] == [b"a", b"b"]
    rows = [{"emb": np.zeros(3, "float32"), "label": 1}, {"label": 2, "emb": np.ones(3, "float32")}]
    assert types(rows) == {"emb": "float32|3", "label": "int64|"}
    assert values(encoded(rows))["label"] == [1, 2]
    assert types(pd.Series([1], name="n")) == {"n": "int64|"}


def test_a_data_frame() -> None:
    frame = pd.DataFrame(
        {
            "i": np.array([1, 2], "uint8"),
            "s": ["a", None],
            "o": [np.zeros(2), np.ones(2)],
            "c": pd.Categorical(["x", "y"]),
            "ci": pd.Categorical([5, 6]),
            "n": pd.array([1, None], "Int32"),
            "m": pd.array([1, 2], "Int32"),
            "b": pd.array([True, False], "boolean"),
            7: [float("nan"), 1.0],
        }
    )
    assert types(frame) == {
        "i": "uint8|", "s": "str|", "o": "float64|2", "c": "str|", "ci": "int64|", "n": "float64|",
        "m": "int32|", "b": "bool|", "7": "float64|",
    }  # fmt: skip
    found = values(encoded(frame))
    assert found["s"] == [b"a", b""] and found["c"] == [b"x", b"y"] and found["o"] == [[0, 0], [1, 1]]
    assert found["n"][0] == 1 and np.isnan(found["n"][1])


def test_floats_that_are_all_missing_stay_floats() -> None:
    assert types([float("nan")]) == {"data": "float64|"}
    assert types(pd.DataFrame({"x": pd.Series([float("nan")], dtype=object)})) == {"x": "float64|"}


def test_nothing_has_no_form() -> None:
    nothing: list[object] = [[], {}, np.zeros((0, 5)), pd.DataFrame({"a": []}), {"a": []}, iter(())]
    for result in nothing:
        assert encoded(result, 3, TABLE) == Rows(returned=0)


def test_more_rows_than_items_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoded([1, 2], items=1).warnings == WARN_MORE_ROWS
    monkeypatch.setattr(encoding, "MAX_FRAGMENT", 1000)
    with pytest.raises(NotEncodable, match="mini_batch_size smaller"):
        encoded(np.zeros(1000))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ([np.zeros(3), np.zeros(4)], r"element 1 .* has the shape \(4,\), element 0 \(3,\)"),
        ([[1, 2], [[1], [2, 3]]], "element 1 .*a list, cannot be made into an array"),
        ([1, "a"], r"element 1 .* is a str, which is neither text like all others nor a number"),
        ([1.0, None], "element 1 .* is None"),
        ([2**70], "element 0 .* is an int"),
        ([decimal.Decimal(1)], "a decimal.Decimal"),
        ([{"a": 1}, {"b": 1}], r"element 1 .* the keys \['b'\], but element 0 is a dict with the keys \['a'\]"),
        ([{"a": 1}, 5], "element 1 .* has an int, but element 0 is a dict"),
        (np.array(["2020-01-01"], "datetime64[s]"), "astype\\(str\\)"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), "dataset 'a': .* has no dates"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"], utc=True)}), "dataset 'a': .* has no dates"),
        ([{"a": datetime.date(2020, 1, 1)}], "dataset 'a': .* has no dates"),
        (np.zeros(2, [("a", "i4")]), "hold no 1-dimensional arrays"),
        (np.array([["a"]]), "hold no 2-dimensional arrays of <U1"),
        (np.zeros(2, np.longdouble), "hold no 1-dimensional arrays of"),
        (["a\0b"], "holds a NUL"),
        (["a", "\udcff"], "element 1 .* is not UTF-8"),
        ([b"\xff"], "is not UTF-8"),
        ({"": [1]}, "cannot be the name"),
        ({"a/../b": [1]}, "cannot be the name"),
        ({"a": [1], "a/b": [1]}, "a dataset and a group"),
        ({"\udcff": [1]}, "surrogate"),
        ({1: [1], "1": [2]}, "more than one column '1'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column 'a'"),
        (pd.DataFrame(index=[1]), "1 rows without a column"),
        ([{}], "1 rows without a column"),
        (pd.DataFrame({"a": pd.array([True, None], "boolean")}), "dataset 'a': element"),
    ],
)  # fmt: skip
def test_what_hdf5_cannot_hold(result: object, words: str) -> None:
    with pytest.raises(NotEncodable, match=words):
        encoded(result)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "return` missing"),
        ("text", "a str"),
        (np.float64(1), "float64"),
        (np.array(1.0), "ndarray"),
        ({"a": [1], "b": [1, 2]}, "different numbers of rows, {'a': 1, 'b': 2}"),
        ({"a": 5}, "'a' is an int"),
        ({"a": "text"}, "'a' is a str"),
        ({"a": np.array(5)}, "ndarray"),
    ],
)
def test_bad_returns(result: object, words: str) -> None:
    with pytest.raises(BadReturn, match=words):
        encoded(result)


def test_the_items_stand_in_front() -> None:
    rows = encoded(np.array([1, 2]), 2, FILES)
    assert values(rows) == {"input": [b"/a/one", b"/a/tw\\xff"], "data": [1, 2]}
    rows = encoded(pd.DataFrame({"a": [2]}, index=pd.Index([1], name=INDEX)), 2, TABLE)
    assert values(rows) == {"input": [b"/a/t.csv"], "input_row": [8], "a": [2]}
    assert values(encoded({"a": [5, 6]}, 2, TABLE))["input_row"] == [7, 8]
    with pytest.raises(NotEncodable, match="cannot be told"):
        encoded({"a": [5]}, 2, TABLE)
    with pytest.raises(NotEncodable, match="'input'"):
        encoded({"input": [5, 6]}, 2, TABLE)


DTYPES = st.sampled_from(
    ["bool", "int8", "uint64", ">i4", "float16", "<f4", ">f8", "complex64", "complex128", "uint16"]
)


@given(
    hnp.arrays(DTYPES, st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 2))),
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=4, max_size=4
    ),
)
@settings(max_examples=200, deadline=None)
def test_arrays_survive(array: NDArray[Any], texts: list[str]) -> None:
    rows = encoded({"a": array, "t": texts[: len(array)], "flat": array[:, :, 0].T.T})
    form = forms.decode_form(rows.fragment[: rows.header])
    data, words, flat = arrays.from_bytes(form, memoryview(rows.fragment)[rows.header :])
    assert data.dtype.name == array.dtype.name and data.shape == array.shape
    np.testing.assert_array_equal(data, array)
    np.testing.assert_array_equal(flat, array[:, :, 0])
    assert [word.decode() for word in words.tolist()] == texts[: len(array)]
