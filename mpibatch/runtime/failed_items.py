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

_AT_ONCE = 1 << 16
"""Items named together: a mini-batch by keys, or of a compressed file, may have millions."""
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
        bad = _bad_by_attempt(records)
        for record in _short(records, facts, session):
            left_out = bad.get(int(record["attempt"]), [])
            for one in left_out:
                # No code of the script has run, so that no log tells of it.
                common = {**_common(one, _error(folder, session, one), workers, attempts=1), "log": None}
                yield from _named(plan, _piece(one), common)
            yield from _short_lines(plan, record, len(left_out), workers)
        if session == current:
            final = (records["kind"] == history.FAILED) & ((records["flags"] & history.FINAL) != 0)
            for record in records[final]:
                yield from _failed_lines(folder, plan, session, record, workers)


def _bad_by_attempt(records: Records) -> dict[int, list[Any]]:
    """By the attempt that succeeded without them: the records of the items that could not be read."""
    found: dict[int, list[Any]] = {}
    for record in records[records["kind"] == history.BAD]:
        found.setdefault(int(record["attempt"]), []).append(record)
    return found


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
        bad = _bad_by_attempt(records)
        for record in _short(records, facts, session):
            piece = _piece(record)
            left_out = bad.get(int(record["attempt"]), [])
            for one in left_out:
                yield _piece(one), int(one["count"]), _error(folder, session, one)
            given = piece.count - len(left_out)
            succeeded = int(record["succeeded"])
            if succeeded < given:
                yield piece, given - succeeded, short_return(succeeded, given)


def _short_lines(
    plan: Plan, record: Any, bad: int, workers: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Which items a short return left out is unknown, unless it is all of them."""
    given, succeeded = int(record["count"]) - bad, int(record["succeeded"])
    if succeeded >= given:
        return
    common = _common(record, short_return(succeeded, given), workers, attempts=1)
    if succeeded or bad:
        yield {"item": None, "count": given - succeeded, **common}
        return
    yield from _named(plan, _piece(record), common)


def _failed_lines(
    folder: RunFolder, plan: Plan, session: int, record: Any, workers: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    error = _error(folder, session, record)
    common = _common(record, error, workers, attempts=int(record["tries"]))
    yield from _named(plan, _piece(record), common)


def _named(plan: Plan, piece: Piece, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A line for each item: its file; of a table, also the number of its row there, from 0."""
    stop = piece.first + piece.count
    for first in range(piece.first, stop, _AT_ONCE):
        for name, row in plan.item_names(Piece(piece.mini_batch, first, min(_AT_ONCE, stop - first))):
            yield {"item": name, **common} if row is None else {"item": name, "row": row, **common}


def _piece(record: Any) -> Piece:
    return Piece(int(record["mini_batch"]), int(record["first"]), int(record["count"]))


def _error(folder: RunFolder, session: int, record: Any) -> ErrorReport:
    data = read_bytes(folder, session, int(record["offset"]), int(record["length"]))
    if zlib.crc32(data) == int(record["crc"]):
        return msgspec.msgpack.decode(data, type=ErrorReport)
    return ErrorReport("Damaged", f"what is stored of its error in {folder.rows(session)} is damaged")


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
    name, row = plan.item_names(Piece(piece.mini_batch, piece.first, 1))[0]
    name = name if row is None else f"{name}, row {row}"
    more = f" (first of {piece.count} in mini-batch {piece.mini_batch})" if piece.count > 1 else ""
    return f"{name}{more}"
