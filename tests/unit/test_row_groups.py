"""Row groups end where the rows say, however they come."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.outputs import row_groups
from mpibatch.outputs.row_groups import RowGroups, row_bytes

KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(0, 9)),
    (pa.bool_(), st.booleans()),
    (pa.null(), st.none()),
    (pa.string(), st.text(max_size=20)),
    (pa.large_binary(), st.binary(max_size=20)),
    (pa.list_(pa.int32()), st.lists(st.integers(0, 9) | st.none(), max_size=5)),
    (pa.list_(pa.int16(), 2), st.lists(st.integers(0, 9), min_size=2, max_size=2)),
    (pa.large_list(pa.list_(pa.string())), st.lists(st.lists(st.text(max_size=5), max_size=3), max_size=3)),
    (
        pa.map_(pa.string(), pa.int8()),
        st.lists(st.tuples(st.text(max_size=5), st.integers(0, 9)), max_size=3),
    ),
    (
        pa.struct([("a", pa.string()), ("b", pa.list_(pa.int8()))]),
        st.fixed_dictionaries({"a": st.text(max_size=5), "b": st.lists(st.integers(0, 9), max_size=3)}),
    ),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    rows = draw(st.integers(0, 12))
    columns = [
        pa.array(draw(st.lists(values | st.none(), min_size=rows, max_size=rows)), type_)
        for type_, values in kinds
    ]
    return pa.table(columns, names=[str(number) for number in range(len(columns))])


def pieces(draw: st.DrawFn, table: pa.Table) -> list[pa.Table]:
    """The table in pieces, of which several may make one table of several parts."""
    cuts = [0, *sorted(draw(st.lists(st.integers(0, table.num_rows), max_size=6))), table.num_rows]
    parts = [table.slice(start, stop - start) for start, stop in itertools.pairwise(cuts)]
    joined = draw(st.integers(1, len(parts)))
    return [pa.concat_tables(parts[:joined]), *parts[joined:]]


def groups(given_: list[pa.Table]) -> list[pa.Table]:
    taken = RowGroups()
    found = [group for table in given_ for group in taken.add(table)]
    rest = taken.rest()
    assert taken.rest() is None
    return found if rest is None else [*found, rest]


@given(tables(), st.integers(1, 120), st.integers(1, 8), st.data())
@settings(max_examples=300, deadline=None)
def test_groups_do_not_hang_on_the_pieces(table: pa.Table, most: int, rows: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "GROUP_BYTES", most)
        patch.setattr(row_groups, "GROUP_ROWS", rows)
        whole = groups([table])
        cut = groups(data.draw(st.composite(pieces)(table)))
    assert [group.num_rows for group in cut] == [group.num_rows for group in whole]
    assert all(one.equals(other) for one, other in zip(cut, whole))
    assert all(len(column.chunks) == 1 for group in cut for column in group.columns)
    assert sum(group.num_rows for group in whole) == table.num_rows
    if table.num_rows:
        assert pa.concat_tables(whole).equals(table)
    for number, group in enumerate(whole):
        sizes = row_bytes(group)
        assert group.num_rows <= rows and sizes[:-1].sum() < most
        if number < len(whole) - 1:
            assert group.num_rows == rows or sizes.sum() >= most


@given(tables())
@settings(max_examples=100, deadline=None)
def test_the_bytes_of_a_row_are_its_own(table: pa.Table) -> None:
    alone = [int(row_bytes(pa.Table.from_pylist([row], table.schema))[0]) for row in table.to_pylist()]
    assert row_bytes(table).tolist() == alone


def test_bytes_of_rows() -> None:
    table = pa.table(
        {
            "i": pa.array([1, 2], pa.int64()),
            "s": pa.array(["abc", None]),
            "l": pa.array([[1, 2, 3], []], pa.list_(pa.float64())),
        }
    )
    assert row_bytes(table).tolist() == [8 + 4 + 3 + 4 + 24, 8 + 4 + 4]


def test_a_group_is_as_large_as_it_is_said() -> None:
    """What is counted is about what Arrow takes."""
    rows = 100_000
    table = pa.table({"f": np.zeros(rows), "s": ["ten bytes."] * rows, "l": [[0.0] * 4] * rows})
    assert 0.9 < row_bytes(table).sum() / table.nbytes < 1.1
