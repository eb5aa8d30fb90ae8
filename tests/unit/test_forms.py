"""Forms of rows: their bytes, and that merging them does not hang on the order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core import forms
from mpibatch.core.forms import Column, Form, Unmergeable


def form(format_: str, *columns: tuple[str, str]) -> Form:
    return Form(format_, tuple(Column(*column) for column in columns))


CSV = ["null", "int", "float", "date", "seconds", "millis", "micros", "nanos", "other"]
NUMBERS = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
PARQUET = [
    "null", "missing", "bool", *NUMBERS, "halffloat", "float", "double", "string", "large_string", "binary",
    "large_binary", "date32[day]", "date64[ms]", "timestamp[s]", "timestamp[ns]", "timestamp[us, tz=UTC]",
    "timestamp[ms, tz=UTC]", "timestamp[us, tz=Europe/Berlin]", "time32[s]", "time32[ms]", "time64[us]",
    "time64[ns]", "duration[s]", "duration[ns]", "decimal32(5, 2)", "decimal128(5, 2)", "decimal128(38, 0)",
    "decimal128(30, 10)", "decimal256(70, 3)", "fixed_size_binary[4]",
]  # fmt: skip
HDF5 = [
    f"{dtype}|{shape}"
    for dtype in [
        "bool",
        *NUMBERS,
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
        "str",
        "bytes",
    ]
    for shape in ("", "2", "2,3")
]
QUOTED = ['"a"', '"b, \\"c\\": <"']


def nested(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        leaves.map("list<item: {}>".format),
        leaves.map("large_list<item: {}>".format),
        leaves.map("fixed_size_list<item: {}>[2]".format),
        st.tuples(leaves, leaves).map(lambda two: "map<{}, {}>".format(*two)),
        st.tuples(leaves, leaves).map(
            lambda two: f"struct<{QUOTED[0]}: {two[0]}, {QUOTED[1]}: {two[1]}>",
        ),
    )


PARQUET_TYPES = st.recursive(st.sampled_from(PARQUET), nested, max_leaves=3)
FORMS = st.one_of(
    st.tuples(st.sampled_from(CSV)).map(lambda t: form("csv", ("x", t[0]))),
    st.sampled_from(HDF5).map(lambda t: form("hdf5", ("x", t))),
    PARQUET_TYPES.map(lambda t: form("parquet", ("x", t))),
)


def merged(some: Iterable[Form]) -> Form | None:
    """All of them from the left; None where they cannot be merged."""
    found: Form | None = None
    for each in some:
        try:
            found = each if found is None else forms.merge(found, each)
        except Unmergeable:
            return None
    return found


def in_any_order(one: Form, two: Form, three: Form) -> None:
    results = {
        None if result is None else forms.encode_form(result)
        for order in itertools.permutations((one, two, three))
        for result in (merged(order), _from_the_right(*order))
    }
    assert len(results) == 1, (one, two, three, results)


def _from_the_right(one: Form, two: Form, three: Form) -> Form | None:
    rest = merged((two, three))
    return None if rest is None else merged((one, rest))


@pytest.mark.parametrize(("format_", "types"), [("csv", CSV), ("parquet", PARQUET), ("hdf5", HDF5[::3])])
def test_the_order_does_not_matter(format_: str, types: list[str]) -> None:
    for three in itertools.combinations_with_replacement(types, 3):
        results = {
            merged(form(format_, ("x", name)) for name in order)
            for order in set(itertools.permutations(three))
        }
        assert len(results) == 1, three


@given(st.lists(PARQUET_TYPES, min_size=3, max_size=3))
@settings(max_examples=400, deadline=None)
def test_nor_in_nested_types(types: list[str]) -> None:
    in_any_order(*(form("parquet", ("x", name)) for name in types))


@given(st.recursive(st.sampled_from(PARQUET), nested, max_leaves=6), st.data())
@settings(max_examples=200, deadline=None)
def test_nested_types_with_nulls_in_places_become_whole(whole: str, data: st.DataObject) -> None:
    """Types that only lack some of their parts always go together."""

    def holed() -> str:
        text = whole
        for leaf in ("string", "double"):
            if data.draw(st.booleans()):
                text = text.replace(f": {leaf}>", ": null>")
        return text

    some = [form("parquet", ("x", name)) for name in (holed(), holed(), whole)]
    assert merged(some) == some[-1]
    in_any_order(*some)


@given(FORMS)
@settings(max_examples=200, deadline=None)
def test_merging_a_form_with_itself_and_its_bytes(one: Form) -> None:
    assert forms.merge(one, one) == one
    again = forms.decode_form(memoryview(forms.encode_form(one)))
    assert again == one and again is not one
    assert forms.encode_form(again) == forms.encode_form(one)
    assert forms.merge(one, again) == one


@pytest.mark.parametrize(
    ("format_", "one", "other", "both"),
    [
        ("csv", "null", "date", "date"),
        ("csv", "int", "float", "float"),
        ("csv", "date", "seconds", "seconds"),
        ("csv", "nanos", "millis", "nanos"),
        ("csv", "int", "date", "other"),
        ("csv", "float", "other", "other"),
        ("parquet", "null", "list<item: int8>", "list<item: int8>"),
        ("parquet", "missing", "null", "missing"),
        ("parquet", "missing", "list<item: int8>", "list<item: int8>"),
        ("parquet", "int8", "int32", "int32"),
        ("parquet", "int8", "uint8", "int16"),
        ("parquet", "int64", "uint32", "int64"),
        ("parquet", "uint8", "uint64", "uint64"),
        ("parquet", "uint64", "int8", None),
        ("parquet", "uint64", "double", None),
        ("parquet", "int64", "halffloat", "double"),
        ("parquet", "halffloat", "float", "float"),
        ("parquet", "float", "double", "double"),
        ("parquet", "int64", "bool", None),
        ("parquet", "date32[day]", "timestamp[us]", "timestamp[us]"),
        ("parquet", "date32[day]", "timestamp[us, tz=UTC]", None),
        ("parquet", "timestamp[s]", "timestamp[ns]", "timestamp[ns]"),
        ("parquet", "timestamp[s, tz=UTC]", "timestamp[ms, tz=UTC]", "timestamp[ms, tz=UTC]"),
        ("parquet", "timestamp[s, tz=UTC]", "timestamp[s, tz=CET]", None),
        ("parquet", "timestamp[s]", "duration[s]", None),
        ("parquet", "time32[ms]", "time64[us]", "time64[us]"),
        ("parquet", "time32[s]", "time32[ms]", "time32[ms]"),
        ("parquet", "string", "large_string", "large_string"),
        ("parquet", "string", "double", None),
        ("parquet", "decimal128(5, 2)", "decimal128(6, 4)", "decimal128(7, 4)"),
        ("parquet", "decimal128(38, 0)", "decimal128(3, 2)", "decimal256(40, 2)"),
        ("parquet", "decimal256(76, 0)", "decimal128(3, 2)", None),
        ("parquet", "list<item: null>", "large_list<item: string>", "large_list<item: string>"),
        ("parquet", "list<item: list<item: int8>>", "list<item: list<item: null>>", "list<item: list<item: int8>>"),
        ("parquet", "fixed_size_list<item: int8>[2]", "fixed_size_list<item: int8>[3]", None),
        ("parquet", 'struct<"a": int8, "b": null>', 'struct<"a": int8, "b": bool>', 'struct<"a": int8, "b": bool>'),
        ("parquet", 'struct<"a": int8>', 'struct<"b": int8>', None),
        ("parquet", "struct<>", "struct<>", "struct<>"),
        ("parquet", "map<string, int8>", "map<string, double>", "map<string, double>"),
        ("parquet", "map<string, int8>", "map<int8, int8>", None),
        ("hdf5", "float32|512", "float64|512", "float64|512"),
        ("hdf5", "float32|512", "float32|256", None),
        ("hdf5", "float32|", "float32|1", None),
        ("hdf5", "int8|", "float32|", "float64|"),
        ("hdf5", "int64|", "uint64|", None),
        ("hdf5", "complex64|", "complex128|", "complex128|"),
        ("hdf5", "complex64|", "float32|", None),
        ("hdf5", "bool|", "int8|", None),
        ("hdf5", "str|", "str|", "str|"),
        ("hdf5", "str|", "int8|", None),
    ],
)  # fmt: skip
def test_promotion(format_: str, one: str, other: str, both: str | None) -> None:
    result = merged([form(format_, ("x", one)), form(format_, ("x", other))])
    assert result == (None if both is None else form(format_, ("x", both)))


def test_what_does_not_go_together_is_shown_with_both_forms() -> None:
    one = form("parquet", ("a", "int64"), ("b", "uint64"), ("c", "string"))
    other = form("parquet", ("a", "int64"), ("b", "int64"), ("c", "double"))
    with pytest.raises(Unmergeable) as caught:
        forms.merge(one, other)
    text = str(caught.value)
    assert "'b' is uint64 in one and int64 in the other (uint64 goes with unsigned" in text
    assert "'c' is string in one and double in the other. " in text
    assert "'a' is" not in text
    assert "One has: 'a' int64, 'b' uint64, 'c' string." in text and "astype" in text
    assert "The other has: 'a' int64, 'b' int64, 'c' double." in text


def test_columns_that_differ_are_named() -> None:
    one = form("csv", ("a", "int"), ("b", "int"))
    with pytest.raises(Unmergeable, match=r"only one has 'b'; only the other has 'c'. One has: 'a' int, 'b'"):
        forms.merge(one, form("csv", ("a", "int"), ("c", "int")))
    with pytest.raises(Unmergeable, match="their order"):
        forms.merge(one, form("csv", ("b", "int"), ("a", "int")))
    with pytest.raises(Unmergeable, match="The other has: no columns"):
        forms.merge(one, form("csv"))
    with pytest.raises(Unmergeable, match="format csv cannot stand beside rows of format hdf5"):
        forms.merge(one, form("hdf5"))


def test_of_many_columns_a_few_are_shown() -> None:
    one = form("csv", *((f"c{number}", "int") for number in range(500)))
    with pytest.raises(Unmergeable, match=r"only one has 'c0', .* and 492 more. ") as caught:
        forms.merge(one, form("csv", ("x", "int")))
    assert len(str(caught.value)) < 1000
    wrong = form("parquet", *((f"c{number}", "int8") for number in range(500)))
    with pytest.raises(Unmergeable) as caught:
        forms.merge(wrong, form("parquet", *((f"c{number}", "string") for number in range(500))))
    assert len(str(caught.value)) < 2000


def test_what_is_no_form_is_not_decoded() -> None:
    with pytest.raises(msgspec.DecodeError):
        forms.decode_form(b"\x00\x01")
