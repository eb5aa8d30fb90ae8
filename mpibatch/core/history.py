"""Journal records and the facts they tell: what is finished, and so what remains. Pure.

A record is 64 bytes, little-endian, fixed-size so that ten million of them are read by numpy in a
moment. Its check value covers the session and the record's place in the journal too, so that a
flipped bit, a block of zeros and a record that strayed are all seen. The form holds bisection
(`SPLIT`) and copies (several attempts of one piece) from the first version on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core.accounting import Tally

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Records = NDArray[np.void]
    ItemCounts = Callable[[NDArray[np.int64]], NDArray[np.int64]]
    """Numbers of mini-batches to how many items each has."""

SUCCEEDED = 1
FAILED = 2
SPLIT = 3
"""The piece (first, count) is replaced by two; `rows` is the item number where the second begins."""
VOID = 4
"""The fragment of the mini-batch's earlier success, in whatever session, was found damaged: it has to be
made again. Only `mini_batch` is looked at."""
BAD = 5
"""The items (first, count) could not be read, and were left out of the success of the same attempt, whose
record follows. Names the error report, as FAILED does."""
FORM = 6
"""A form of rows (`core.forms`) that is met for the first time: `offset`, `length` and `crc` name its bytes. It
is about no mini-batch."""

FINAL = 1
"""Flag of FAILED: the piece is not tried again in this session."""

RECORD = struct.Struct("<BBBBIQIIIIQQIIII")
RECORD_SIZE = RECORD.size
FIELDS = [
    ("kind", "u1"),
    ("flags", "u1"),
    ("cause", "u1"),
    ("tries", "u1"),
    ("check", "<u4"),
    ("mini_batch", "<u8"),
    ("first", "<u4"),
    ("count", "<u4"),
    ("attempt", "<u4"),
    ("worker", "<u4"),
    ("offset", "<u8"),
    ("length", "<u8"),
    ("crc", "<u4"),
    ("succeeded", "<u4"),
    ("rows", "<u4"),
    ("header", "<u4"),
]
"""Of SUCCEEDED, `offset`, `length` and `crc` name the fragment in the session's row segment, `header`
bytes of it are a header; of FAILED they name the error report (msgpack)."""

CAUSES = ("raised", "bad_return", "not_encodable", "timed_out", "died", "lost", "unreadable")
_LOST = CAUSES.index("lost")

_AT_ONCE = 1 << 16
"""Records looked at together: so many that numpy is fast, so few that their copies do not matter."""
_LONGEST = (1 << 32) - 1
"""Bytes of a fragment: what one msgpack string, as which it comes, can hold."""

# Odd, so that a change of any one word always changes the sum.
_MULTIPLIERS = (
    0x9E3779B97F4A7C15,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0xD6E8FEB86659FD93,
    0xA0761D6478BD642F,
    0xE7037ED1A0B428DB,
    0x8EBC6AF09C88C6E3,
    0x589965CC75374CC3,
)
_CHECK_MASK = 0x00000000FFFFFFFF  # Word 0 without its check field.


def record(
    *,
    kind: int,
    mini_batch: int,
    first: int,
    count: int,
    attempt: int,
    worker: int,
    flags: int = 0,
    cause: int = 0,
    tries: int = 0,
    offset: int = 0,
    length: int = 0,
    crc: int = 0,
    succeeded: int = 0,
    rows: int = 0,
    header: int = 0,
) -> bytes:
    """One record without its check value, which `seal` fills in for many at once."""
    return RECORD.pack(
        kind, flags, cause, min(tries, 255), 0, mini_batch, first, count,
        attempt, worker, offset, length, crc, succeeded, rows, header,
    )  # fmt: skip


def _dtype() -> Any:
    import numpy as np

    return np.dtype(FIELDS)


def _checks(data: bytes | bytearray | memoryview, session: int, start: int) -> NDArray[np.uint32]:
    """The check values of records that stand at `start`, `start` + 1, ... in the journal of `session`."""
    import numpy as np

    words = np.frombuffer(data, dtype="<u8").reshape(-1, 8)
    place = np.arange(start + 1, start + 1 + len(words), dtype=np.uint64)
    total = place * np.uint64(0x2545F4914F6CDD1D) + np.uint64(session * 2 + 1)
    total += (words[:, 0] & np.uint64(_CHECK_MASK)) * np.uint64(_MULTIPLIERS[0])
    for column in range(1, 8):
        total += words[:, column] * np.uint64(_MULTIPLIERS[column])
    total ^= total >> np.uint64(29)
    total *= np.uint64(_MULTIPLIERS[1])
    checks: NDArray[np.uint32] = (total >> np.uint64(32)).astype(np.uint32)
    return checks


def seal(data: bytes | bytearray, session: int, start: int) -> bytes:
    """`data` (whole records) with the check values filled in; `start`: place of the first in its journal."""
    import numpy as np

    records = np.frombuffer(bytearray(data), dtype=_dtype())
    records["check"] = _checks(data, session, start)
    return records.tobytes()


def unseal(data: bytes | memoryview, session: int) -> tuple[Records, int]:
    """The valid records of a journal's body, and how many are damaged in its midst.

    What follows the last valid record is a torn tail, which an interrupted write leaves: forgiven. If
    none is damaged, the records are a view of `data`.
    """
    import numpy as np

    places = len(data) // RECORD_SIZE
    body = memoryview(data)[: places * RECORD_SIZE]
    records = np.frombuffer(body, dtype=_dtype())
    valid = np.empty(places, bool)
    for start in range(0, places, _AT_ONCE):
        stop = min(start + _AT_ONCE, places)
        checks = _checks(body[start * RECORD_SIZE : stop * RECORD_SIZE], session, start)
        valid[start:stop] = records["check"][start:stop] == checks
    count = int(np.flatnonzero(valid)[-1]) + 1 if valid.any() else 0
    damaged = count - int(valid[:count].sum())
    return (records[:count][valid[:count]] if damaged else records[:count]), damaged


class Facts(msgspec.Struct, kw_only=True):
    """What is finished so far, by mini-batch (arrays of the plan's length, 31 bytes a mini-batch) and in all.

    What stands in the arrays for a mini-batch that is not `done` means nothing. The sums always equal
    what the `done` mini-batches say.
    """

    item_counts: Any
    """`ItemCounts` of the plan."""
    done: Any
    """bool: a success is recorded, and not voided."""
    session: Any
    """uint16: whose row segment holds the fragment."""
    offset: Any
    length: Any
    header: Any
    crc: Any
    item_successes: Any
    row_counts: Any
    succeeded: int = 0
    """Items."""
    short: int = 0
    """Items of finished mini-batches that a short return left without a row."""
    rows: int = 0
    attempts: int = 0
    """Accepted successes, later voided ones too, and failures of user code."""


def no_facts(mini_batches: int, item_counts: ItemCounts) -> Facts:
    """Nothing is finished. Zeroed pages cost no memory until they are written."""
    import numpy as np

    return Facts(
        item_counts=item_counts,
        done=np.zeros(mini_batches, bool),
        session=np.zeros(mini_batches, np.uint16),
        offset=np.zeros(mini_batches, np.uint64),
        length=np.zeros(mini_batches, np.uint32),
        header=np.zeros(mini_batches, np.uint32),
        crc=np.zeros(mini_batches, np.uint32),
        item_successes=np.zeros(mini_batches, np.uint32),
        row_counts=np.zeros(mini_batches, np.uint32),
    )


def add_records(facts: Facts, records: Records, session: int) -> int:
    """Take in records of one session, in their order; sessions in theirs. Returns how many are damaged.

    A damaged one is about no piece of the plan, or of a kind unknown here, and tells nothing. A
    mini-batch that is done already is not done twice: its first success stays.
    """
    damaged = 0
    for start in range(0, len(records), _AT_ONCE):
        part = records[start : start + _AT_ONCE]
        legal = part[_legal(facts, part)]
        damaged += len(part) - len(legal)
        failed = legal[legal["kind"] == FAILED]
        facts.attempts += int((failed["cause"] != _LOST).sum())
        _take_turns(facts, legal[(legal["kind"] == SUCCEEDED) | (legal["kind"] == VOID)], session)
    return damaged


def _legal(facts: Facts, records: Records) -> NDArray[np.bool_]:
    """Which records can be about this plan."""
    import numpy as np

    kind = records["kind"]
    in_plan = records["mini_batch"] < len(facts.done)
    counts = np.zeros(len(records), np.int64)
    counts[in_plan] = facts.item_counts(records["mini_batch"][in_plan].astype(np.int64))
    short = records["length"] <= _LONGEST
    whole = (records["first"] == 0) & (records["count"] == counts)
    within = records["first"].astype(np.int64) + records["count"] <= counts
    ended = whole & ((kind == SUCCEEDED) | (kind == FAILED))
    about_it = (short & (ended | (within & (kind == BAD)))) | (kind == VOID)
    legal: NDArray[np.bool_] = (in_plan & about_it) | (short & (kind == FORM))
    return legal


def _take_turns(facts: Facts, turns: Records, session: int) -> None:
    """Take in SUCCEEDED and VOID records, which turn a mini-batch done and not done."""
    import numpy as np

    if not len(turns):
        return
    # Those of one mini-batch together, in their order.
    turns = turns[np.argsort(turns["mini_batch"], kind="stable")]
    number = turns["mini_batch"].astype(np.int64)
    success = turns["kind"] == SUCCEEDED
    begins = np.concatenate(([True], number[1:] != number[:-1]))
    done_before = np.where(begins, facts.done[number], np.roll(success, 1))
    accepted = np.flatnonzero(success & ~done_before)
    facts.attempts += len(accepted)
    voided = np.unique(number[~success])
    _take_back(facts, voided[facts.done[voided]])
    # Of several accepted ones the last counts, if no VOID came after it.
    ended_done = success[np.concatenate((begins[1:], [True]))]
    group = np.cumsum(begins) - 1
    is_last = np.concatenate((number[accepted][1:] != number[accepted][:-1], [True]))[: len(accepted)]
    _keep(facts, turns[accepted[is_last & ended_done[group[accepted]]]], session)


def _keep(facts: Facts, good: Records, session: int) -> None:
    """These successes are the ones that count, one a mini-batch."""
    import numpy as np

    place = good["mini_batch"].astype(np.int64)
    # As in `Tally.success`: more than there are items is all of them.
    succeeded = np.minimum(good["succeeded"], good["count"])
    facts.done[place] = True
    facts.session[place] = session
    for name in ("offset", "length", "header", "crc"):
        getattr(facts, name)[place] = good[name]
    facts.item_successes[place] = succeeded
    facts.row_counts[place] = good["rows"]
    facts.succeeded += int(succeeded.sum(dtype=np.int64))
    facts.short += int((good["count"] - succeeded).sum(dtype=np.int64))
    facts.rows += int(good["rows"].sum(dtype=np.int64))


def _take_back(facts: Facts, place: NDArray[np.int64]) -> None:
    """The successes of these mini-batches, all of them done, did not happen."""
    import numpy as np

    if not len(place):
        return
    succeeded = int(facts.item_successes[place].sum(dtype=np.int64))
    facts.done[place] = False
    facts.succeeded -= succeeded
    facts.short -= int(facts.item_counts(place).sum()) - succeeded
    facts.rows -= int(facts.row_counts[place].sum(dtype=np.int64))


def remaining(done: Any) -> list[tuple[int, int]]:
    """The ranges (start, stop) of mini-batches that are not done, in order."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([True], done, [True])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def tally_from(facts: Facts, items_total: int, mini_batches_total: int) -> Tally:
    """What a new session begins with: what failed before is tried again, so only successes count."""
    return Tally(
        items_total=items_total,
        mini_batches_total=mini_batches_total,
        items_succeeded=facts.succeeded,
        items_failed=facts.short,
        mini_batches_succeeded=int(facts.done.sum()),
        attempts=facts.attempts,
        rows=facts.rows,
    )
