"""`failed_items.jsonl`: a line for each failed item, made from the journals at the end of a session."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core import history
from mpibatch.core.history import Facts
from mpibatch.runtime.causes import short_return
from mpibatch.runtime.journal import read_about, read_bytes, read_journal
from mpibatch.runtime.planner import Plan
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.work import ErrorReport, Piece

if TYPE_CHECKING:
    from mpibatch.core.history import Records


_LOGS = {"Died": "stderr", "TimedOut": "stderr", "ShortReturn": "stdout"}


def write_failed_items(folder: RunFolder, plan: Plan, facts: Facts, session: int) -> None:
    """Write the file whole: what failed in `session`, and what short returns of any session left out."""
    aside = folder.private / "failed_items.partial"
    try:
        with open(aside, "w", encoding="utf-8") as file:
            for line in _lines(folder, plan, facts, session):
                file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, folder.failed_items)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


def _lines(folder: RunFolder, plan: Plan, facts: Facts, current: int) -> Iterator[dict[str, Any]]:
    for session in folder.sessions():
        records, _ = read_journal(folder, session, plan.fingerprint)
        workers = read_about(folder, session)["workers"]
        for record in _short(records, facts, session):
            yield from _short_lines(plan, record, workers)
        if session == current:
            final = (records["kind"] == history.FAILED) & ((records["flags"] & history.FINAL) != 0)
            for record in records[final]:
                yield from _failed_lines(folder, plan, session, record, workers)


def _short(records: Records, facts: Facts, session: int) -> Records:
    """Successes that count and have fewer elements than items."""
    good = records[(records["kind"] == history.SUCCEEDED) & (records["succeeded"] < records["count"])]
    place = good["mini_batch"].astype("int64")
    counts = facts.done[place] & (facts.session[place] == session) & (facts.offset[place] == good["offset"])
    chosen: Records = good[counts]
    return chosen


def shorts(folder: RunFolder, plan: Plan, facts: Facts) -> Iterator[tuple[Piece, int, ErrorReport]]:
    """Of all sessions: (piece, items without a row, error)."""
    for session in folder.sessions():
        records, _ = read_journal(folder, session, plan.fingerprint)
        for record in _short(records, facts, session):
            piece = Piece(int(record["mini_batch"]), int(record["first"]), int(record["count"]))
            succeeded = int(record["succeeded"])
            yield piece, piece.count - succeeded, short_return(succeeded, piece.count)


def _short_lines(plan: Plan, record: Any, workers: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Which items a short return left out is unknown, unless it is all of them."""
    count, succeeded = int(record["count"]), int(record["succeeded"])
    common = _common(record, short_return(succeeded, count), workers, attempts=1)
    if succeeded:
        yield {"item": None, "count": count - succeeded, **common}
        return
    for path in plan.paths(Piece(int(record["mini_batch"]), int(record["first"]), count)):
        yield {"item": os.fsdecode(path), **common}


def _failed_lines(
    folder: RunFolder, plan: Plan, session: int, record: Any, workers: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    data = read_bytes(folder, session, int(record["offset"]), int(record["length"]))
    if zlib.crc32(data) == int(record["crc"]):
        error = msgspec.msgpack.decode(data, type=ErrorReport)
    else:
        error = ErrorReport("Damaged", f"what is stored of its error in {folder.rows(session)} is damaged")
    piece = Piece(int(record["mini_batch"]), int(record["first"]), int(record["count"]))
    common = _common(record, error, workers, attempts=int(record["tries"]))
    for path in plan.paths(piece):
        yield {"item": os.fsdecode(path), **common}


def _common(
    record: Any, error: ErrorReport, workers: list[dict[str, Any]], *, attempts: int
) -> dict[str, Any]:
    number = int(record["worker"])
    worker = workers[number] if number < len(workers) and record["attempt"] else None
    return {
        "mini_batch": int(record["mini_batch"]),
        "attempts": attempts,
        "error": {"type": error.type, "message": error.message},
        "worker": worker["name"] if worker else None,
        "log": log_for(error, worker) if worker else None,
    }


def log_for(error: ErrorReport, worker: dict[str, Any]) -> str:
    """The log file that tells most of an error: the traceback's; of a death, what was last on stderr; of a
    short return, what the script has printed."""
    return str(worker[_LOGS.get(error.type, "errors")])


def describe(plan: Plan, piece: Piece) -> str:
    """A piece's first item in words."""
    name = os.fsdecode(plan.paths(Piece(piece.mini_batch, piece.first, 1))[0])
    more = f" (first of {piece.count} in mini-batch {piece.mini_batch})" if piece.count > 1 else ""
    return f"{name}{more}"
