"""Journal records and facts: damage is seen, order does not matter more than it should, sums are right."""

from __future__ import annotations

import tracemalloc
from random import Random
from typing import Any

import numpy as np
import pytest
import support

from mpibatch.core import history
from mpibatch.core import records as record_module
from mpibatch.core.history import (
    BAD,
    CAUSES,
    FAILED,
    FINAL,
    FORM,
    IN_PARTS,
    RECORD_SIZE,
    SPLIT,
    SUCCEEDED,
    VOID,
    Facts,
    Part,
    add_records,
    left_to_do,
    no_facts,
    record,
    remaining,
    seal,
    tally_from,
    unseal,
)
from mpibatch.work import Piece

ITEMS = 10
PLAN = 20
LAST = 3
"""Items of the last mini-batch."""


def item_count(number: int) -> int:
    assert 0 <= number < PLAN
    return LAST if number == PLAN - 1 else ITEMS


def facts_of_nothing() -> Facts:
    return no_facts(PLAN, support.one_by_one(item_count))


def success(
    number: int, *, succeeded: int | None = None, rows: int = 7, attempt: int = 1, **other: int
) -> bytes:
    count = other.pop("count", LAST if number == PLAN - 1 else ITEMS)
    return record(
        kind=SUCCEEDED,
        mini_batch=number,
        first=other.pop("first", 0),
        count=count,
        attempt=attempt,
        worker=0,
        succeeded=count if succeeded is None else succeeded,
        rows=rows,
        **other,
    )


def failure(number: int, *, flags: int = 0, cause: str = "raised", **other: int) -> bytes:
    count = other.pop("count", LAST if number == PLAN - 1 else ITEMS)
    fields = {"first": 0, "attempt": 1, "worker": 0, "tries": 1, **other}
    return record(
        kind=FAILED, mini_batch=number, count=count, flags=flags, cause=CAUSES.index(cause), **fields
    )


def void(number: int) -> bytes:
    return record(kind=VOID, mini_batch=number, first=0, count=0, attempt=0, worker=0)


def split(number: int, *, first: int, count: int, at: int) -> bytes:
    return record(kind=SPLIT, mini_batch=number, first=first, count=count, attempt=0, worker=0, rows=at)


def read(*records: bytes, session: int = 1) -> Any:
    """As a journal gives them back."""
    found, damaged = unseal(seal(b"".join(records), session, 0), session)
    assert damaged == 0
    return found


def sums(facts: Facts) -> tuple[int, int, int]:
    return facts.succeeded, facts.short, facts.rows


# Sealing


def test_a_record_is_read_back_as_it_was_written() -> None:
    assert RECORD_SIZE == 64
    (found,) = read(
        record(
            kind=SUCCEEDED, mini_batch=2**40, first=1, count=2, attempt=3, worker=4, flags=FINAL, cause=5,
            tries=300, offset=2**50, length=6, crc=2**32 - 1, succeeded=7, rows=8, header=9,
        )
    )  # fmt: skip
    written = {
        "kind": SUCCEEDED, "flags": FINAL, "cause": 5, "tries": 255, "mini_batch": 2**40, "first": 1, "count": 2,
        "attempt": 3, "worker": 4, "offset": 2**50, "length": 6, "crc": 2**32 - 1, "succeeded": 7, "rows": 8,
        "header": 9,
    }  # fmt: skip
    assert {name: int(found[name]) for name in written} == written


def test_sealing_in_parts_is_sealing_at_once() -> None:
    records = [success(number) for number in range(5)]
    whole = seal(b"".join(records), 3, 0)
    assert seal(b"".join(records[:2]), 3, 0) + seal(b"".join(records[2:]), 3, 2) == whole


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 63, b"\0" * 640, b"\xff" * 640])
def test_what_is_no_record_is_none(data: bytes) -> None:
    found, damaged = unseal(data, 1)
    assert (len(found), damaged) == (0, 0)


def test_a_journal_cut_at_every_byte() -> None:
    journal = seal(b"".join(success(number) for number in range(4)), 1, 0)
    for cut in range(len(journal) + 1):
        found, damaged = unseal(journal[:cut], 1)
        assert damaged == 0
        assert found["mini_batch"].tolist() == list(range(cut // RECORD_SIZE))


def test_a_torn_tail_of_any_bytes_is_forgiven() -> None:
    random = Random(1)
    journal = seal(b"".join(success(number) for number in range(3)), 1, 0)
    for length in range(1, 3 * RECORD_SIZE, 7):
        for tail in (bytes(length), random.randbytes(length)):
            found, damaged = unseal(journal + tail, 1)
            assert (found["mini_batch"].tolist(), damaged) == ([0, 1, 2], 0)


def test_every_flipped_bit_is_seen_or_is_in_the_tail() -> None:
    journal = seal(b"".join((success(0), failure(1), success(2), success(3))), 1, 0)
    for bit in range(8 * len(journal)):
        flipped = bytearray(journal)
        flipped[bit // 8] ^= 1 << bit % 8
        found, damaged = unseal(bytes(flipped), 1)
        place = bit // 8 // RECORD_SIZE
        assert found["mini_batch"].tolist() == [number for number in range(4) if number != place]
        assert damaged == (1 if place < 3 else 0)


def test_strayed_records_are_seen() -> None:
    journal = seal(b"".join(success(number) for number in range(3)), 1, 0)
    first, second, third = (journal[at : at + RECORD_SIZE] for at in range(0, len(journal), RECORD_SIZE))
    assert unseal(first + first + third, 1)[1] == 1
    assert unseal(second + first + third, 1)[1] == 2
    assert unseal(first + bytes(RECORD_SIZE) + third, 1)[1] == 1
    assert len(unseal(journal, 2)[0]) == 0


def test_many_records_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = bytearray(seal(b"".join(success(number) for number in range(PLAN)), 1, 0))
    journal[5 * RECORD_SIZE + 9] ^= 1
    whole = unseal(bytes(journal), 1)
    monkeypatch.setattr(record_module, "AT_ONCE", 3)
    parts = unseal(bytes(journal), 1)
    assert parts[0].tobytes() == whole[0].tobytes()
    assert parts[1] == whole[1] == 1


# Facts


def test_successes_and_failures() -> None:
    facts = facts_of_nothing()
    records = read(
        success(0, succeeded=8, rows=9, offset=100, length=5, crc=77, header=2),
        failure(1),
        failure(1, tries=2, flags=FINAL),
        success(PLAN - 1),
    )
    assert add_records(facts, records, 1) == 0
    assert np.flatnonzero(facts.done).tolist() == [0, PLAN - 1]
    assert sums(facts) == (8 + LAST, 2, 9 + 7)
    assert facts.attempts == 4
    stored = (facts.session, facts.offset, facts.length, facts.crc, facts.header)
    assert [int(column[0]) for column in stored] == [1, 100, 5, 77, 2]
    assert remaining(facts.done) == [(1, PLAN - 1)]


def test_a_duplicate_success_does_not_count() -> None:
    facts = facts_of_nothing()
    add_records(facts, read(success(4, offset=1, succeeded=9), success(4, offset=2)), 1)
    add_records(facts, read(success(4, offset=3), session=2), 2)
    assert sums(facts) == (9, 1, 7)
    assert (int(facts.offset[4]), int(facts.session[4]), facts.attempts) == (1, 1, 1)


def test_a_void_takes_the_counts_back_over_sessions() -> None:
    facts = facts_of_nothing()
    add_records(facts, read(success(4, succeeded=6, rows=6), success(5)), 1)
    add_records(facts, read(void(4), session=3), 3)
    assert remaining(facts.done) == [(0, 5), (6, PLAN)]
    assert sums(facts) == (ITEMS, 0, 7)
    add_records(facts, read(success(4, succeeded=9, rows=8, offset=44), session=4), 4)
    assert sums(facts) == (ITEMS + 9, 1, 15)
    assert (int(facts.session[4]), int(facts.offset[4])) == (4, 44)


def test_void_and_success_within_one_session() -> None:
    facts = facts_of_nothing()
    add_records(facts, read(success(4, offset=1), void(4), success(4, offset=2), success(4, offset=3)), 1)
    assert (sums(facts), int(facts.offset[4]), facts.attempts) == ((ITEMS, 0, 7), 2, 2)
    add_records(facts, read(success(4), void(4)), 2)
    assert (sums(facts), facts.attempts) == ((0, 0, 0), 2)
    add_records(facts, read(void(4), void(4)), 3)
    assert sums(facts) == (0, 0, 0)


def test_more_than_there_are_items_is_all_of_them() -> None:
    facts = facts_of_nothing()
    assert add_records(facts, read(success(0, succeeded=ITEMS + 2)), 1) == 0
    assert sums(facts) == (ITEMS, 0, 7)


def test_lost_workers_are_no_attempts() -> None:
    facts = facts_of_nothing()
    add_records(facts, read(failure(0, cause="lost", flags=FINAL), failure(0, cause="died")), 1)
    assert facts.attempts == 1


@pytest.mark.parametrize(
    "foreign",
    [
        success(PLAN, count=ITEMS),
        success(2**63),
        success(3, count=ITEMS + 1),
        success(3, first=4, count=0),
        success(3, first=(1 << 32) - 1, count=2),
        success(PLAN - 1, count=ITEMS),
        success(3, first=1),
        success(3, length=2**32),
        failure(PLAN, count=ITEMS),
        failure(3, first=2),
        failure(3, first=ITEMS, count=1),
        split(3, first=0, count=ITEMS, at=0),
        split(3, first=2, count=4, at=6),
        split(3, first=2, count=ITEMS - 1, at=4),
        void(PLAN),
        record(kind=0, mini_batch=3, first=0, count=ITEMS, attempt=1, worker=0),
        record(kind=9, mini_batch=3, first=0, count=ITEMS, attempt=1, worker=0),
    ],
    ids=range(17),
)
def test_records_that_are_not_of_the_plan_are_damaged(foreign: bytes) -> None:
    facts = facts_of_nothing()
    assert add_records(facts, read(success(3), foreign, success(4)), 1) == 1
    assert np.flatnonzero(facts.done).tolist() == [3, 4]
    assert facts.attempts == 2
    assert add_records(no_facts(0, support.one_by_one(item_count)), read(foreign), 1) == 1


def test_no_records() -> None:
    facts = facts_of_nothing()
    assert add_records(facts, read(), 1) == 0
    assert remaining(facts.done) == [(0, PLAN)]
    assert remaining(no_facts(0, support.one_by_one(item_count)).done) == []


# Pieces


def test_pieces_make_a_mini_batch_done_once_they_cover_it() -> None:
    facts = facts_of_nothing()
    records = read(
        failure(4),
        split(4, first=0, count=ITEMS, at=5),
        success(4, first=5, count=5, succeeded=4, rows=3, offset=9, length=3, crc=7, header=2),
        success(4, first=0, count=2, rows=2),
        failure(4, first=2, count=1, flags=FINAL),
    )
    assert add_records(facts, records, 2) == 0
    assert facts.parts[4] == [
        Part(0, 2, 2, 0, 0, 0, 0, 2, 2), Part(5, 5, 2, 9, 3, 2, 7, 4, 3),
    ]  # fmt: skip
    assert (sums(facts), facts.attempts, facts.covered) == ((6, 1, 5), 4, {4: 7})
    assert not facts.done.any() and facts.session[4] == IN_PARTS
    assert left_to_do(facts) == ([(0, 4), (5, PLAN)], [Piece(4, 2, 3)])
    assert tally_from(facts, 193, PLAN).mini_batches_succeeded == 0
    add_records(facts, read(success(4, first=2, count=3, rows=1), session=3), 3)
    assert np.flatnonzero(facts.done).tolist() == [4]
    assert (sums(facts), facts.attempts) == ((9, 1, 6), 5)
    assert (int(facts.item_successes[4]), int(facts.row_counts[4])) == (9, 6)
    assert left_to_do(facts) == ([(0, 4), (5, PLAN)], [])
    assert tally_from(facts, 193, PLAN).mini_batches_succeeded == 1


def test_what_overlaps_what_counts_does_not_count() -> None:
    facts = facts_of_nothing()
    add_records(facts, read(success(4, first=3, count=3), success(4), success(4, first=5, count=2)), 1)
    add_records(facts, read(success(4, first=0, count=4), success(4, first=3, count=3), session=2), 2)
    assert [(part.first, part.count, part.session) for part in facts.parts[4]] == [(3, 3, 1)]
    assert (sums(facts), facts.attempts) == ((3, 0, 7), 1)
    add_records(facts, read(success(5), success(5, first=0, count=4), session=3), 3)
    assert 5 not in facts.parts and facts.done[5]


def test_a_void_drops_all_parts() -> None:
    facts = facts_of_nothing()
    halves = success(4, first=0, count=5), success(4, first=5, count=5, succeeded=2)
    add_records(facts, read(*halves, success(5)), 1)
    assert facts.done[4] and sums(facts) == (7 + ITEMS, 3, 21)
    add_records(facts, read(void(4), session=2), 2)
    assert (facts.parts, facts.covered, sums(facts)) == ({}, {}, (ITEMS, 0, 7))
    assert left_to_do(facts) == ([(0, 5), (6, PLAN)], [])
    add_records(facts, read(success(4, offset=5), session=3), 3)
    assert sums(facts) == (2 * ITEMS, 0, 14) and facts.session[4] == 3
    add_records(facts, read(void(4), *halves, session=4), 4)
    assert sums(facts) == (7 + ITEMS, 3, 21) and len(facts.parts[4]) == 2


class Oracle:
    """The rules, one record at a time, in plain Python: of each item, which record gave it."""

    def __init__(self) -> None:
        self.counts: dict[int, dict[tuple[int, int], tuple[int, int, int, int]]] = {}
        """By mini-batch and (first, count): session, offset, succeeded, rows."""
        self.attempts = self.damaged = 0

    def items(self, number: int) -> set[int]:
        return {item for first, count in self.counts.get(number, {}) for item in range(first, first + count)}

    def success(self, number: int, first: int, count: int, told: tuple[int, int, int, int]) -> None:
        new = set(range(first, first + count))
        if not count or not new <= set(range(item_count(number))):
            self.damaged += 1
        elif not new & self.items(number):
            self.counts.setdefault(number, {})[first, count] = told
            self.attempts += 1

    def agrees_with(self, facts: Facts) -> None:
        done = {n for n in range(PLAN) if len(self.items(n)) == item_count(n)}
        assert set(np.flatnonzero(facts.done).tolist()) == done
        all_told = [told for counts in self.counts.values() for told in counts.values()]
        ended = sum(len(self.items(number)) for number in range(PLAN))
        assert facts.succeeded == sum(told[2] for told in all_told)
        assert facts.short == ended - facts.succeeded
        assert facts.rows == sum(told[3] for told in all_told)
        assert facts.attempts == self.attempts
        for number, counts in self.counts.items():
            self._same(facts, number, counts)
        ranges, pieces = left_to_do(facts)
        untouched = {number for start, stop in ranges for number in range(start, stop)}
        assert untouched == {number for number in range(PLAN) if not self.items(number)}
        left = [(p.mini_batch, item) for p in pieces for item in range(p.first, p.first + p.count)]
        assert left == [
            (n, item)
            for n in range(PLAN) if n not in untouched
            for item in range(item_count(n)) if item not in self.items(n)
        ]  # fmt: skip

    def _same(
        self, facts: Facts, number: int, counts: dict[tuple[int, int], tuple[int, int, int, int]]
    ) -> None:
        if list(counts) == [(0, item_count(number))]:
            assert number not in facts.parts
            stored = (facts.session, facts.offset, facts.item_successes, facts.row_counts)
            assert tuple(int(column[number]) for column in stored) == counts[0, item_count(number)]
            return
        parts = facts.parts.get(number, [])
        assert (facts.session[number] == IN_PARTS) == bool(counts)
        assert [(part.first, part.count) for part in parts] == sorted(counts)
        for part in parts:
            told = (part.session, part.offset, part.succeeded, part.rows)
            assert told == counts[part.first, part.count]
        if facts.done[number]:
            assert facts.item_successes[number] == sum(part.succeeded for part in parts)
            assert facts.row_counts[number] == sum(part.rows for part in parts)


@pytest.mark.parametrize("seed", range(150))
def test_facts_are_what_reading_one_by_one_gives(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(seed)
    monkeypatch.setattr(record_module, "AT_ONCE", random.choice((1, 2, 7, 1 << 16)))
    facts, oracle = facts_of_nothing(), Oracle()
    letters = random.choice(("SSSFVVX", "SPPPPPPPVX", "SSPPPPFVD"))
    numbers = random.choice((1, 2, PLAN))
    damaged = 0
    for session in range(1, 6):
        records = []
        for offset in range(random.choice((0, 1, 5, 60))):
            number = random.randrange(PLAN - numbers, PLAN)
            items = item_count(number)
            first, count = 0, items
            match random.choice(letters):
                case "F":
                    attempt = random.choice((0, 7))  # 0: it failed with another piece, unattempted.
                    records.append(failure(number, first=items - 1, count=1, attempt=attempt))
                    oracle.attempts += attempt != 0
                    continue
                case "D":
                    records.append(split(number, first=0, count=items, at=1))
                    continue
                case "V":
                    records.append(void(number))
                    oracle.counts.pop(number, None)
                    continue
                case "X":
                    first, count = random.randrange(items), random.choice((0, items + 1))
                case "P":
                    first = random.randrange(items)
                    count = random.randint(1, min(items - first, random.choice((2, ITEMS))))
            told = (session, offset, random.randint(0, count), random.randint(0, 9))
            records.append(
                success(number, first=first, count=count, offset=offset, succeeded=told[2], rows=told[3])
            )
            oracle.success(number, first, count, told)
        found = read(*records, session=session)
        cut = random.randint(0, len(found))
        damaged += add_records(facts, found[:cut], session) + add_records(facts, found[cut:], session)
        oracle.agrees_with(facts)
    assert damaged == oracle.damaged


def test_the_tally_of_a_new_session() -> None:
    facts = facts_of_nothing()
    add_records(facts, read(success(0, succeeded=8), failure(1, flags=FINAL), success(PLAN - 1)), 1)
    tally = tally_from(facts, 193, PLAN)
    assert (tally.items_total, tally.mini_batches_total) == (193, PLAN)
    assert (tally.items_succeeded, tally.items_failed) == (8 + LAST, 2)
    assert (tally.mini_batches_succeeded, tally.mini_batches_failed) == (2, 0)
    assert (tally.attempts, tally.rows) == (3, 14)


@pytest.mark.parametrize(
    ("done", "ranges"),
    [
        ("", []),
        ("0", [(0, 1)]),
        ("1", []),
        ("0110", [(0, 1), (3, 4)]),
        ("1001", [(1, 3)]),
        ("10101", [(1, 2), (3, 4)]),
    ],
)
def test_remaining(done: str, ranges: list[tuple[int, int]]) -> None:
    assert remaining(np.array([digit == "1" for digit in done], bool)) == ranges


def test_a_million_mini_batches_take_less_than_32_bytes_each() -> None:
    count = 1_000_000
    numbers = np.arange(count)
    records = np.zeros(count, np.dtype(history.FIELDS))
    records["kind"], records["mini_batch"], records["count"] = SUCCEEDED, numbers, ITEMS
    records["succeeded"] = ITEMS
    tracemalloc.start()
    try:
        facts = no_facts(count, lambda some: np.full(len(some), ITEMS))
        assert tracemalloc.get_traced_memory()[0] < 32 * count
        assert add_records(facts, records, 1) == 0
        assert tracemalloc.get_traced_memory()[1] < 32 * count + (32 << 20)
    finally:
        tracemalloc.stop()
    assert facts.succeeded == count * ITEMS
    assert remaining(facts.done) == []


def test_bad_items_and_forms_are_no_turns() -> None:
    """They stand beside the success that they belong to, and change nothing of what is finished."""
    facts = facts_of_nothing()
    bad = record(kind=BAD, mini_batch=3, first=ITEMS - 1, count=1, attempt=1, worker=0, length=9)
    form = record(kind=FORM, mini_batch=0, first=0, count=0, attempt=0, worker=0, length=9)
    assert add_records(facts, read(form, bad), 1) == 0
    assert not facts.done.any() and facts.attempts == 0
    assert add_records(facts, read(form, bad, success(3, succeeded=9)), 1) == 0
    assert facts.done.tolist() == [number == 3 for number in range(PLAN)]
    assert (facts.succeeded, facts.short, facts.attempts) == (9, 1, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"mini_batch": PLAN, "first": 0, "count": 1},
        {"mini_batch": PLAN - 1, "first": LAST, "count": 1},
        {"mini_batch": 0, "first": 1, "count": ITEMS},
        {"mini_batch": 0, "first": (1 << 32) - 1, "count": 2},
    ],
)
def test_bad_items_outside_of_the_plan_are_damage(fields: dict[str, int]) -> None:
    assert add_records(facts_of_nothing(), read(record(kind=BAD, attempt=1, worker=0, **fields)), 1) == 1
