"""Rows of DataFrames: byte for byte what pandas' own `to_csv` gives."""

from __future__ import annotations

import datetime
import decimal
import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpibatch.outputs.column_text import float_text
from mpibatch.outputs.frame_text import FrameText, to_csv

DEFAULTS: dict[str, Any] = {"sep": " ", "header": False, "index": False}
NAMES = st.text("abAB 09,;\"'_\n\r", max_size=3)
ODD_TEXT = st.text(st.sampled_from("ab 1,;|\t\"'\r\n\\\u00e4\u20ac\U0001f600.-NaN"), max_size=5)
FLOATS = st.one_of(
    st.floats(),
    st.floats(-1e6, 1e6),
    st.integers(-(10**6), 10**6).map(float),
    st.sampled_from([0.0, -0.0, 1e16, 9999999999999998.0, 1e-4, 9.99e-5, 1e-5, 1e22, 5e-324, float("inf")]),
)
INSTANTS = st.one_of(
    st.integers(-(2**62), 2**62),
    st.integers(-30_000, 30_000).map(lambda days: days * 86_400 * 10**9),
    st.integers(-(10**9), 10**9).map(lambda seconds: seconds * 10**9),
    st.integers(-(10**12), 10**12).map(lambda millis: millis * 10**6),
    st.integers(-(10**15), 10**15).map(lambda micros: micros * 10**3),
)


def some(values: st.SearchStrategy[Any], rows: int, missing: Any = None) -> st.SearchStrategy[list[Any]]:
    """So many, of which some may be missing; often all of one sort."""
    few = st.lists(values, min_size=rows, max_size=rows)
    holes = st.lists(st.one_of(values, st.just(missing)), min_size=rows, max_size=rows)
    return st.one_of(few, few, holes)


def datetimes(rows: int) -> st.SearchStrategy[Any]:
    def made(drawn: tuple[list[Any], str]) -> Any:
        nanos, unit = drawn
        return np.array(["NaT" if n is None else n for n in nanos], "M8[ns]").astype(f"M8[{unit}]")

    sorts = st.one_of(*(some(sort, rows) for sort in INSTANTS_BY_SORT))
    return st.tuples(sorts, st.sampled_from(["s", "ms", "us", "ns"])).map(made)


INSTANTS_BY_SORT = [
    INSTANTS,
    st.integers(-30_000, 30_000).map(lambda days: days * 86_400 * 10**9),
    st.integers(-(10**9), 10**9).map(lambda seconds: seconds * 10**9),
]


def kinds(rows: int) -> dict[str, st.SearchStrategy[Any]]:
    """Columns of every kind."""
    whole = st.integers(-(2**63), 2**63 - 1)
    return {
        "float64": some(FLOATS, rows, float("nan")).map(lambda v: np.array(v, np.float64)),
        "float32": some(st.floats(width=32), rows, float("nan")).map(lambda v: np.array(v, np.float32)),
        "float16": some(st.floats(width=16), rows, float("nan")).map(lambda v: np.array(v, np.float16)),
        "int64": st.lists(whole, min_size=rows, max_size=rows).map(lambda v: np.array(v, np.int64)),
        "uint64": st.lists(st.integers(0, 2**64 - 1), min_size=rows, max_size=rows).map(
            lambda v: np.array(v, np.uint64)
        ),
        "int8": st.lists(st.integers(-128, 127), min_size=rows, max_size=rows).map(
            lambda v: np.array(v, np.int8)
        ),
        "bool": st.lists(st.booleans(), min_size=rows, max_size=rows).map(lambda v: np.array(v, bool)),
        "bool or None": some(st.booleans(), rows).map(lambda v: np.array(v, object)),
        "str": some(ODD_TEXT, rows).map(lambda v: pd.array(v, dtype="str")),
        "text": some(ODD_TEXT, rows).map(lambda v: pd.Series(v, dtype=object)),
        "string": some(ODD_TEXT, rows).map(lambda v: pd.array(v, dtype="string")),
        "datetime": datetimes(rows),
        "zoned": datetimes(rows).map(lambda v: pd.Series(v).dt.tz_localize("UTC").array),
        "timedelta": some(st.integers(-(2**60), 2**60), rows, "NaT").map(lambda v: np.array(v, "m8[ns]")),
        "Int64": some(whole, rows).map(lambda v: pd.array(v, dtype="Int64")),
        "Float64": some(FLOATS, rows).map(lambda v: pd.array(v, dtype="Float64")),
        "Float32": some(st.floats(width=32), rows).map(lambda v: pd.array(v, dtype="Float32")),
        "boolean": some(st.booleans(), rows).map(lambda v: pd.array(v, dtype="boolean")),
        "category": some(ODD_TEXT, rows).map(pd.Categorical),
        "category of numbers": some(st.integers(-3, 3), rows).map(pd.Categorical),
        "category of dates": datetimes(rows).map(pd.Categorical),
        "objects": some(st.one_of(OBJECTS), rows).map(lambda v: pd.Series(v, dtype=object)),
        "complex": some(st.complex_numbers(), rows, 0j).map(lambda v: np.array(v, complex)),
    }


class Colour(str, enum.Enum):  # noqa: UP042  (its str() is not its value)
    RED = "r,"


OBJECTS = [
    st.integers(),
    FLOATS,
    st.booleans(),
    ODD_TEXT,
    st.decimals(),
    st.sampled_from(
        [
            Colour.RED,
            np.float64(0.1),
            np.float32(0.1),
            np.int8(3),
            pd.NA,
            pd.NaT,
            pd.Timestamp("2024-02-29"),
            datetime.date(2024, 2, 29),
            datetime.datetime(2024, 2, 29, 1),
            pd.Timedelta("1s"),
            b"b,",
            (1, "a b"),
        ]
    ),
    st.lists(ODD_TEXT, max_size=2),
]

SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "sep": st.sampled_from([" ", ",", ";", "\t", "|", "-", ":", "1", ".", "e", "\u00e4", "'"]),
    "header": st.booleans(),
    "index": st.booleans(),
    "na_rep": st.sampled_from(["", "NA", "a b", ",", "-", '"', "x" * 40]),
    "lineterminator": st.sampled_from(["\n", "\r\n"]),
    "quotechar": st.sampled_from(['"', "'", "|", "a", " "]),
    "index_label": st.sampled_from([None, False, "row", "a,b"]),
    "quoting": st.sampled_from([0, 0, 0, 1, 2, 3]),
    "doublequote": st.booleans(),
    "escapechar": st.sampled_from([None, "\\"]),
    "float_format": st.sampled_from([None, "%.2f"]),
    "date_format": st.sampled_from([None, "%d.%m.%Y"]),
    "decimal": st.sampled_from([".", ","]),
    "errors": st.just("strict"),
}


@st.composite
def frames(draw: st.DrawFn, most: int = 3) -> pd.DataFrame:
    rows = draw(st.integers(0, 5))
    all_kinds = kinds(rows)
    names = draw(st.lists(NAMES, max_size=most))
    columns = [draw(all_kinds[draw(st.sampled_from(sorted(all_kinds)))]) for _ in names]
    frame = pd.DataFrame(dict(enumerate(columns)), index=pd.RangeIndex(rows))
    frame.columns = pd.Index(names, dtype=object)
    return frame


@st.composite
def some_settings(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=3, unique=True))
    return {**DEFAULTS, **{name: draw(SETTINGS[name]) for name in chosen}}


def outcome(write: Callable[[], str]) -> str:
    """What it gives or raises."""
    try:
        return write()
    except Exception as error:
        return f"{type(error)}: {error}"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", list(" ,;|\t\"'\r\n\\a\0"))
def test_characters_that_need_quotes(mark: str, line_end: str) -> None:
    cells = [mark, f"a{mark}", f"{mark}b", "plain", f"{mark}{mark}"]
    for others in ({}, {"sep": "|"}, {"sep": "'", "quotechar": ";"}):
        frame = pd.DataFrame({"a": cells, "b": 1, mark: cells})
        same(frame, {**DEFAULTS, "lineterminator": line_end, "header": True, **others})
        same(pd.DataFrame({"a": pd.Categorical(cells)}), {**DEFAULTS, "lineterminator": line_end, **others})


def same(frame: pd.DataFrame, keywords: dict[str, Any]) -> None:
    expected = outcome(lambda: frame.to_csv(**keywords))
    assert outcome(lambda: to_csv(frame, keywords)) == expected
    if not expected.startswith("<class"):
        bare = {**keywords, "header": False}
        head, body = FrameText(keywords).parts(frame)
        assert body == outcome(lambda: frame.to_csv(**bare))
        assert bool(head) == (keywords["header"] is not False)


SLOW = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(frames(), some_settings())
def test_any_frame_with_any_settings(frame: pd.DataFrame, keywords: dict[str, Any]) -> None:
    same(frame, keywords)


@pytest.mark.parametrize("kind", sorted(kinds(1)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_each_kind_of_column_alone(kind: str, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 6))
    frame = pd.DataFrame({"a": data.draw(kinds(rows)[kind])})
    same(frame, {**DEFAULTS, "sep": data.draw(SETTINGS["sep"]), "na_rep": data.draw(SETTINGS["na_rep"])})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_index(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 4))
    all_kinds = kinds(rows)
    labels = data.draw(all_kinds[data.draw(st.sampled_from(sorted(set(all_kinds) - {"float16"})))])
    frame = pd.DataFrame({"a": range(rows)})
    frame.index = pd.Index(labels, name=data.draw(st.sampled_from([None, "key", "a b"])))
    keywords = {**DEFAULTS, "index": True, "header": True}
    if data.draw(st.booleans()):
        keywords["index_label"] = data.draw(SETTINGS["index_label"])
    same(frame, keywords)


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS, min_size=1), st.integers(0, 2**32 - 1))
def test_digits_of_floats(values: list[float], seed: int) -> None:
    chance = np.random.default_rng(seed)
    bits = chance.integers(0, 2**64, size=500, dtype=np.uint64).view(np.float64)
    sizes = chance.normal(size=500) * 10.0 ** chance.integers(-6, 18, size=500)
    short = chance.integers(0, 10**9, 500) / 10.0 ** chance.integers(0, 9, 500)
    powers = 2.0 ** chance.integers(-14, 54, 100)
    numbers = np.concatenate([values, bits, sizes, short, powers, np.nextafter(powers, 0)])
    assert float_text(numbers, "nan") == list(map(repr, numbers.tolist()))


@pytest.mark.parametrize("date_first", [True, False])
def test_datetimes_are_as_fine_as_those_that_pandas_writes_at_a_time(date_first: bool) -> None:
    # It writes 100,000 cells at a time.
    dates = np.full(60_000, "2024-02-29", "M8[ns]")
    dates[10 if not date_first else 59_999] += np.timedelta64(1, "ms")
    frame = pd.DataFrame({"t": dates, "n": np.arange(60_000)})
    same(frame, DEFAULTS)


ODD_FRAMES = {
    "levels of columns": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])),
    "levels of rows": pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", "y")])),
    "twice a name": pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
    "number names": pd.DataFrame([[1.5, 2.5]], columns=[0.25, 3]),
    "a missing name": pd.DataFrame([[1.5, 2.5]], columns=["a", None]),
    "no columns": pd.DataFrame(index=range(3)),
    "nothing": pd.DataFrame(),
    "intervals": pd.DataFrame({"a": pd.interval_range(0, 2)}),
    "periods": pd.DataFrame({"a": pd.period_range("2024", periods=2)}),
    "sparse": pd.DataFrame({"a": pd.arrays.SparseArray([0.0, 1.0])}),
    "old dates": pd.DataFrame({"a": np.array(["0999-01-01", "12024-01-01"], "M8[s]")}),
    "decimals": pd.DataFrame({"a": [decimal.Decimal("1.50"), None]}),
    "a text alone": pd.DataFrame({"a": ["", "x", None]}),
    "surrogates": pd.DataFrame({"a": pd.Series(["f\udcff"], dtype=object)}),
}
ODD_SETTINGS: list[dict[str, Any]] = [DEFAULTS, {"sep": ",", "header": True, "index": True}]


@pytest.mark.parametrize("keywords", ODD_SETTINGS, ids=str)
@pytest.mark.parametrize("name", ODD_FRAMES)
def test_odd_frames(name: str, keywords: dict[str, Any]) -> None:
    frame = ODD_FRAMES[name]
    assert outcome(lambda: to_csv(frame, keywords)) == outcome(lambda: frame.to_csv(**keywords))


ARROW: list[Any] = [
    [1, None],
    [0.1, None],
    ["a b", None],
    [True, None],
    [datetime.datetime(2024, 2, 29), None],
    [datetime.date(2024, 2, 29), None],
    [datetime.timedelta(1), None],
    [decimal.Decimal("1.50"), None],
    [[1, 2], None],
]


@pytest.mark.parametrize("values", ARROW, ids=str)
def test_columns_of_arrow(values: list[Any]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    dtype: Any = pd.ArrowDtype(pyarrow.array(values).type)
    array = pd.array(values, dtype=dtype)
    same(pd.DataFrame({"a": array, "b": array[[0, 0]]}), {**DEFAULTS, "na_rep": "-"})


@pytest.mark.parametrize("columns", [["b"], ["b", "a"], ["nowhere"], [], ["a", "a"]])
def test_chosen_columns(columns: list[str]) -> None:
    frame = pd.DataFrame({"a": [1], "b": ["x"]})
    for header in (True, False):
        keywords = {**DEFAULTS, "columns": columns, "header": header}
        assert outcome(lambda: to_csv(frame, keywords)) == outcome(  # noqa: B023
            lambda: frame.to_csv(**keywords)  # noqa: B023
        )


def test_a_class_of_its_own_writes_itself() -> None:
    class Mine(pd.DataFrame):
        def to_csv(self, *_: Any, **__: Any) -> Any:
            return "mine\n"

    assert to_csv(Mine({"a": [1]}), DEFAULTS) == "mine\n"


@given(frames(most=2))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_frame_stays_as_it_is(frame: pd.DataFrame) -> None:
    before = frame.copy(deep=True)
    to_csv(frame, {**DEFAULTS, "header": True, "index": True})
    pd.testing.assert_frame_equal(frame, before)


INSTANT = ["2024-02-29T01:02:03", "NaT"]
QUICK: dict[str, Any] = {
    "float64": [0.1, None],
    "float32": np.array([0.1, 1], np.float32),
    "int64": [1, 2],
    "bool": [True, False],
    "bool or None": pd.Series([True, None], dtype=object),
    "str": ["a", None],
    "object": pd.Series(["a", None], dtype=object),
    "string": pd.array(["a", None], dtype="string"),
    "Int64": pd.array([1, None], dtype="Int64"),
    "boolean": pd.array([True, None], dtype="boolean"),
    "category": pd.Categorical(["a", None]),
    "decimals": [decimal.Decimal("1.5"), None],
    **{f"datetime {unit}": np.array(INSTANT, f"M8[{unit}]") for unit in ("s", "ms", "us", "ns")},
}


@pytest.mark.parametrize("kind", QUICK)
def test_usual_columns_do_not_go_through_pandas(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": QUICK[kind]})
    expected = frame.to_csv(**DEFAULTS)
    monkeypatch.delattr("pandas.core.generic.NDFrame.to_csv")
    assert to_csv(frame, DEFAULTS) == expected
