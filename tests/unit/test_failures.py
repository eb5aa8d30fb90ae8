"""What has failed for good in a session: counted once, and waited for no longer than needed."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import support

from mpibatch.core import history
from mpibatch.core.failures import Failures, final_failures
from mpibatch.core.history import FAILED, FINAL, SUCCEEDED

ITEMS = 6
PLAN = 8


def told(kind: int, number: int, first: int, count: int, flags: int = FINAL) -> bytes:
    return history.record(
        kind=kind, mini_batch=number, first=first, count=count, attempt=1, worker=0,
        flags=flags if kind == FAILED else 0, succeeded=count,
    )  # fmt: skip


class Session:
    def __init__(self) -> None:
        self.facts = history.no_facts(PLAN, support.one_by_one(lambda number: ITEMS))
        self.failures = Failures(self.facts)

    def note(self, *records: bytes) -> list[int]:
        found: Any = history.as_records(b"".join(records))
        assert history.add_records(self.facts, found, 1) == 0
        ended: list[int] = self.failures.note(found).tolist()
        return ended

    @property
    def counts(self) -> tuple[int, int]:
        return self.failures.mini_batches, self.failures.items


def test_whole_mini_batches() -> None:
    session = Session()
    assert session.note(told(FAILED, 3, 0, ITEMS, flags=0), told(SUCCEEDED, 1, 0, ITEMS)) == []
    assert session.note(told(FAILED, 3, 0, ITEMS), told(FAILED, 5, 0, ITEMS)) == [3, 5]
    assert session.counts == (2, 2 * ITEMS)


def test_a_mini_batch_in_pieces_has_ended_with_its_last_piece() -> None:
    session = Session()
    assert session.note(told(FAILED, 3, 0, 2)) == []
    assert session.note(told(SUCCEEDED, 3, 2, 3), told(FAILED, 4, 0, ITEMS)) == [4]
    assert session.note() == [] and session.note(told(SUCCEEDED, 0, 0, 1)) == []
    assert session.note(told(FAILED, 3, 5, 1)) == [3]
    assert session.counts == (2, 3 + ITEMS)


def test_the_last_piece_may_be_one_that_succeeds() -> None:
    session = Session()
    assert session.note(told(SUCCEEDED, 3, 0, 2), told(FAILED, 3, 2, 1)) == []
    assert session.note(told(SUCCEEDED, 3, 3, 3)) == [3]
    assert session.counts == (1, 1)


def test_of_what_is_done_all_the_same_nothing_has_failed() -> None:
    session = Session()
    assert session.note(told(SUCCEEDED, 3, 0, ITEMS)) == []
    failed = told(FAILED, 3, 1, 2), told(FAILED, 3, 0, ITEMS)
    assert session.note(*failed) == []
    assert session.counts == (0, 0)
    assert len(final_failures(history.as_records(b"".join(failed)), session.facts)) == 0


@pytest.mark.parametrize("seed", range(30))
def test_any_pieces_in_any_groups(seed: int) -> None:
    random = Random(seed)
    records, failed, wholly_failed = [], 0, set()
    for number in range(PLAN):
        cuts = sorted(random.sample(range(1, ITEMS), random.randrange(ITEMS)))
        for first, stop in zip([0, *cuts], [*cuts, ITEMS], strict=True):
            kind = random.choice((SUCCEEDED, FAILED))
            records.append((number, told(kind, number, first, stop - first)))
            failed += stop - first if kind == FAILED else 0
            wholly_failed |= {number} if kind == FAILED else set()
    random.shuffle(records)
    session = Session()
    seen: list[int] = []
    left = [number for number, _ in records]
    while records:
        group = [records.pop() for _ in range(min(len(records), random.randint(1, 9)))]
        seen += session.note(*(record for _, record in group))
        for number, _ in group:
            left.remove(number)
        # Neither earlier than their last piece, nor later.
        assert set(seen) == wholly_failed - set(left)
    assert sorted(seen) == sorted(wholly_failed)
    assert session.counts == (len(wholly_failed), failed)
    assert set(np.flatnonzero(session.facts.done).tolist()) == set(range(PLAN)) - wholly_failed
