"""Parquet fragments: what run() may return, the form and the rows that become of it."""

from __future__ import annotations

import datetime
import decimal
import io
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mpibatch.core import forms
from mpibatch.core.arrow_types import spell, take_apart
from mpibatch.outputs import arrow, encoding
from mpibatch.outputs.encoding import BadReturn, ItemKeys, NotEncodable, Rows
from mpibatch.outputs.input_key import INDEX
from mpibatch.outputs.parquet_rows import ParquetEncoder
from mpibatch.work import WARN_MORE_ROWS

FILES = ItemKeys(paths=["/a/one", "/a/tw\udcff"], rows=None)
TABLE = ItemKeys(paths="/a/t.csv", rows=range(7, 9))


def encoded(result: object, items: int = 1000, keys: ItemKeys | None = None) -> Rows:
    encoder = ParquetEncoder(keys is not None)
    return encoder.encode(encoder.collect(result), items, lambda: keys or FILES)


def types(rows: Rows) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in forms.decode_form(rows.fragment[: rows.header]).columns]


def table(rows: Rows) -> pa.Table:
    return pa.ipc.open_stream(rows.fragment[rows.header :]).read_all()


def test_a_data_frame() -> None:
    frame = pd.DataFrame(
        {
            "i": np.array([1, 2], "int16"),
            "f": [0.5, float("nan")],
            "s": ["a", None],
            "d": pd.to_datetime(["2020-01-01", "2020-01-02"]).astype("datetime64[us]"),
            "c": pd.Categorical(["x", "y"]),
            "n": pd.array([1, None], "Int64"),
            "o": [[1, 2], None],
            "t": [decimal.Decimal("1.25"), decimal.Decimal("11.5")],
        },
        index=["kept", "out"],
    )
    rows = encoded(frame)
    assert (rows.returned, rows.rows, rows.warnings) == (2, 2, 0)
    text = "large_string" if pd.__version__ >= "3" else "string"
    assert types(rows) == [
        ("i", "int16"), ("f", "double"), ("s", text), ("d", "timestamp[us]"), ("c", text),
        ("n", "int64"), ("o", "list<item: int64>"), ("t", "decimal128(4, 2)"),
    ]  # fmt: skip
    found = table(rows)
    assert found.schema.metadata is None
    assert found.to_pylist()[1] == {
        "i": 2, "f": None, "s": None, "d": datetime.datetime(2020, 1, 2), "c": "y", "n": None, "o": None,
        "t": decimal.Decimal("11.50"),
    }  # fmt: skip


def test_other_things_with_rows() -> None:
    assert table(encoded([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])).to_pylist() == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert types(encoded(np.zeros((3, 2), "float32"))) == [("0", "float"), ("1", "float")]
    assert types(encoded([1, 2])) == [("value", "int64")]
    assert types(encoded(pd.Series([True], name="yes"))) == [("yes", "bool")]
    assert types(encoded(x for x in (1.5,))) == [("value", "double")]
    assert types(encoded([{"a": None}])) == [("a", "null")]
    assert types(encoded(pd.DataFrame({"a": [1], "b": [True]}).iloc[:0])) == [("a", "int64"), ("b", "bool")]


def test_arrow_tables_are_taken_as_they_are() -> None:
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    given_ = pa.table({"w": words, "v": pa.array(["x", "y", None], pa.string_view())})
    given_ = given_.replace_schema_metadata({"some": "thing"}).slice(1)
    rows = encoded(given_)
    assert types(rows) == [("w", "string"), ("v", "string")]
    assert table(rows).to_pylist() == [{"w": "b", "v": "y"}, {"w": "a", "v": None}]
    assert table(rows).schema.metadata is None
    assert encoded(given_.to_batches()[0]).rows == 2
    field = pa.field("element", pa.int8(), nullable=False)
    other = pa.table({"l": pa.array([[1], []], pa.list_(field))})
    assert types(encoded(other)) == [("l", "list<item: int8>")]
    storage = pa.array([1, 2, 3], pa.int64())
    period = pd.DataFrame({"p": pd.period_range("2020-01", periods=3, freq="M")})
    assert types(encoded(period)) == [("p", str(storage.type))]


def test_doubles_that_are_all_missing_say_nothing_of_the_column() -> None:
    nothing = pd.DataFrame(
        {"a": [float("nan")] * 2, "b": [None, None], "c": pd.Series([None] * 2, dtype="float32")}
    )
    assert types(encoded(nothing)) == [("a", "missing"), ("b", "null"), ("c", "float")]
    assert types(encoded(nothing.iloc[:0])) == [("a", "missing"), ("b", "null"), ("c", "float")]
    assert table(encoded(nothing)).schema.types[0] == pa.float64()
    text = arrow.schema_of(forms.Form("parquet", (forms.Column("a", "list<item: string>"),)))
    assert arrow.cast(table(encoded(nothing[["a"]])), text)["a"].to_pylist() == [None, None]


def test_nothing_has_no_form() -> None:
    assert encoded([]) == encoded(pd.DataFrame()) == encoded(iter(())) == Rows(returned=0)
    assert encoded(pa.table({})) == Rows(returned=0)


def test_more_rows_than_items_are_told_of() -> None:
    assert encoded([1, 2], items=1).warnings == WARN_MORE_ROWS


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (pd.DataFrame({"a": [1, "x"]}), "column a"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'|a"),
        (pa.table([[1], [2]], names=["a", "a"]), "more than one column 'a'"),
        (pd.DataFrame(index=[0, 1]), "2 rows without a column"),
        ([{"a": {}}], "column 'a' holds dicts without keys"),
        ([{"a": [{}]}], "column 'a' holds dicts without keys"),
        ([{"a": "\udcff"}], "surrogate"),
        ([{"\udcff": 1}], "surrogate"),
        ([object()], "ArrowInvalid"),
        ([2**70], "OverflowError|ArrowInvalid"),
        (pa.table({"a": pa.array([None], pa.decimal128(5, -1))}), "scale is negative"),
        (pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), "'a' holds month_day_nano"),
    ],
)
def test_what_parquet_cannot_hold(result: object, words: str) -> None:
    with pytest.raises(NotEncodable, match=words):
        encoded(result)


def test_what_has_no_rows_is_a_bad_return() -> None:
    for result in (None, "text", {"a": [1]}, 5):
        with pytest.raises(BadReturn):
            encoded(result)


def test_a_fragment_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_FRAGMENT", 1000)
    with pytest.raises(NotEncodable, match="mini_batch_size smaller"):
        encoded(list(range(1000)))


def test_the_items_stand_in_front() -> None:
    rows = encoded(pd.DataFrame({"a": [1, 2]}), 2, FILES)
    assert types(rows) == [("input", "string"), ("a", "int64")]
    assert table(rows).to_pylist() == [{"input": "/a/one", "a": 1}, {"input": "/a/tw\\xff", "a": 2}]
    rows = encoded(pd.DataFrame({"a": [2]}, index=pd.Index([1], name=INDEX)), 2, TABLE)
    assert types(rows) == [("input", "string"), ("input_row", "int64"), ("a", "int64")]
    assert table(rows).to_pylist() == [{"input": "/a/t.csv", "input_row": 8, "a": 2}]
    assert table(encoded(pa.table({"a": [1, 2]}), 2, TABLE))["input_row"].to_pylist() == [7, 8]
    with pytest.raises(NotEncodable, match="cannot be told"):
        encoded(pa.table({"a": [1]}), 2, TABLE)
    with pytest.raises(NotEncodable, match="'input'"):
        encoded([{"input": 1}], 1, TABLE)
    assert encoded([], 2, TABLE) == Rows(returned=0)


LEAVES = [
    pa.null(), pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(),
    pa.large_string(), pa.binary(), pa.large_binary(), pa.binary(7), pa.date32(), pa.date64(),
    pa.timestamp("s"), pa.timestamp("ns", "Europe/Berlin"), pa.timestamp("us", "+02:00"), pa.time32("ms"),
    pa.time64("ns"), pa.duration("us"), pa.decimal32(5, 2), pa.decimal64(18, 0), pa.decimal128(38, 3),
    pa.decimal256(70, 70),
]  # fmt: skip


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        leaves.map(pa.list_),
        leaves.map(pa.large_list),
        leaves.map(lambda leaf: pa.list_(leaf, 3)),
        st.tuples(st.sampled_from([pa.string(), pa.int8()]), leaves).map(lambda two: pa.map_(*two)),
        st.dictionaries(st.text(max_size=3), leaves, min_size=1, max_size=3).map(
            lambda fields: pa.struct(list(fields.items()))
        ),
    )


@given(st.recursive(st.sampled_from(LEAVES), nested, max_leaves=4))
@settings(max_examples=300, deadline=None)
def test_types_survive_as_text(type_: Any) -> None:
    text = arrow.to_text(type_)
    assert arrow.from_text(text) == type_
    assert arrow.to_text(arrow.from_text(text)) == text
    parts = take_apart(text)
    assert parts is None or spell(parts) == text


@given(st.recursive(st.sampled_from(LEAVES), nested, max_leaves=4))
@settings(max_examples=200, deadline=None)
def test_parquet_can_hold_them(type_: Any) -> None:
    rows = encoded(pa.table({"x": pa.array([None, None], type_)}))
    file = io.BytesIO()
    parquet.write_table(table(rows), file)
    assert parquet.read_table(file).num_rows == 2


PROMOTED = [
    (pa.int8(), [1, None], pa.uint32(), [2], "int64"),
    (pa.int64(), [2**62 + 1], pa.float32(), [0.5], "double"),
    (pa.null(), [None], pa.list_(pa.string()), [["a"]], "list<item: string>"),
    (pa.date32(), [datetime.date(2020, 1, 1)], pa.timestamp("ns"), [None], "timestamp[ns]"),
    (pa.time32("s"), [datetime.time(1)], pa.time64("us"), [None], "time64[us]"),
    (pa.decimal128(3, 2), [decimal.Decimal("1.25")], pa.decimal128(38, 0), [None], "decimal256(40, 2)"),
    (pa.decimal32(3, 2), [decimal.Decimal("1.25")], pa.decimal64(18, 0), [None], "decimal128(20, 2)"),
    (pa.list_(pa.null()), [[], [None]], pa.large_list(pa.int8()), [[1]], "large_list<item: int8>"),
    (
        pa.struct([("a", pa.int8()), ("b", pa.null())]), [{"a": 1, "b": None}, None],
        pa.struct([("a", pa.float16()), ("b", pa.string())]), [None], 'struct<"a": double, "b": string>',
    ),
    (pa.map_(pa.string(), pa.int8()), [[("k", 1)]], pa.map_(pa.string(), pa.int32()), [[]], "map<string, int32>"),
    (pa.float16(), [1.5], pa.float32(), [None], "float"),
    (pa.list_(pa.int8(), 2), [[1, 2], None], pa.list_(pa.int16(), 2), [None], "fixed_size_list<item: int16>[2]"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "values", "other", "others", "both"), PROMOTED)
def test_what_is_promoted_can_be_cast(one: Any, values: Any, other: Any, others: Any, both: str) -> None:
    mine, yours = pa.table({"x": pa.array(values, one)}), pa.table({"x": pa.array(others, other)})
    merged = forms.merge(arrow.form_of(mine), arrow.form_of(yours))
    assert merged.columns[0].type == both
    schema = arrow.schema_of(merged)
    for each in (mine, yours):
        cast = arrow.cast(each, schema)
        assert cast.schema.equals(schema)
        expected = each["x"].to_pylist()
        if both == "double":
            expected = [None if value is None else float(value) for value in expected]
        assert [getattr(v, "date", lambda v=v: v)() if both[:9] == "timestamp" and v is not None else v
                for v in cast["x"].to_pylist()] == expected  # fmt: skip
