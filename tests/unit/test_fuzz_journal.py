"""Whatever happens to journals: what is told to be finished was written as finished, and damage is told in words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fuzzing import damaged, fuzz
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpibatch.core import history
from mpibatch.errors import StorageError
from mpibatch.runtime.journal import HEADER_SIZE, Journal, read_journal, write_about
from mpibatch.runtime.run_folder import RunFolder

PLAN = "ab" * 32
MINI_BATCHES, ITEMS = 8, 4
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where a sync costs nothing."""
SIZE = history.RECORD_SIZE


class Told(NamedTuple):
    """What a journal tells of one success: where its rows are, and how many."""

    session: int
    mini_batch: int
    first: int
    items: int
    offset: int
    length: int
    crc: int
    succeeded: int
    rows: int


def item_counts(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.full(len(numbers), ITEMS, np.int64)


@st.composite
def one_record(draw: st.DrawFn) -> bytes:
    """Mostly what a session writes, now and then of no piece of the plan or of no kind that there is."""
    kind = draw(st.sampled_from([1, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 255]))
    first = draw(st.integers(0, ITEMS)) if kind not in (1, 2) or draw(st.booleans()) else 0
    return history.record(
        kind=kind, mini_batch=draw(st.integers(0, MINI_BATCHES)), first=first,
        count=ITEMS - first if draw(st.integers(0, 2)) else draw(st.integers(0, ITEMS + 1)),
        attempt=draw(st.integers(1, 99)), worker=0, flags=draw(st.integers(0, 1)),
        cause=draw(st.integers(0, 7)), tries=1, offset=draw(st.integers(0, 2**40)),
        length=draw(st.integers(0, 2**33)), crc=draw(st.integers(0, 2**32 - 1)),
        succeeded=draw(st.integers(0, ITEMS + 1)), rows=draw(st.integers(0, 99)), header=0,
    )  # fmt: skip


sessions = st.lists(st.lists(one_record(), max_size=8), min_size=1, max_size=3)


@contextmanager
def run_folder() -> Iterator[RunFolder]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        made = RunFolder(Path(folder))
        made.private.mkdir()
        yield made


def write(folder: RunFolder, written: list[list[bytes]]) -> None:
    for number, records in enumerate(written, 1):
        write_about(folder, number, [])
        journal = Journal(folder, number, PLAN)
        try:
            if records:
                journal.commit(b"".join(records))
        finally:
            journal.close()


def read(folder: RunFolder, session: int) -> tuple[list[bytes], int] | None:
    """The records as they were before they were sealed; None where the journal is refused, in words."""
    try:
        records, broken = read_journal(folder, session, PLAN)
    except StorageError as error:
        assert str(folder.journal(session)) in str(error) and "--fresh" in str(error)
        return None
    plain = records.copy()
    plain["check"] = 0
    return [one.tobytes() for one in plain], broken


def finished(folder: RunFolder, count: int) -> tuple[set[Told], history.Facts]:
    facts = history.no_facts(MINI_BATCHES, item_counts)
    for session in range(1, count + 1):
        try:
            records, _ = read_journal(folder, session, PLAN)
        except StorageError:
            continue
        history.add_records(facts, records, session)
    return set(told_by(facts)), facts


def told_by(facts: history.Facts) -> Iterator[Told]:
    """What counts: whole mini-batches, and parts of those that were split."""
    names = ("offset", "length", "crc", "item_successes", "row_counts")
    for number in np.flatnonzero(facts.done & (facts.session != history.IN_PARTS)).tolist():
        values = [int(getattr(facts, name)[number]) for name in names]
        yield Told(int(facts.session[number]), number, 0, ITEMS, *values)
    for number, parts in facts.parts.items():
        for one in parts:
            values = [one.offset, one.length, one.crc, one.succeeded, one.rows]
            yield Told(one.session, number, one.first, one.count, *values)


def successes(written: list[list[bytes]]) -> set[Told]:
    """All that were ever written, later ones that do not count and voided ones too."""
    found = set()
    for session, records in enumerate(written, 1):
        for one in history.as_records(b"".join(records)):
            if one["kind"] == history.SUCCEEDED:
                names = ("mini_batch", "first", "count", "offset", "length", "crc", "succeeded", "rows")
                told = Told(session, *(int(one[name]) for name in names))
                found.add(told._replace(succeeded=min(told.succeeded, told.items)))
    return found


def check_sums(facts: history.Facts) -> None:
    """They are those of what counts, and no item counts twice."""
    told = list(told_by(facts))
    assert facts.succeeded == sum(one.succeeded for one in told)
    assert facts.rows == sum(one.rows for one in told)
    assert facts.short == sum(one.items - one.succeeded for one in told)
    assert facts.attempts >= len(told)
    for number in range(MINI_BATCHES):
        items = [
            item
            for one in told
            if one.mini_batch == number
            for item in range(one.first, one.first + one.items)
        ]
        assert len(set(items)) == len(items) and all(0 <= item < ITEMS for item in items)
        assert bool(facts.done[number]) == (len(items) == ITEMS)


@fuzz(150)
@given(sessions, st.data())
def test_damaged_journals(written: list[list[bytes]], data: st.DataObject) -> None:
    with run_folder() as folder:
        write(folder, written)
        before, _ = finished(folder, len(written))
        assert before <= successes(written)
        for session, records in enumerate(written, 1):
            file = folder.journal(session)
            spoiled = data.draw(damaged(file.read_bytes()))
            whole = file.read_bytes()
            file.write_bytes(spoiled)
            back = read(folder, session)
            if back is None:
                assert spoiled[:HEADER_SIZE] != whole[:HEADER_SIZE]
                continue
            assert is_part(back[0], records)
            if not back[
                1
            ]:  # Without a word only the end may be missing: what was not yet committed looks so.
                assert back[0] == records[: len(back[0])]
        after, facts = finished(folder, len(written))
        assert after <= successes(written)
        check_sums(facts)


def is_part(some: list[bytes], of: list[bytes]) -> bool:
    """In the same order, with others left out."""
    rest = iter(of)
    return all(one in rest for one in some)


@fuzz(150)
@given(sessions, st.data())
def test_records_that_were_moved_doubled_or_come_from_another_session(
    written: list[list[bytes]], data: st.DataObject
) -> None:
    with run_folder() as folder:
        write(folder, written)
        blocks = [
            (session, place, folder.journal(session).read_bytes()[HEADER_SIZE + SIZE * place :][:SIZE])
            for session, records in enumerate(written, 1)
            for place in range(len(records))
        ]
        for session in range(1, len(written) + 1):
            file = folder.journal(session)
            chosen = data.draw(st.lists(st.sampled_from(blocks), max_size=10)) if blocks else []
            file.write_bytes(file.read_bytes()[:HEADER_SIZE] + b"".join(block for _, _, block in chosen))
            stays = [
                place
                for place, block in enumerate(chosen)
                if block[:2] == (session, place)
            ]  # fmt: skip
            sealed = len(written[session - 1]) if session < len(written) else len(chosen)
            expected = [written[session - 1][place] for place in stays if place < sealed]
            back = read(folder, session)
            assert back is not None and back[0] == expected
        after, facts = finished(folder, len(written))
        assert after <= successes(written)
        check_sums(facts)


@fuzz(150)
@given(st.binary(max_size=400), st.booleans(), st.integers(1, 9))
def test_random_bytes_tell_of_nothing(junk: bytes, behind_header: bool, session: int) -> None:
    with run_folder() as folder:
        write(folder, [[] for _ in range(session)])
        file = folder.journal(session)
        header = file.read_bytes()
        file.write_bytes(header + junk if behind_header else junk)
        back = read(folder, session)
        assert back == ([], 0) if behind_header or len(junk) < HEADER_SIZE else back is None


@fuzz(100)
@given(sessions, st.data())
def test_headers_of_others_are_refused(written: list[list[bytes]], data: st.DataObject) -> None:
    with run_folder() as folder:
        write(folder, written)
        file = folder.journal(1)
        whole = file.read_bytes()
        place = data.draw(st.integers(0, HEADER_SIZE - 1))
        flipped = bytes([whole[place] ^ data.draw(st.integers(1, 255))])
        file.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        assert read(folder, 1) is None


@fuzz(100)
@given(sessions, st.data())
def test_the_order_of_sessions_and_damage_never_add_facts(
    written: list[list[bytes]], data: st.DataObject
) -> None:
    """`add_records` alone: any records, legal or not, in any parts, leave sums that are right."""
    facts = history.no_facts(MINI_BATCHES, item_counts)
    told = 0
    for session, records in enumerate(written, 1):
        sealed = b"".join(history.seal(one, session, place) for place, one in enumerate(records))
        body = data.draw(damaged(sealed)) if sealed else b""
        found, _ = history.unseal(body, session)
        told += len(found)
        broken = history.add_records(facts, found, session)
        assert 0 <= broken <= len(found)
    check_sums(facts)
    assert facts.attempts <= told
