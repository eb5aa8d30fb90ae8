"""Rows as CSV: what fragments give together is what pandas writes of all rows at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpibatch.core.forms import Column, Form, decode_form, merge
from mpibatch.outputs import csv_rows, promote_csv
from mpibatch.outputs.csv_rows import CsvEncoder
from mpibatch.outputs.encoding import BadReturn, ItemKeys, NotEncodable, Rows
from mpibatch.outputs.input_key import INDEX

KEYS = ItemKeys("/data/a.csv", range(5, 100))


def encoded(result: object, items: int = 100, keyed: bool = False, **append_row: Any) -> Rows:
    encoder = CsvEncoder(append_row, keyed)
    return encoder.encode(encoder.collect(result), items, lambda: KEYS)


def form_of(rows: Rows) -> Form:
    return decode_form(rows.fragment[: rows.header])


def types(rows: Rows) -> dict[str, str]:
    return {column.name: column.type for column in form_of(rows).columns}


def lines(rows: Rows) -> str:
    return rows.fragment[rows.header :].decode("utf-8", "surrogateescape")


def together(parts: list[Rows], **append_row: Any) -> bytes:
    """The file that these fragments become."""
    forms = [form_of(rows) for rows in parts if rows.header]
    merged = forms[0]
    for form in forms:
        merged = merge(merged, form)
    text = csv_rows.header(merged, append_row)
    for rows, form in zip((rows for rows in parts if rows.header), forms, strict=True):
        text += csv_rows.promote(rows.fragment[rows.header :], form, merged, append_row)
    return text


class Pair(NamedTuple):
    path: str
    score: float


RETURNED: list[tuple[object, dict[str, str], str]] = [
    (pd.DataFrame({"a": [1, 2], "b": ["x", 'y,"']}), {"a": "int", "b": "other"}, '1,x\n2,"y,"""\n'),
    (
        [{"a": 1, "b": 2.0}, {"b": 0.5, "c": None}],
        {"a": "float", "b": "float", "c": "float"},
        "1.0,2.0,\n,0.5,\n",
    ),
    ([["x", 1], ["y", 2]], {"0": "other", "1": "int"}, "x,1\ny,2\n"),
    ([("x", 1)], {"0": "other", "1": "int"}, "x,1\n"),
    ([Pair("x", 0.1)], {"path": "other", "score": "float"}, "x,0.1\n"),
    (["x", "y"], {"value": "other"}, "x\ny\n"),
    ((1, 2), {"value": "int"}, "1\n2\n"),
    (iter([1.5]), {"value": "float"}, "1.5\n"),
    (["", None], {"value": "other"}, '""\n""\n'),
    (np.array([1.5, 2]), {"value": "float"}, "1.5\n2.0\n"),
    (np.array([[1, 2], [3, 4]]), {"0": "int", "1": "int"}, "1,2\n3,4\n"),
    (pd.Series([True, False]), {"value": "other"}, "True\nFalse\n"),
    (pd.Series([1], name="n"), {"n": "int"}, "1\n"),
    ([("f\udcff", 1)], {"0": "other", "1": "int"}, "f\udcff,1\n"),
    (pd.DataFrame({"a": np.zeros(0), "b": []}), {"a": "null", "b": "null"}, ""),
]


@pytest.mark.parametrize(("result", "kinds", "text"), RETURNED, ids=range(len(RETURNED)))
def test_what_may_be_returned(result: object, kinds: dict[str, str], text: str) -> None:
    rows = encoded(result)
    assert types(rows) == kinds
    assert lines(rows) == text
    assert rows.rows == rows.returned == text.count("\n")


def test_no_rows_without_columns_have_no_form() -> None:
    assert encoded([]) == encoded(pd.DataFrame()) == Rows(returned=0)


WRONG: list[tuple[object, dict[str, Any], str]] = [
    (
        [1, {"a": 1}],
        {},
        r"element 1 \(counting from 0\) of what run\(\) returned is a dict, but element 0 is an int",
    ),
    ([{"a": 1}, (1,)], {}, "element 1.* is a tuple, but element 0 is a dict"),
    (np.zeros((2, 2, 2)), {}, "3 dimensions.*append_row_format: hdf5"),
    (pd.DataFrame(index=[1, 2]), {}, "2 rows without a column"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), {}, "more than one column 'a'"),
    (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])), {}, "several levels"),
    (pd.DataFrame({"a": [1]}), {"columns": ["b"]}, "KeyError"),
    (pd.DataFrame({"a": [1]}), {"header": ["x", "y"]}, "header has 2 names.*1 columns: 'a'"),
    (pd.DataFrame({"a": ["x,"]}), {"quoting": 3}, "need to escape"),
    (pd.DataFrame({"a": pd.Series(["\ud800"], dtype=object)}), {}, "lone surrogate"),
    (pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)), {}, "lone surrogate"),
    (pd.DataFrame({"t": np.array(["0999-01-01"], "M8[s]")}), {}, "column 't' has a year"),
    (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])), {"index": True}, "reset_index"),
]


@pytest.mark.parametrize(("result", "append_row", "words"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_written(result: object, append_row: dict[str, Any], words: str) -> None:
    with pytest.raises(NotEncodable, match=words):
        encoded(result, **append_row)


@pytest.mark.parametrize("result", [None, "text", {"a": 1}, 5])
def test_what_is_refused(result: object) -> None:
    with pytest.raises(BadReturn, match=r"run\(\) returned"):
        encoded(result)


COLUMNS: list[tuple[Any, str]] = [
    (np.array([1, 2], np.uint8), "int"),
    (pd.array([1, None], dtype="Int64"), "int"),
    (pd.array([None, None], dtype="Int64"), "int"),
    (np.array([1.5, np.nan]), "float"),
    (np.array([np.nan, np.nan]), "float"),
    (np.array([1, 2], np.float32), "float"),
    (pd.array([0.5, None], dtype="Float64"), "float"),
    (np.array([True, False]), "other"),
    (pd.Series([1, 2], dtype=object), "other"),
    (pd.Series([None, None], dtype=object), "null"),
    (pd.Categorical([1, 2]), "other"),
    (np.array(["2024-01-01", "NaT"], "M8[s]"), "date"),
    (np.array(["NaT", "NaT"], "M8[s]"), "null"),
    (np.array(["2024-01-01", "2024-01-01T01"], "M8[us]"), "seconds"),
    (np.array(["2024-01-01", "2024-01-01T00:00:00.001"], "M8[us]"), "millis"),
    (np.array(["1969-01-01", "1969-01-01T00:00:00.000001"], "M8[ns]"), "micros"),
    (np.array(["2024-01-01", "2024-01-01T00:00:00.000000001"], "M8[ns]"), "nanos"),
    (pd.to_datetime(["2024-01-01", "2024-01-01"], utc=True), "other"),
    (np.array([1, 2], "m8[s]"), "other"),
]


@pytest.mark.parametrize(("values", "kind"), COLUMNS, ids=range(len(COLUMNS)))
def test_types_of_columns(values: Any, kind: str) -> None:
    assert types(encoded(pd.DataFrame({"a": values}))) == {"a": kind}


def test_instants_of_a_time_zone_and_durations_are_written_in_full() -> None:
    frame = pd.DataFrame(
        {"t": pd.to_datetime(["2024-01-01", "NaT"], utc=True), "d": pd.to_timedelta([1, None], "D")}
    )
    assert lines(encoded(frame)) == "2024-01-01 00:00:00+00:00,1 days 00:00:00\n,\n"


PROMOTIONS: list[tuple[str, str, str, str]] = [
    ("int", "float", "1\n\n-3\n", "1.0\n\n-3.0\n"),
    ("int", "float", "10000000000000000\n", "1e+16\n"),
    ("int", "float", "9223372036854775807\n", "9.223372036854776e+18\n"),
    ("date", "seconds", "2024-01-01\n\n", "2024-01-01 00:00:00\n\n"),
    ("date", "nanos", "2024-01-01\n", "2024-01-01 00:00:00.000000000\n"),
    ("seconds", "millis", "2024-01-01 01:02:03\n", "2024-01-01 01:02:03.000\n"),
    ("millis", "micros", "2024-01-01 01:02:03.004\n", "2024-01-01 01:02:03.004000\n"),
    ("micros", "nanos", "2024-01-01 01:02:03.004005\n", "2024-01-01 01:02:03.004005000\n"),
    ("int", "other", "1\n", "1\n"),
    ("date", "other", "2024-01-01\n", "2024-01-01\n"),
    ("null", "float", "\n", "\n"),
]


@pytest.mark.parametrize(("own", "merged", "text", "expected"), PROMOTIONS, ids=range(len(PROMOTIONS)))
@pytest.mark.parametrize("beside", ["x", '"x,\n1"', '""""', "a b"])
def test_promotion(own: str, merged: str, text: str, expected: str, beside: str) -> None:
    def form(kind: str) -> Form:
        return Form("csv", (Column("b", "other"), Column("a", kind), Column("c", "other")))

    def around(cells: str) -> bytes:
        return "".join(f"{beside},{cell},z\n" for cell in cells.split("\n")[:-1]).encode()

    assert csv_rows.promote(around(text), form(own), form(merged), {}) == around(expected)


def test_lines_of_another_form_are_damaged() -> None:
    one = Form("csv", (Column("a", "int"), Column("b", "int")))
    floats = Form("csv", (Column("a", "float"), Column("b", "int")))
    for text in (b"1,2,3\n", b'1,"2",3\n', b'"1,2\n', b"1\n"):
        with pytest.raises(promote_csv.Damaged):
            csv_rows.promote(text, one, floats, {})


HEADERS: list[tuple[dict[str, Any], bytes]] = [
    ({}, b'a,"b,c"\n'),
    ({"header": False}, b""),
    ({"header": ["x", "y z"], "sep": " "}, b'x "y z"\n'),
    ({"quoting": 1, "lineterminator": "\r\n"}, b'"a","b,c"\r\n'),
    ({"quoting": 3, "escapechar": "\\"}, b"a,b\\,c\n"),
]


@pytest.mark.parametrize(("append_row", "expected"), HEADERS, ids=range(len(HEADERS)))
def test_header(append_row: dict[str, Any], expected: bytes) -> None:
    form = Form("csv", (Column("a", "int"), Column("b,c", "int")))
    assert csv_rows.header(form, append_row) == expected


TEXTS = st.text(st.sampled_from("ab1,;\"'\r\n\u00e4 .-"), max_size=4)
SECONDS = st.integers(-(10**9), 4 * 10**9)
SORTS: dict[str, list[st.SearchStrategy[Any]]] = {
    # Of each, what one column may hold in different mini-batches.
    "number": [
        st.lists(st.integers(-(2**53), 2**53), max_size=4).map(lambda v: np.array(v, np.int64)),
        st.lists(st.one_of(st.floats(), st.integers(-3, 3)), max_size=4).map(
            lambda v: np.array(v, np.float64)
        ),
    ],
    "text": [
        st.lists(st.one_of(TEXTS, st.none()), max_size=4).map(lambda v: pd.array(v, dtype="str")),
        st.lists(st.none(), max_size=4).map(lambda v: pd.array(v, dtype="str")),
    ],
    "bool": [st.lists(st.booleans(), max_size=4).map(lambda v: np.array(v, bool))],
    "instant": [
        st.lists(st.one_of(instants, st.just("NaT")), max_size=4).map(
            lambda v: np.array(v, "M8[ns]")  # All of one unit, so that pandas joins them as they are.
        )
        for instants in (
            st.integers(-30_000, 30_000).map(lambda days: days * 86_400 * 10**9),
            SECONDS.map(lambda n: n * 10**9),
            SECONDS.map(lambda n: n * 10**6),
            SECONDS.map(lambda n: n * 10**3),
            SECONDS,
        )
    ],
}
KEYWORDS: list[dict[str, Any]] = [
    {},
    {"sep": " "},
    {"sep": "-", "lineterminator": "\r\n"},
    {"sep": ";", "decimal": ","},
    {"decimal": ","},
    {"na_rep": "n,a"},
    {"header": False, "quotechar": "'"},
    {"float_format": "%.3f"},
    {"quoting": 1, "na_rep": "NA"},
    {"quoting": 2},
    {"escapechar": "\\", "doublequote": False},
    {"quoting": 3, "escapechar": "\\", "na_rep": "NA"},
    {"date_format": "%d.%m.%Y"},
]


@st.composite
def parts(draw: st.DrawFn) -> list[pd.DataFrame]:
    sorts = draw(st.lists(st.sampled_from(sorted(SORTS)), min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        columns = [draw(st.sampled_from(SORTS[sort]).flatmap(lambda values: values)) for sort in sorts]
        rows = min(map(len, columns))
        made.append(
            pd.DataFrame({f"{sort} {n}": v[:rows] for n, (sort, v) in enumerate(zip(sorts, columns))})
        )
    return made


@pytest.mark.parametrize("append_row", KEYWORDS, ids=str)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts())
def test_fragments_together_are_what_pandas_writes_of_all_rows(
    append_row: dict[str, Any], given_frames: list[pd.DataFrame]
) -> None:
    # Where there are no rows there is no text that could have a type; to pandas, there is a dtype.
    if append_row.get("quoting") == 3:
        # An empty cell alone in its line cannot be written without quotes.
        given_frames = [frame.assign(last=0) for frame in given_frames]
    filled = [frame for frame in given_frames if len(frame)]
    if not filled:
        return
    whole = pd.concat(filled, ignore_index=True)
    expected = whole.to_csv(**{"index": False, **append_row}).encode()
    fragments = [encoded(frame, **append_row) for frame in given_frames]
    assert together(fragments, **append_row) == expected


def test_nullable_numbers_are_promoted_and_their_gaps_stay() -> None:
    one = pd.DataFrame({"n": pd.array([1, None], dtype="Int64")})
    two = pd.DataFrame({"n": [0.5]})
    assert together([encoded(one, na_rep="?"), encoded(two, na_rep="?")], na_rep="?") == b"n\n1.0\n?\n0.5\n"


def test_the_settings_choose_columns_and_the_index() -> None:
    frame = pd.DataFrame({"a": [1], "b": [2], "c": [3]}, index=pd.Index(["i"], name="key"))
    append_row: dict[str, Any] = {"columns": ["c", "a"], "index": True}
    rows = encoded(frame, keyed=False, **append_row)
    assert list(types(rows)) == ["key", "c", "a"]
    assert together([rows], **append_row) == frame.to_csv(columns=["c", "a"]).encode()
    assert list(types(encoded(frame, index=True, index_label="row", columns=["a"]))) == ["row", "a"]


def test_the_key_of_the_input_stands_in_front() -> None:
    rows = encoded(pd.DataFrame({"a": [1.5, 2.5]}, index=pd.Index([7, 3], name=INDEX)), items=10, keyed=True)
    assert types(rows) == {"input": "other", "input_row": "int", "a": "float"}
    assert lines(rows) == "/data/a.csv,12,1.5\n/data/a.csv,8,2.5\n"
    with pytest.raises(NotEncodable, match=r"add_input_key: .* 1 rows for 2 items"):
        encoded(["x"], items=2, keyed=True)
    with pytest.raises(NotEncodable, match="'input' in front of each row"):
        encoded([{"input": 1}], items=1, keyed=True)


def test_files_whose_names_are_not_utf_8_come_out_as_they_are() -> None:
    encoder = CsvEncoder({}, True)
    rows = encoder.encode(["x"], 1, lambda: ItemKeys(["/data/f\udcff"], None))
    assert rows.fragment[rows.header :] == b"/data/f\xff,x\n"


def test_what_was_returned_stays_as_it_is() -> None:
    frame = pd.DataFrame({"t": np.array(["2024-01-01"], "M8[ns]"), "d": np.array([1], "m8[s]"), "n": [1]})
    before = frame.copy(deep=True)
    encoded(frame, items=1, keyed=True, index=True)
    pd.testing.assert_frame_equal(frame, before)
