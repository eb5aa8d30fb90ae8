"""What journal records tell together: what is finished, and so what remains. Pure.

Whole mini-batches are taken in by numpy, tens of thousands at once; those that were split one record
at a time (`core.parts`), in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.core import records as kinds
from mpibatch.core.accounting import Tally
from mpibatch.core.parts import IN_PARTS, Part, add_part, drop_parts, gaps, successes
from mpibatch.core.records import BAD, FAILED, FORM, LONGEST, LOST, SPLIT, SUCCEEDED, VOID
from mpibatch.work import Piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mpibatch.core.records import Records

    ItemCounts = Callable[[NDArray[np.int64]], NDArray[np.int64]]
    """Numbers of mini-batches to how many items each has."""


class Facts(msgspec.Struct, kw_only=True):
    """What is finished so far, by mini-batch (arrays of the plan's length, 31 bytes a mini-batch) and in all.

    What stands in the arrays for a mini-batch that is not `done` means nothing, but for IN_PARTS as its
    session. The sums always equal what the `done` mini-batches and the parts say.
    """

    item_counts: Any
    """`ItemCounts` of the plan."""
    done: Any
    """bool: a success is recorded, and not voided; or the parts cover all items."""
    session: Any
    """uint16: whose row segment holds the fragment. IN_PARTS: those of the parts do; just then there are any."""
    offset: Any
    length: Any
    header: Any
    crc: Any
    item_successes: Any
    row_counts: Any
    """This one and `item_successes` hold sums where there are parts."""
    parts: dict[int, list[Part]]
    """Of mini-batches that were split: what counts of them, by first item."""
    covered: dict[int, int]
    """Of the same: items that the parts cover."""
    succeeded: int = 0
    """Items."""
    short: int = 0
    """Items of finished mini-batches and of parts that a short return left without a row."""
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
        parts={},
        covered={},
    )


def add_records(
    facts: Facts, records: Records, session: int, let_go: Callable[[], object] = kinds.nothing_to_let_go
) -> int:
    """Take in records of one session, in their order; sessions in theirs. Returns how many are damaged. `let_go`: as
    in `records.unseal`.

    A damaged one is about no piece of the plan, or of a kind unknown here, and tells nothing. What is done
    already is not done twice: the first success of an item stays, so that a whole one does not count where
    there are parts, nor a part that overlaps one.
    """
    damaged = 0
    for start in range(0, len(records), kinds.AT_ONCE):
        some = records[start : start + kinds.AT_ONCE]
        legal, whole = _legal(facts, some)
        damaged += len(some) - int(legal.sum())
        kind = some["kind"]
        failed = legal & (kind == FAILED)
        if failed.any():
            # What failed with another piece, unattempted, is recorded with attempt 0.
            facts.attempts += int(((some["cause"] != LOST) & (some["attempt"] != 0))[failed].sum())
        turns = legal & ((kind == SUCCEEDED) | (kind == VOID))
        _take_turns(facts, some[turns], whole[turns] | (kind[turns] == VOID), session)
        let_go()
    return damaged


def _legal(facts: Facts, records: Records) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which records can be about this plan, and which are about a whole mini-batch."""
    import numpy as np

    kind, first, count = records["kind"], records["first"], records["count"]
    in_plan = records["mini_batch"] < len(facts.done)
    items = np.zeros(len(records), np.int64)
    items[in_plan] = facts.item_counts(records["mini_batch"][in_plan].astype(np.int64))
    stop = first.astype(np.int64) + count
    short = records["length"] <= LONGEST
    whole = (first == 0) & (count == items)
    within = stop <= items
    ended = (whole | (within & (count > 0))) & ((kind == SUCCEEDED) | (kind == FAILED))
    split = within & (kind == SPLIT) & (first < records["rows"]) & (records["rows"] < stop)
    about_it = (short & (ended | (within & (kind == BAD)))) | split | (kind == VOID)
    return (in_plan & about_it) | (short & (kind == FORM)), whole


def _take_turns(facts: Facts, turns: Records, whole: NDArray[np.bool_], session: int) -> None:
    """Take in SUCCEEDED and VOID records, which turn a mini-batch done and not done."""
    import numpy as np

    number = turns["mini_batch"].astype(np.int64)
    if facts.parts or not whole.all():
        split = number[~whole | (facts.session[number] == IN_PARTS)]
        slow = np.isin(number, split)
        _take_one_by_one(facts, turns[slow], session)
        turns, number = turns[~slow], number[~slow]
    if len(turns):
        _take_at_once(facts, turns, number, session)


def _take_at_once(facts: Facts, turns: Records, number: NDArray[np.int64], session: int) -> None:
    """Of whole mini-batches without parts."""
    import numpy as np

    # Those of one mini-batch together, in their order.
    order = np.argsort(number, kind="stable")
    turns, number = turns[order], number[order]
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


def _take_one_by_one(facts: Facts, turns: Records, session: int) -> None:
    """Of mini-batches with parts, or with a record that is about a part."""
    import numpy as np

    items = facts.item_counts(turns["mini_batch"].astype(np.int64)).tolist()
    success = (turns["kind"] == SUCCEEDED).tolist()
    for place, (number, part) in enumerate(successes(turns, session)):
        if not success[place]:
            if number in facts.parts:
                drop_parts(facts, number)
            elif facts.done[number]:
                _take_back(facts, np.array([number]))
        elif part.count < items[place]:
            facts.attempts += add_part(facts, number, part, items[place])
        elif number not in facts.parts and not facts.done[number]:
            facts.attempts += 1
            _keep(facts, turns[place : place + 1], session)


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
    """The successes of these mini-batches, all of them done and without parts, did not happen."""
    import numpy as np

    if not len(place):
        return
    succeeded = int(facts.item_successes[place].sum(dtype=np.int64))
    facts.done[place] = False
    facts.succeeded -= succeeded
    facts.short -= int(facts.item_counts(place).sum()) - succeeded
    facts.rows -= int(facts.row_counts[place].sum(dtype=np.int64))


def left_to_do(facts: Facts) -> tuple[list[tuple[int, int]], list[Piece]]:
    """Ranges (start, stop) of mini-batches of which nothing counts, and what is left of the others, in order."""
    ranges = remaining(facts.done | (facts.session == IN_PARTS) if facts.parts else facts.done)
    pieces = [
        Piece(number, first, count)
        for number in sorted(facts.parts)
        if not facts.done[number]
        for first, count in gaps(facts.parts[number], item_count(facts, number))
    ]
    return ranges, pieces


def remaining(done: Any) -> list[tuple[int, int]]:
    """The ranges (start, stop) of mini-batches that are not done, in order."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([True], done, [True])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def item_count(facts: Facts, number: int) -> int:
    """Items of one mini-batch."""
    import numpy as np

    return int(facts.item_counts(np.array([number]))[0])


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
