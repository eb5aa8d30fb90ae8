from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpibatch.core.partition import Partition, Place, cut


@pytest.mark.parametrize(
    ("items", "size", "mini_batches"),
    [(0, 5, 0), (1, 5, 1), (5, 5, 1), (6, 5, 2), (1797, 5, 360), (10_000_000, 1, 10_000_000), (3, 10**12, 1)],
)
def test_cut(items: int, size: int, mini_batches: int) -> None:
    assert cut(items, size) == mini_batches


@pytest.mark.parametrize(("items", "size"), [(5, 0), (5, -1), (-1, 5)])
def test_cut_refuses_nonsense(items: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"{items} items cannot be cut"):
        cut(items, size)


def test_several_inputs_are_numbered_through_and_cut_apart() -> None:
    partition = Partition([7, 0, 3, 4], 3)
    assert [partition.place(number) for number in range(partition.mini_batches)] == [
        Place(0, 0, 3),
        Place(0, 3, 3),
        Place(0, 6, 1),
        Place(2, 0, 3),
        Place(3, 0, 3),
        Place(3, 3, 1),
    ]
    assert (partition.items, partition.inputs, partition.largest) == (14, 4, 3)
    assert [partition.mini_batch_count(number) for number in range(4)] == [3, 0, 1, 2]


@pytest.mark.parametrize("mini_batch", [-1, 6, 10**9])
def test_a_mini_batch_that_is_not_there(mini_batch: int) -> None:
    partition = Partition([7, 0, 3, 4], 3)
    for function in (partition.place, partition.input_of, partition.item_count):
        with pytest.raises(IndexError, match=f"no mini-batch {mini_batch}: the plan has 6"):
            function(mini_batch)


def test_the_largest_is_what_is_really_there() -> None:
    assert Partition([2, 3], 10).largest == 3
    assert Partition([], 10).largest == 0
    assert Partition([0], 10).largest == 0


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(1, 20))
def test_every_item_is_in_one_mini_batch_in_order(sizes: list[int], mini_batch_size: int) -> None:
    partition = Partition(sizes, mini_batch_size)
    places = [partition.place(number) for number in range(partition.mini_batches)]
    covered = [(place.input, place.first + k) for place in places for k in range(place.count)]
    assert covered == [(number, item) for number, size in enumerate(sizes) for item in range(size)]
    assert all(1 <= place.count <= mini_batch_size for place in places)
    assert max((place.count for place in places), default=0) == partition.largest
    every = np.arange(partition.mini_batches)
    assert partition.item_counts(every).tolist() == [place.count for place in places]
    assert [partition.input_of(number) for number in range(partition.mini_batches)] == [
        p.input for p in places
    ]


def test_ten_million_mini_batches_cost_no_memory() -> None:
    partition = Partition([10_000_000, 1], 1)
    assert partition.place(9_999_999) == Place(0, 9_999_999, 1)
    assert partition.place(10_000_000) == Place(1, 0, 1)
    assert not hasattr(partition, "__dict__")
    assert len(partition._first_mini_batch) == 3
