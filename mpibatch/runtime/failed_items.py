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
from mpibatch.core.failures import final_failures
from mpibatch.core.history import Facts
from mpibatch.core.loop_watch import CANCELLED
from mpibatch.core.parts import part_at
from mpibatch.runtime.causes import short_return
from mpibatch.runtime.journal import read_bytes, read_journal, read_workers
from mpibatch.runtime.planner import Plan
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.work import ErrorReport, Piece

if TYPE_CHECKING:
    from mpibatch.core.history import Records

_AT_ONCE = 1 << 16
"""Items named together: a mini-batch by keys, or of a compressed file, may have millions."""
_LOGS = {
    "Died": "stderr",
    "EnvironmentFailed": "stderr",
    "OutOfMemory": "stderr",
    "TimedOut": "stderr",
    "ShortReturn": "stdout",
}


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
        workers = read_workers(folder, session)
        bad = _bad_by_attempt(records)
        for record in _short(records, facts, session):
            left_out = bad.get(int(record["attempt"]), [])
            for one in left_out:
                # No code of the script has run, so that no log tells of it.
                common = {**_common(one, _error(folder, session, one), workers, attempts=1), "log": None}
                yield from _named(plan, _piece(one), common)
            yield from _short_lines(plan, record, len(left_out), workers)
        if session == current:
            for record in _in_order(final_failures(records, facts)):
                yield from _failed_lines(folder, plan, session, record, workers)


def _in_order(records: Records) -> Records:
    """As the items stand in the inputs."""
    import numpy as np

    ordered: Records = records[np.lexsort((records["first"], records["mini_batch"]))]
    return ordered


def _bad_by_attempt(records: Records) -> dict[int, list[Any]]:
    """By the attempt that succeeded without them: the records of the items that could not be read."""
    found: dict[int, list[Any]] = {}
    for record in records[records["kind"] == history.BAD]:
        found.setdefault(int(record["attempt"]), []).append(record)
    return found


def _short(records: Records, facts: Facts, session: int) -> Records:
    """Successes that count, whole and of pieces, and have fewer elements than items."""
    good = records[(records["kind"] == history.SUCCEEDED) & (records["succeeded"] < records["count"])]
    place = good["mini_batch"].astype("int64")
    counts = facts.done[place] & (facts.session[place] == session) & (facts.offset[place] == good["offset"])
    if facts.parts:
        for one in (facts.session[place] == history.IN_PARTS).nonzero()[0].tolist():
            counts[one] = _is_a_part(good[one], facts, session)
    chosen: Records = good[counts]
    return chosen


def _is_a_part(record: Any, facts: Facts, session: int) -> bool:
    part = part_at(facts.parts[int(record["mini_batch"])], int(record["first"]))
    return part is not None and (part.session, part.offset) == (session, int(record["offset"]))


def shorts(folder: RunFolder, plan: Plan, facts: Facts) -> Iterator[tuple[Piece, int, ErrorReport]]:
    """Of all sessions: (piece, items without a row, error)."""
    for session in folder.sessions():
        records, _ = read_journal(folder, session, plan.fingerprint)
        bad = _bad_by_attempt(records)
        for record in _short(records, facts, session):
            left_out = bad.get(int(record["attempt"]), [])
            for one in left_out:
                yield _piece(one), int(one["count"]), _error(folder, session, one)
            given, succeeded = _given(record, len(left_out))
            if succeeded < given:
                yield _piece(record), given - succeeded, short_return(succeeded, given)


def short_mini_batches(folder: RunFolder, plan: Plan, facts: Facts) -> list[int]:
    """Mini-batches that are done, of which a short return has left items without a row; in order. Items that
    could not be read are not meant."""
    found: set[int] = set()
    for session in folder.sessions():
        records, _ = read_journal(folder, session, plan.fingerprint)
        bad = _bad_by_attempt(records)
        for record in _short(records, facts, session):
            given, succeeded = _given(record, len(bad.get(int(record["attempt"]), [])))
            if succeeded < given:
                found.add(int(record["mini_batch"]))
    return sorted(number for number in found if facts.done[number])


def _given(record: Any, bad: int) -> tuple[int, int]:
    """How many items `run()` got, and how many elements it gave."""
    return int(record["count"]) - bad, int(record["succeeded"])


def _short_lines(
    plan: Plan, record: Any, bad: int, workers: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Which items a short return left out is unknown, unless it is all of them."""
    given, succeeded = _given(record, bad)
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
    if error.message.startswith(CANCELLED):  # Nothing has died: the traceback says for what it waited.
        return str(worker["errors"])
    return str(worker[_LOGS.get(error.type, "errors")])


def describe(plan: Plan, piece: Piece) -> str:
    """A piece's first item in words."""
    name, row = plan.item_names(Piece(piece.mini_batch, piece.first, 1))[0]
    name = name if row is None else f"{name}, row {row}"
    more = f" (first of {piece.count} in mini-batch {piece.mini_batch})" if piece.count > 1 else ""
    return f"{name}{more}"
