"""The writer thread over real journals: groups, what fails, and what is kept then."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import support

from mpibatch.core import history
from mpibatch.core.forms import Column, Form, Unmergeable, encode_form
from mpibatch.core.history import Facts
from mpibatch.errors import ScriptError, StoppedError, StorageError
from mpibatch.outputs.assemble import Assembly
from mpibatch.runtime import writer as writer_module
from mpibatch.runtime.forms import Forms, recorded_forms
from mpibatch.runtime.journal import Journal, read_bytes, read_journal
from mpibatch.runtime.recording import Recording
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.writer import Writer
from mpibatch.work import BadItem, ErrorReport, Failed, Piece, Succeeded

PLAN = "ab" * 32
MINI_BATCHES = 8


class Owner:
    """A lease that can be lost."""

    def __init__(self) -> None:
        self.lost = False

    def check(self) -> None:
        if self.lost:
            raise StoppedError("taken over")


class Bench:
    """A writer with its folder: mini-batches of two items."""

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder)
        self.folder.private.mkdir()
        self.facts: Facts = history.no_facts(MINI_BATCHES, support.one_by_one(lambda number: 2))
        self.assembly = Assembly(
            partial=self.folder.partial_output(1), final=folder / "rows.txt", facts=self.facts,
            segment=self.folder.rows, in_order=True,
        )  # fmt: skip
        self.owner = Owner()
        self.journal = Journal(self.folder, 1, PLAN)
        self.writer = Writer(self.journal, self.facts, 1, self.assembly, time.monotonic, self.owner.check)
        self.writer.start()

    def succeed(self, number: int, fragment: bytes = b"") -> None:
        rows = fragment or f"row {number}\n".encode()
        self.writer.success(Piece(number, 0, 2), 0, Succeeded(number + 1, 2, 1, 0.0, 0.0, rows))

    def fail(self, number: int, *, final: bool) -> None:
        failed = Failed(number + 1, "raised", ErrorReport("ValueError", "bad"))
        self.writer.failure(Piece(number, 0, 2), 0, failed, tries=3, final=final)

    def finish(self, *, complete: bool) -> None:
        self.writer.finish(complete=complete)
        self.writer.join()

    def kept(self) -> list[int]:
        records, damaged = read_journal(self.folder, 1, PLAN)
        assert not damaged
        numbers: list[int] = records["mini_batch"].tolist()
        return numbers

    def hand_over(self) -> None:
        self.writer.pump(time.monotonic() + 1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    if bench.writer.alive:
        bench.finish(complete=False)


def test_all_is_there_after_the_end(bench: Bench) -> None:
    for number in (1, 0, 3):
        bench.succeed(number)
    bench.fail(2, final=False)
    bench.fail(2, final=True)
    bench.writer.loss(Piece(4, 0, 2), ErrorReport("WorkerLost", "4 workers"))
    for number in (5, 6, 7):
        bench.succeed(number)
    bench.finish(complete=True)

    assert bench.writer.error is None and not bench.writer.alive
    assert bench.writer.durable_at is not None
    assert bench.kept() == [1, 0, 3, 2, 2, 4, 5, 6, 7]
    records, _ = read_journal(bench.folder, 1, PLAN)
    for record in records:
        data = read_bytes(bench.folder, 1, int(record["offset"]), int(record["length"]))
        assert zlib.crc32(data) == record["crc"]
    report = read_bytes(bench.folder, 1, int(records[3]["offset"]), int(records[3]["length"]))
    assert msgspec.msgpack.decode(report, type=ErrorReport) == ErrorReport("ValueError", "bad")
    assert (bench.writer.failed_mini_batches, bench.writer.failed_items) == (2, 4)
    assert (bench.folder.root / "rows.txt").read_text() == "row 0\nrow 1\nrow 3\nrow 5\nrow 6\nrow 7\n"
    assert bench.facts.done.tolist() == [number not in (2, 4) for number in range(MINI_BATCHES)]
    assert bench.writer.backlog_bytes == 0


def test_what_could_not_be_read_is_recorded_before_the_success_that_left_it_out(bench: Bench) -> None:
    report = ErrorReport("BadRecord", "line 7")
    good = Succeeded(1, 1, 1, 0.0, 0.0, b"row\n", bad=[BadItem(1, report)])
    part = Succeeded(2, 0, 0, 0.0, 0.0, b"", bad=[BadItem(0, report)])
    bench.writer.success(Piece(3, 0, 2), 5, good)
    bench.writer.success(Piece(4, 1, 1), 5, part)
    bench.finish(complete=False)
    unread, succeeded, of_part, _ = read_journal(bench.folder, 1, PLAN)[0]
    assert (of_part["mini_batch"], of_part["first"]) == (4, 1), "not counted from the piece's first item"
    assert (unread["kind"], unread["mini_batch"], unread["first"], unread["count"]) == (history.BAD, 3, 1, 1)
    assert (succeeded["kind"], succeeded["succeeded"]) == (history.SUCCEEDED, 1)
    assert unread["attempt"] == succeeded["attempt"] == 1 and unread["worker"] == 5
    data = read_bytes(bench.folder, 1, int(unread["offset"]), int(unread["length"]))
    assert msgspec.msgpack.decode(data, type=ErrorReport) == report
    assert read_bytes(bench.folder, 1, int(succeeded["offset"]), int(succeeded["length"])) == b"row\n"


def test_pieces_of_a_split_mini_batch(bench: Bench) -> None:
    for number in (0, 2, 3, 4, 5, 6, 7):
        bench.succeed(number)
    bench.fail(1, final=False)
    bench.writer.split(Piece(1, 0, 2), 1)
    bench.writer.success(Piece(1, 1, 1), 0, Succeeded(9, 1, 1, 0.0, 0.0, b"second of 1\n"))
    failed = Failed(10, "raised", ErrorReport("ValueError", "bad"))
    bench.writer.failure(Piece(1, 0, 1), 0, failed, tries=4, final=True)
    bench.finish(complete=True)
    assert bench.writer.error is None
    assert (bench.folder.root / "rows.txt").read_text() == (
        "row 0\nsecond of 1\nrow 2\nrow 3\nrow 4\nrow 5\nrow 6\nrow 7\n"
    )
    assert (bench.writer.failed_mini_batches, bench.writer.failed_items) == (1, 1)
    records, _ = read_journal(bench.folder, 1, PLAN)
    (split,) = records[records["kind"] == history.SPLIT]
    told = [int(split[name]) for name in ("mini_batch", "first", "count", "rows", "attempt")]
    assert told == [1, 0, 2, 1, 0]
    assert history.left_to_do(bench.facts) == ([], [Piece(1, 0, 1)])


def test_a_form_is_recorded_and_found_by_a_later_session(bench: Bench) -> None:
    forms = [encode_form(Form("parquet", (Column("a", type_),))) for type_ in ("int64", "double")]
    bench.writer.form(forms[0], forms[0])
    bench.succeed(0)
    bench.writer.form(forms[1], forms[1])
    bench.succeed(1)
    bench.finish(complete=False)
    assert list(recorded_forms(bench.folder, PLAN)) == forms
    assert Forms(list(recorded_forms(bench.folder, PLAN))).merged == forms[1]
    assert bench.facts.done[:2].all() and int(bench.facts.done.sum()) == 2


@pytest.mark.parametrize("where", ["bytes", "record", "rows are gone", "a fragment too"])
def test_where_a_form_is_damaged_the_fragments_tell_theirs(where: str, bench: Bench) -> None:
    forms = [encode_form(Form("parquet", (Column("a", type_),))) for type_ in ("int64", "double")]
    for number in range(4):
        own = forms[number % 2]
        if number < 2:
            bench.writer.form(own, own)
        rows = own + b"%d\n" % number
        bench.writer.success(
            Piece(number, 0, 2), 0, Succeeded(number + 1, 2, 1, 0.0, 0.0, rows, header=len(own))
        )
    bench.finish(complete=False)
    segment, journal = bench.folder.rows(1), bench.folder.journal(1)
    data = bytearray(segment.read_bytes())
    match where:
        case "bytes":
            data[data.index(b"double")] ^= 1
        case "a fragment too":
            data[data.index(b"double")] ^= 1
            data[data.rindex(b"double")] ^= 1
        case "record":
            records = bytearray(journal.read_bytes())
            (place,) = (read_journal(bench.folder, 1, PLAN)[0]["kind"] == history.FORM).nonzero()[0][1:]
            records[64 + 64 * int(place) + 8] ^= 1
            journal.write_bytes(records)
    segment.write_bytes(data)
    if where == "rows are gone":
        segment.unlink()
        assert list(recorded_forms(bench.folder, PLAN)) == []
        return
    assert set(recorded_forms(bench.folder, PLAN)) == set(forms)
    assert Forms(list(recorded_forms(bench.folder, PLAN))).merged == forms[1]


def test_what_comes_is_committed_in_groups_within_a_second(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "COMMIT_S", 0.05)
    bench.succeed(0)
    bench.succeed(2)
    assert bench.kept() == []
    bench.hand_over()
    support.wait_until(lambda: bench.kept() == [0, 2], "both are committed")
    support.wait_until(bench.folder.partial_output(1).exists, "the output grows")
    bench.succeed(1)
    bench.hand_over()
    support.wait_until(
        lambda: bench.folder.partial_output(1).read_text() == "row 0\nrow 1\nrow 2\n", "the output grows"
    )


def test_little_is_handed_over_only_after_a_while(bench: Bench) -> None:
    now = time.monotonic()
    bench.writer.pump(now)
    bench.succeed(0)
    bench.hand_over()
    bench.succeed(1)
    bench.writer.pump(time.monotonic())  # The last time was a second in the future.
    assert bench.writer.backlog_bytes < 6 + history.RECORD_SIZE + 100  # Only the first one's.
    bench.succeed(2, b"x" * writer_module.HAND_OVER_BYTES)
    bench.writer.pump(time.monotonic())
    bench.finish(complete=False)
    assert bench.kept() == [0, 1, 2]


def test_what_waits_is_counted_with_its_records() -> None:
    """Short rows, and failures without any, take memory too."""
    recording = Recording(history.no_facts(1000, lambda numbers: np.full(len(numbers), 1)), frozenset())
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1000):
        fragment = b"%d\n" % number
        recording.success(Piece(number, 0, 1), 0, Succeeded(number, 1, 1, 0.0, 0.0, fragment))
    batch = recording.take()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert batch.row_bytes < 5000
    assert 0.7 * held < batch.memory_bytes < 1.3 * held


def test_commit_soon_does_not_wait(bench: Bench) -> None:
    bench.succeed(0)
    bench.writer.commit_soon()
    support.wait_until(lambda: bench.kept() == [0], "it is committed", timeout_s=10)


def test_an_end_that_is_not_complete_leaves_no_output(bench: Bench) -> None:
    bench.succeed(0)
    bench.finish(complete=False)
    assert bench.kept() == [0]
    assert not (bench.folder.root / "rows.txt").exists()
    assert not bench.folder.partial_output(1).exists()


def test_tasks_are_done_in_the_thread(bench: Bench) -> None:
    names: list[str] = []
    bench.writer.post(lambda: names.append(threading.current_thread().name))
    support.wait_until(lambda: names == ["writer"], "the task is done")


class Broken:
    """Stands for a function of `os`: fails from the call of that number on, and counts."""

    def __init__(self, real: Callable[..., object], number: int, from_call: int = 0) -> None:
        self.real = real
        self.number = number
        self.from_call = from_call
        self.calls = 0
        self.failed = 0

    def __call__(self, *arguments: object) -> object:
        self.calls += 1
        if self.calls > self.from_call:
            self.failed += 1
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*arguments)


@pytest.mark.parametrize("place", [0, 1], ids=["rows", "journal"])
def test_a_sync_that_fails_is_not_tried_again(
    place: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(os.fdatasync, 5, from_call=place)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        bench.succeed(0)
        bench.writer.commit_soon()
        support.wait_until(lambda: not bench.writer.alive, "the thread has ended")
        bench.succeed(1)
        bench.finish(complete=True)

    assert broken.failed == 1
    assert isinstance(bench.writer.error, StorageError) and bench.writer.error.exit_code == 74
    message = str(bench.writer.error)
    name = ("session-0001.rows", "session-0001.journal")[place]
    assert f"{bench.folder.private / name} cannot be written: Input/output error." in message
    assert "The storage failed: have it repaired, then start again" in message
    # Whether its record is durable nobody knows; that the facts do not have it matters.
    assert bench.facts.done.sum() == 0
    assert bench.writer.durable_at is None
    assert not (bench.folder.root / "rows.txt").exists()


def test_after_an_error_nothing_keeps_the_coordinator_from_listening(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", Broken(os.write, 28))
        bench.succeed(0, b"x" * 1000)
        bench.hand_over()
        support.wait_until(lambda: not bench.writer.alive, "the thread has ended")
    bench.succeed(1, b"x" * (writer_module.HAND_OVER_BYTES + 1))
    bench.hand_over()
    assert bench.writer.backlog_bytes == 0
    assert bench.kept() == []
    assert "No space left on device. The disk is full" in str(bench.writer.error)


def test_when_the_run_is_another_s_nothing_more_is_written(bench: Bench) -> None:
    bench.succeed(0)
    bench.writer.commit_soon()
    support.wait_until(lambda: bench.kept() == [0], "the first one is committed")
    bench.owner.lost = True
    bench.succeed(1)
    bench.finish(complete=False)
    assert isinstance(bench.writer.error, StoppedError)
    assert bench.kept() == [0]


def test_that_the_run_is_another_s_is_seen_while_nothing_comes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "COMMIT_S", 0.05)
    bench.owner.lost = True
    support.wait_until(lambda: not bench.writer.alive, "the thread has ended")
    assert isinstance(bench.writer.error, StoppedError)


def test_the_output_of_a_run_that_is_another_s_does_not_appear(bench: Bench) -> None:
    for number in range(MINI_BATCHES):
        bench.succeed(number)
    bench.writer.commit_soon()
    bench.owner.lost = True
    bench.finish(complete=True)
    assert isinstance(bench.writer.error, StoppedError)
    assert not (bench.folder.root / "rows.txt").exists()


def test_what_a_write_that_hung_has_cost_is_seen_before_the_next_step(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease may be lost while a dead disk holds the thread."""

    real = bench.journal.commit

    def slow(records: bytes) -> object:
        done = real(records)
        bench.owner.lost = True
        return done

    monkeypatch.setattr(bench.journal, "commit", slow)
    for number in range(MINI_BATCHES):
        bench.succeed(number)
    bench.finish(complete=True)
    assert isinstance(bench.writer.error, StoppedError)
    assert len(bench.kept()) == MINI_BATCHES
    assert not (bench.folder.root / "rows.txt").exists()


def test_rows_that_took_too_long_are_not_committed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        writer_module, "COMMIT_BYTES", 1
    )  # So that rows are committed as soon as they are there.
    real = bench.journal.append_rows

    def slow(data: bytes) -> None:
        real(data)
        bench.owner.lost = True

    monkeypatch.setattr(bench.journal, "append_rows", slow)
    bench.succeed(0)
    bench.hand_over()
    support.wait_until(lambda: not bench.writer.alive, "the thread has ended")
    assert isinstance(bench.writer.error, StoppedError)
    assert bench.kept() == []


def test_an_error_of_ours_is_kept_for_whoever_waits(bench: Bench) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    bench.writer.post(fail)
    support.wait_until(lambda: not bench.writer.alive, "the thread has ended")
    assert isinstance(bench.writer.error, ZeroDivisionError)


def test_damaged_rows_are_voided_so_that_they_are_made_again(bench: Bench) -> None:
    for number in range(MINI_BATCHES):
        bench.succeed(number)
    bench.writer.commit_soon()
    support.wait_until(lambda: len(bench.kept()) == MINI_BATCHES, "all are committed")
    rows = bench.folder.rows(1)
    rows.write_bytes(rows.read_bytes().replace(b"row 5", b"rOw 5").replace(b"row 7", b"rOw 7"))

    bench.finish(complete=True)

    message = str(bench.writer.error)
    assert isinstance(bench.writer.error, StorageError)
    assert "the stored rows of 2 mini-batches are damaged" in message and "mini-batch 5, in " in message
    assert str(bench.folder.rows(1)) in message
    records, _ = read_journal(bench.folder, 1, PLAN)
    assert records["mini_batch"][records["kind"] == history.VOID].tolist() == [5, 7]
    assert history.remaining(bench.facts.done) == [(5, 6), (7, 8)]
    assert bench.facts.succeeded == 2 * (MINI_BATCHES - 2)
    fresh: Facts = history.no_facts(MINI_BATCHES, support.one_by_one(lambda number: 2))
    history.add_records(fresh, records, 1)
    assert history.remaining(fresh.done) == [(5, 6), (7, 8)]


def test_values_that_do_not_fit_the_type_of_all_rows_are_the_script_s_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assemble(_: Assembly) -> None:
        raise Unmergeable("column when: 9999-01-01 does not fit timestamp[ns]")

    monkeypatch.setattr(Assembly, "assemble", assemble)
    bench.succeed(0)
    bench.finish(complete=True)
    assert isinstance(bench.writer.error, ScriptError)
    assert "column when" in str(bench.writer.error)
    assert bench.kept() == [0], "what was made is kept"
