"""Journal records: 64 bytes each, sealed so that damage is seen. Pure.

A record is little-endian and of fixed size so that ten million of them are read by numpy in a
moment. Its check value covers the session and the record's place in the journal too, so that a
flipped bit, a block of zeros and a record that strayed are all seen. What records tell together is
`core.facts`' business.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Records = NDArray[np.void]

SUCCEEDED = 1
FAILED = 2
SPLIT = 3
"""The piece (first, count) is replaced by two; `rows` is the item number where the second begins. For people
only: what counts of a split mini-batch is seen from the pieces that succeed."""
VOID = 4
"""What has succeeded of the mini-batch earlier, in whatever session, whole or in pieces, does not count any more:
a fragment was found damaged, or a better success follows at once. Only `mini_batch` is looked at."""
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

CAUSES = (
    *("raised", "bad_return", "not_encodable", "timed_out", "died", "lost", "unreadable"),
    *("out_of_memory", "bad_rows"),
)
LOST = CAUSES.index("lost")

AT_ONCE = 1 << 16
"""Records looked at together: so many that numpy is fast, so few that their copies do not matter."""
LONGEST = (1 << 32) - 1
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


def as_records(data: bytes | memoryview) -> Records:
    """Whole records as numpy sees them, with no look at their check values."""
    import numpy as np

    return np.frombuffer(data, dtype=_dtype())


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


def nothing_to_let_go() -> None:
    """For records that are in memory anyway."""


def unseal(
    data: bytes | memoryview, session: int, let_go: Callable[[], object] = nothing_to_let_go
) -> tuple[Records, int]:
    """The valid records of a journal's body, and how many are damaged in its midst.

    What follows the last valid record is a torn tail, which an interrupted write leaves: forgiven. If
    none is damaged, the records are a view of `data`. `let_go` is called now and then: what of `data` has been
    looked at need not stay in memory.
    """
    import numpy as np

    places = len(data) // RECORD_SIZE
    body = memoryview(data)[: places * RECORD_SIZE]
    records = np.frombuffer(body, dtype=_dtype())
    valid = np.empty(places, bool)
    for start in range(0, places, AT_ONCE):
        stop = min(start + AT_ONCE, places)
        checks = _checks(body[start * RECORD_SIZE : stop * RECORD_SIZE], session, start)
        valid[start:stop] = records["check"][start:stop] == checks
        let_go()
    count = int(np.flatnonzero(valid)[-1]) + 1 if valid.any() else 0
    damaged = count - int(valid[:count].sum())
    return (records[:count][valid[:count]] if damaged else records[:count]), damaged
