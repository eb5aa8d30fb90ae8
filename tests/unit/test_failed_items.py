"""`failed_items.jsonl` from real plans and journals."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import support

from mpibatch.core import history
from mpibatch.core.history import CAUSES, Facts
from mpibatch.runtime import failed_items
from mpibatch.runtime.failed_items import describe, short_mini_batches, shorts, write_failed_items
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.journal import Journal, write_about
from mpibatch.runtime.planner import Plan, make_plan
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.work import ErrorReport, Piece

ERROR = ErrorReport("ValueError", "bad", "the traceback")
WORKERS = [
    {
        "name": f"process00{number} on a",
        "stderr": f"/logs/stderr{number}",
        "stdout": "/logs/stdout",
        "errors": f"/logs/errors{number}",
    }
    for number in range(2)
]


class Run:
    """Mini-batches of two items."""

    def __init__(self, folder: Path) -> None:
        job = load_job(support.make_job(folder, "def run(b): return b", items=8, mini_batch_size=2))
        self.data = folder / "data"
        self.folder = RunFolder(job.output)
        self.folder.private.mkdir(parents=True)
        self.plan: Plan = make_plan(job, self.folder.private)
        self.facts: Facts = history.no_facts(4, support.one_by_one(self.plan.item_count))

    def session(self, number: int, *records: dict[str, Any]) -> None:
        write_about(self.folder, number, WORKERS)
        journal = Journal(self.folder, number, self.plan.fingerprint)
        offset = 0
        for place, fields in enumerate(records):
            data = (
                msgspec.msgpack.encode(ERROR) if fields["kind"] in (history.FAILED, history.BAD) else b"row\n"
            )
            data = fields.pop("data", data)
            journal.append_rows(data)
            record = history.record(
                **{
                    "first": 0, "count": 2, "attempt": place + 1, "worker": 1, "offset": offset,
                    "length": len(data), "crc": zlib.crc32(data), **fields,
                }
            )  # fmt: skip
            offset += len(data)
            history.add_records(self.facts, journal.commit(record), number)
        journal.close()

    def written(self, session: int) -> list[dict[str, Any]]:
        write_failed_items(self.folder, self.plan, self.facts, session)
        return [json.loads(line) for line in self.folder.failed_items.read_text().splitlines()]


def good(mini_batch: int, succeeded: int = 2) -> dict[str, Any]:
    return {"kind": history.SUCCEEDED, "mini_batch": mini_batch, "succeeded": succeeded, "rows": succeeded}


def bad(mini_batch: int, *, final: bool = True, cause: str = "raised", **fields: Any) -> dict[str, Any]:
    return {
        "kind": history.FAILED, "mini_batch": mini_batch, "flags": history.FINAL if final else 0, "tries": 3,
        "cause": CAUSES.index(cause), **fields,
    }  # fmt: skip


def part(mini_batch: int, first: int, succeeded: int = 1) -> dict[str, Any]:
    return {**good(mini_batch, succeeded), "first": first, "count": 1}


@pytest.fixture
def run(tmp_path: Path) -> Any:
    run = Run(tmp_path)
    yield run
    run.plan.close()


def test_each_failed_item_has_a_line(run: Run) -> None:
    run.session(1, good(0), bad(2, final=False), bad(2), good(1))
    common = {
        "mini_batch": 2, "attempts": 3, "error": {"type": "ValueError", "message": "bad"},
        "worker": "process001 on a", "log": "/logs/errors1",
    }  # fmt: skip
    assert run.written(1) == [
        {"item": str(run.data / "item004"), **common},
        {"item": str(run.data / "item005"), **common},
    ]


def test_where_nothing_has_failed_the_file_is_empty(run: Run) -> None:
    run.session(1, good(0))
    assert run.written(1) == []
    assert [entry.name for entry in run.folder.private.glob("*partial*")] == []


def test_a_death_names_the_log_of_its_last_words(run: Run) -> None:
    data = msgspec.msgpack.encode(ErrorReport("Died", "it died"))
    run.session(1, bad(2, data=data, cause="died", worker=0))
    assert {line["log"] for line in run.written(1)} == {"/logs/stderr0"}


def test_what_was_lost_with_workers_has_no_worker(run: Run) -> None:
    data = msgspec.msgpack.encode(ErrorReport("WorkerLost", "4 workers were lost"))
    run.session(1, bad(2, data=data, cause="lost", attempt=0, worker=0, tries=0))
    for line in run.written(1):
        assert (line["worker"], line["log"], line["attempts"]) == (None, None, 0)


def test_short_returns_of_all_sessions_and_failures_of_the_last(run: Run) -> None:
    run.session(1, good(0, succeeded=1), bad(2), bad(3))
    run.session(2, good(2), good(1, succeeded=0), bad(3))
    lines = run.written(2)
    assert [(line["item"], line.get("count"), line["mini_batch"]) for line in lines] == [
        (None, 1, 0), (str(run.data / "item002"), None, 1), (str(run.data / "item003"), None, 1),
        (str(run.data / "item006"), None, 3), (str(run.data / "item007"), None, 3),
    ]  # fmt: skip
    assert lines[0]["error"] == {"type": "ShortReturn", "message": "run() returned 1 elements for 2 items"}
    assert [(piece.mini_batch, items) for piece, items, _ in shorts(run.folder, run.plan, run.facts)] == [
        (0, 1), (1, 2),
    ]  # fmt: skip


def test_a_short_return_that_was_made_again_does_not_count(run: Run) -> None:
    run.session(1, good(0, succeeded=1), {"kind": history.VOID, "mini_batch": 0, "count": 0})
    run.session(2, good(0))
    assert run.written(2) == []


def test_items_that_could_not_be_read_are_named_and_the_others_are_no_short_return(run: Run) -> None:
    unread = {"kind": history.BAD, "mini_batch": 1, "first": 1, "count": 1}
    run.session(1, {**unread, "attempt": 9}, {**good(1, succeeded=1), "attempt": 9}, good(0))
    (line,) = run.written(1)
    assert (line["item"], line["mini_batch"], line["attempts"]) == (str(run.data / "item003"), 1, 1)
    assert line["error"] == {"type": "ValueError", "message": "bad"}
    assert (line["worker"], line["log"]) == ("process001 on a", None)
    ((piece, items, error),) = shorts(run.folder, run.plan, run.facts)
    assert (piece, items, error.type) == (Piece(1, 1, 1), 1, "ValueError")
    run.session(2, good(3))
    assert [line["item"] for line in run.written(2)] == [str(run.data / "item003")]


def test_a_short_return_beside_items_that_could_not_be_read(run: Run) -> None:
    unread = {"kind": history.BAD, "mini_batch": 1, "first": 0, "count": 1, "attempt": 9}
    run.session(1, unread, {**good(1, succeeded=0), "attempt": 9})
    named, unnamed = run.written(1)
    assert named["item"] == str(run.data / "item002")
    assert (unnamed["item"], unnamed["count"]) == (None, 1)
    assert unnamed["error"]["message"] == "run() returned 0 elements for 1 items"


def test_pieces_name_their_items(run: Run) -> None:
    """Mini-batch 1 in pieces: its first item is there, its second one has failed."""
    run.session(1, good(0), bad(1, final=False), part(1, 0), bad(1, first=1, count=1, tries=4))
    (line,) = run.written(1)
    assert (line["item"], line["mini_batch"], line["attempts"]) == (str(run.data / "item003"), 1, 4)
    run.session(2, bad(1, first=1, count=1, tries=5))
    assert [line["attempts"] for line in run.written(2)] == [5]
    assert short_mini_batches(run.folder, run.plan, run.facts) == []


def test_short_returns_and_unread_items_of_pieces(run: Run) -> None:
    unread = {"kind": history.BAD, "mini_batch": 1, "first": 1, "count": 1, "attempt": 9}
    run.session(1, part(2, 0, succeeded=0), part(1, 0), {**part(1, 1, succeeded=0), "mini_batch": 3})
    run.session(2, unread, {**part(1, 1, succeeded=0), "attempt": 9}, part(2, 1))
    lines = run.written(2)
    assert [(line["item"], line["mini_batch"], line["error"]["type"]) for line in lines] == [
        (str(run.data / "item004"), 2, "ShortReturn"), (str(run.data / "item007"), 3, "ShortReturn"),
        (str(run.data / "item003"), 1, "ValueError"),
    ]  # fmt: skip
    assert [(piece, items) for piece, items, _ in shorts(run.folder, run.plan, run.facts)] == [
        (Piece(2, 0, 1), 1), (Piece(3, 1, 1), 1), (Piece(1, 1, 1), 1),
    ]  # fmt: skip
    # 1 has only what could not be read, and 3 is not done.
    assert short_mini_batches(run.folder, run.plan, run.facts) == [2]


def test_pieces_that_do_not_count_are_not_short(run: Run) -> None:
    run.session(1, part(2, 0, succeeded=0), part(2, 1), {"kind": history.VOID, "mini_batch": 2, "count": 0})
    run.session(2, part(2, 0), part(2, 1), part(2, 0, succeeded=0))
    assert run.written(2) == [] and short_mini_batches(run.folder, run.plan, run.facts) == []


def test_mini_batches_with_short_returns(run: Run) -> None:
    unread = {"kind": history.BAD, "mini_batch": 1, "first": 1, "count": 1, "attempt": 9}
    run.session(1, {**good(3, succeeded=0)}, unread, {**good(1, succeeded=1), "attempt": 9})
    run.session(2, good(0, succeeded=1), good(2))
    assert short_mini_batches(run.folder, run.plan, run.facts) == [0, 3]


def test_what_failed_when_it_was_made_again_is_not_told_of_where_the_old_one_stays(run: Run) -> None:
    run.session(1, good(0, succeeded=1))
    run.session(2, bad(0), bad(1))
    assert [(line["item"], line["mini_batch"]) for line in run.written(2)] == [
        (None, 0), (str(run.data / "item002"), 1), (str(run.data / "item003"), 1),
    ]  # fmt: skip


def test_where_it_is_not_known_who_worked_the_items_are_still_told_of(run: Run) -> None:
    run.session(1, bad(2))
    run.folder.about(1).write_text("{")
    assert [(line["worker"], line["log"]) for line in run.written(1)] == 2 * [(None, None)]


def test_where_all_rows_are_gone_what_they_said_is_damaged(run: Run) -> None:
    run.session(1, bad(2))
    run.folder.rows(1).unlink()
    assert {line["error"]["type"] for line in run.written(1)} == {"Damaged"}


def test_many_items_of_a_mini_batch_are_named_some_at_a_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.session(1, bad(1))
    at_once = run.written(1)
    monkeypatch.setattr(failed_items, "_AT_ONCE", 1)
    assert run.written(1) == at_once and len(at_once) == 2


def test_an_error_whose_report_is_damaged_is_still_told_of(run: Run) -> None:
    run.session(1, bad(2))
    rows = run.folder.rows(1)
    rows.write_bytes(b"\xc1" + rows.read_bytes()[1:])
    for line in run.written(1):
        assert line["error"]["type"] == "Damaged" and str(rows) in line["error"]["message"]


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"item \xff\n")
    run = Run.__new__(Run)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).touch()
    run.__init__(tmp_path)  # type: ignore[misc]
    with run.plan:
        run.session(1, bad(0))
        (first, _) = run.written(1)
        assert os.fsencode(first["item"]) == os.fsencode(tmp_path / "data" / name)
        assert os.fsencode(describe(run.plan, Piece(0, 0, 2))) == os.fsencode(
            f"{tmp_path}/data/{name} (first of 2 in mini-batch 0)"
        )
        assert describe(run.plan, Piece(1, 1, 1)) == f"{tmp_path}/data/item002"
