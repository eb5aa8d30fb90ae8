"""Journals as real files: what was committed is read back, and damage is seen or forgiven, never believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mpibatch.core import history
from mpibatch.core import records as record_module
from mpibatch.errors import StorageError
from mpibatch.runtime.journal import (
    HEADER_SIZE,
    Journal,
    add_journal,
    read_about,
    read_bytes,
    read_journal,
    read_workers,
    write_about,
)
from mpibatch.runtime.run_folder import RunFolder

PLAN = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.private.mkdir()
    return folder


def records_of(*mini_batches: int) -> bytes:
    return b"".join(
        history.record(
            kind=history.SUCCEEDED, mini_batch=number, first=0, count=1, attempt=number + 1, worker=0,
            offset=10 * number, length=10, succeeded=1, rows=1,
        )
        for number in mini_batches
    )  # fmt: skip


def written(folder: RunFolder, session: int, *groups: tuple[int, ...]) -> None:
    """A session that committed these groups of mini-batches."""
    journal = Journal(folder, session, PLAN)
    for group in groups:
        for number in group:
            journal.append_rows(b"row %05d\n" % number)
        journal.commit(records_of(*group))
    journal.close()


def numbers(folder: RunFolder, session: int = 1, plan: str = PLAN) -> list[int]:
    records, damaged = read_journal(folder, session, plan)
    assert damaged == 0
    found: list[int] = records["mini_batch"].tolist()
    return found


def test_what_was_committed_is_read_back(folder: RunFolder) -> None:
    journal = Journal(folder, 1, PLAN)
    journal.append_rows(b"one")
    journal.append_rows(b"two")
    back = journal.commit(records_of(3, 1))
    assert back["mini_batch"].tolist() == [3, 1]
    journal.commit(records_of(2))
    assert numbers(folder) == [3, 1, 2]
    assert read_bytes(folder, 1, 1, 4) == b"netw"
    assert read_bytes(folder, 1, 5, 100) == b"o"
    journal.close()
    assert folder.sessions() == [1]


def test_a_session_s_number_is_claimed_once(folder: RunFolder) -> None:
    written(folder, 1, (1,))
    with pytest.raises(FileExistsError):
        Journal(folder, 1, PLAN)
    assert numbers(folder) == [1]


def test_a_claim_that_fails_leaves_no_file_open(folder: RunFolder) -> None:
    folder.rows(1).touch()
    with pytest.raises(FileExistsError):
        Journal(folder, 1, PLAN)


def test_cut_at_every_byte_it_tells_of_whole_records_only(folder: RunFolder) -> None:
    written(folder, 1, (5, 6), (7,))
    whole = folder.journal(1).read_bytes()
    assert len(whole) == HEADER_SIZE + 3 * history.RECORD_SIZE
    for length in range(len(whole)):
        folder.journal(1).write_bytes(whole[:length])
        left = max(0, length - HEADER_SIZE) // history.RECORD_SIZE
        assert numbers(folder) == [5, 6, 7][:left], length


def test_a_tail_of_zeros_tells_nothing(folder: RunFolder) -> None:
    written(folder, 1, (5,))
    with open(folder.journal(1), "ab") as file:
        file.write(bytes(1000))
    assert numbers(folder) == [5]


def test_each_byte_flipped_is_seen_or_costs_the_record_it_is_in(folder: RunFolder) -> None:
    written(folder, 1, (5, 6), (7,))
    whole = folder.journal(1).read_bytes()
    for place in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            spoiled = bytearray(whole)
            spoiled[place] ^= flip
            folder.journal(1).write_bytes(spoiled)
            if place < HEADER_SIZE:
                with pytest.raises(StorageError, match=r"session-0001\.journal.*--fresh"):
                    read_journal(folder, 1, PLAN)
                continue
            records, damaged = read_journal(folder, 1, PLAN)
            hit = (place - HEADER_SIZE) // history.RECORD_SIZE
            assert records["mini_batch"].tolist() == [number for number in (5, 6, 7) if number != 5 + hit]
            assert damaged == (hit < 2)  # At the end it may be a torn write, which is forgiven.


def test_records_do_not_count_in_another_place_or_session(folder: RunFolder) -> None:
    written(folder, 1, (5, 6))
    written(folder, 2, (7,))
    one, two = folder.journal(1).read_bytes(), folder.journal(2).read_bytes()
    first, second = one[HEADER_SIZE:][:64], one[HEADER_SIZE:][64:]
    folder.journal(1).write_bytes(one[:HEADER_SIZE] + second + first)
    assert numbers(folder) == []
    folder.journal(2).write_bytes(two[:HEADER_SIZE] + first)
    assert numbers(folder, 2) == []
    folder.journal(2).write_bytes(one)
    with pytest.raises(StorageError):
        read_journal(folder, 2, PLAN)


def test_a_journal_of_another_plan_is_refused(folder: RunFolder) -> None:
    written(folder, 1, (5,))
    with pytest.raises(StorageError, match="belongs to another plan"):
        read_journal(folder, 1, "cd" * 32)


def test_a_journal_that_cannot_be_read_is_told_of(folder: RunFolder) -> None:
    with pytest.raises(StorageError, match=r"session-0001\.journal cannot be read: No such file"):
        read_journal(folder, 1, PLAN)


def test_what_a_session_adds_after_it_was_sealed_does_not_count(folder: RunFolder) -> None:
    zombie = Journal(folder, 1, PLAN)
    zombie.commit(records_of(1))
    write_about(folder, 2, [])
    written(folder, 2, (2,))
    zombie.commit(records_of(3))
    assert numbers(folder, 1) == [1]
    write_about(folder, 3, [])
    written(folder, 3, (4,))
    zombie.commit(records_of(5))
    zombie.close()
    assert [numbers(folder, session) for session in (1, 2, 3)] == [[1], [2], [4]]
    assert read_about(folder, 3)["seals"] == {"1": 1, "2": 1}


def test_a_seal_that_is_damaged_is_known_to_the_next_session(folder: RunFolder) -> None:
    zombie = Journal(folder, 1, PLAN)
    zombie.commit(records_of(1))
    write_about(folder, 2, [{"name": "a"}])
    written(folder, 2, (2,))
    folder.about(2).write_bytes(folder.about(2).read_bytes()[:-3])
    zombie.commit(records_of(3))
    zombie.close()
    with pytest.raises(StorageError, match=r"session-0002\.json is damaged"):
        numbers(folder, 1)
    folder.about(2).unlink()
    write_about(folder, 2, [{"name": "a"}])
    whole = folder.about(2).read_bytes()
    write_about(folder, 3, [])
    written(folder, 3, (4,))
    folder.about(2).write_bytes(whole[:-3])
    assert numbers(folder, 1) == [1, 3] and read_workers(folder, 2) == []
    folder.about(2).write_bytes(whole)
    assert read_workers(folder, 2) == [{"name": "a"}]


def test_a_torn_record_is_not_within_the_seal(folder: RunFolder) -> None:
    written(folder, 1, (1, 2))
    os.truncate(folder.journal(1), HEADER_SIZE + 2 * history.RECORD_SIZE - 1)
    write_about(folder, 2, [])
    assert read_about(folder, 2)["seals"] == {"1": 1}


def test_a_session_that_was_killed_before_its_header_is_empty(folder: RunFolder) -> None:
    folder.journal(1).write_bytes(b"mpib")
    write_about(folder, 2, [])
    written(folder, 2, (2,))
    assert (numbers(folder, 1), numbers(folder, 2)) == ([], [2])
    assert read_about(folder, 1) == {"seals": {}, "workers": []}


def test_what_a_session_wrote_of_itself(folder: RunFolder) -> None:
    workers = [{"name": "process000 on a", "stderr": "x"}]
    write_about(folder, 1, workers)
    assert read_about(folder, 1) == {"seals": {}, "workers": workers}
    for spoiled in ("", "{", "[]", "3", json.dumps({"seals": 3, "workers": []}), "\0" * 9):
        folder.about(1).write_text(spoiled)
        with pytest.raises(StorageError, match=r"session-0001\.json .*--fresh"):
            read_about(folder, 1)


def test_each_bit_flipped_of_what_a_session_wrote_of_itself_is_seen(folder: RunFolder) -> None:
    write_about(folder, 1, [{"name": "process000 on a", "stderr": "logs/x"}])
    whole, told = folder.about(1).read_bytes(), read_about(folder, 1)
    for bit in range(8 * len(whole)):
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        folder.about(1).write_bytes(spoiled)
        try:
            assert read_about(folder, 1) == told  # A space that is another one.
        except StorageError as error:
            assert "session-0001.json" in str(error)


def test_a_segment_that_is_gone_has_no_bytes(folder: RunFolder) -> None:
    assert read_bytes(folder, 1, 0, 10) == b""


def test_a_write_that_fails_names_its_file(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(folder, 1, PLAN)

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError) as rows:
            journal.append_rows(b"x")
        with pytest.raises(OSError) as records:
            journal.commit(records_of(1))
    journal.close()
    assert rows.value.filename == str(folder.rows(1))
    assert records.value.filename == str(folder.journal(1))


def test_rows_are_durable_before_a_record_names_them(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder, 1, PLAN)
    journal.append_rows(b"row")
    steps: list[str] = []
    names = {folder.rows(1).stat().st_ino: "rows", folder.journal(1).stat().st_ino: "journal"}
    sync, write = os.fdatasync, os.write

    def noted_sync(fd: int) -> None:
        steps.append(f"sync {names[os.fstat(fd).st_ino]}")
        sync(fd)

    def noted_write(fd: int, data: bytes) -> int:
        steps.append(f"write {names[os.fstat(fd).st_ino]}")
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", noted_sync)
        patch.setattr(os, "write", noted_write)
        journal.commit(records_of(1))
    journal.close()
    assert steps == ["sync rows", "write journal", "sync journal"]


def test_a_journal_is_taken_in_as_it_is_read(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it has to be looked at again after its pages were let go of."""
    monkeypatch.setattr(record_module, "AT_ONCE", 3)
    written(folder, 1, tuple(range(20)))
    with open(folder.journal(1), "r+b") as file:
        file.seek(HEADER_SIZE + 7 * history.RECORD_SIZE)
        file.write(b"\xff")
    facts, other = (history.no_facts(20, lambda items: np.ones(len(items), np.int64)) for _ in range(2))
    records, damaged = read_journal(folder, 1, PLAN)
    damaged += history.add_records(other, records, 1)
    assert add_journal(facts, folder, 1, PLAN) == damaged == 1
    assert facts.done.tolist() == other.done.tolist() == [number != 7 for number in range(20)]
    assert facts.offset.tolist() == other.offset.tolist()
    assert add_journal(facts, folder, 1, PLAN) == 1 and facts.attempts == 19, "nothing is done twice"
