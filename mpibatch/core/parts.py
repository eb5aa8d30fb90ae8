"""What has succeeded of mini-batches that were split: pieces, in their order, one record at a time. Pure.

They are few beside the whole ones, which `core.facts` takes in many at once. A part is a piece whose
success counts; no two of one mini-batch overlap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from mpibatch.core.facts import Facts
    from mpibatch.core.records import Records

IN_PARTS = (1 << 16) - 1
"""Stands for the session of a mini-batch of which parts count: each part has a session of its own."""

_MOST = (1 << 32) - 1


class Part(msgspec.Struct, frozen=True, gc=False):
    """The success of `count` items of a mini-batch from its item number `first` on, and where its rows lie."""

    first: int
    count: int
    session: int
    offset: int
    length: int
    header: int
    crc: int
    succeeded: int
    """Items, at most `count`."""
    rows: int


class Success(NamedTuple):
    """A SUCCEEDED record that has its turn."""

    mini_batch: int
    part: Part


def successes(records: Records, session: int) -> Iterator[Success]:
    """SUCCEEDED records of one session as objects."""
    names = ("mini_batch", "first", "count", "offset", "length", "header", "crc", "succeeded", "rows")
    columns = (records[name].tolist() for name in names)
    for number, first, count, offset, length, header, crc, succeeded, rows in zip(*columns, strict=True):
        # As in `Tally`: more than there are items is all of them.
        yield Success(
            number, Part(first, count, session, offset, length, header, crc, min(succeeded, count), rows)
        )


def add_part(facts: Facts, number: int, part: Part, items: int) -> bool:
    """Count a part of mini-batch `number`, which has so many items; once all are covered, it is done.

    False, and nothing has changed, if the part overlaps one that counts, or the mini-batch is done.
    """
    parts = facts.parts.get(number, [])
    place = bisect_left(parts, part.first, key=_first)
    overlaps = (place > 0 and parts[place - 1].first + parts[place - 1].count > part.first) or (
        place < len(parts) and parts[place].first < part.first + part.count
    )
    if overlaps or facts.done[number]:
        return False
    parts.insert(place, part)
    if len(parts) == 1:
        facts.parts[number] = parts
        facts.covered[number] = 0
        facts.session[number] = IN_PARTS
        facts.item_successes[number] = facts.row_counts[number] = 0
    facts.covered[number] += part.count
    facts.item_successes[number] += part.succeeded
    facts.row_counts[number] = min(_MOST, int(facts.row_counts[number]) + part.rows)
    facts.done[number] = facts.covered[number] == items
    facts.succeeded += part.succeeded
    facts.short += part.count - part.succeeded
    facts.rows += part.rows
    return True


def drop_parts(facts: Facts, number: int) -> None:
    """The parts of a mini-batch did not happen: it is not done, and untouched."""
    for part in facts.parts.pop(number):
        facts.succeeded -= part.succeeded
        facts.short -= part.count - part.succeeded
        facts.rows -= part.rows
    del facts.covered[number]
    facts.session[number] = 0
    facts.done[number] = False


def part_at(parts: list[Part], first: int) -> Part | None:
    """The part that begins with item `first`."""
    place = bisect_left(parts, first, key=_first)
    return parts[place] if place < len(parts) and parts[place].first == first else None


def gaps(parts: Iterable[Part], items: int) -> Iterator[tuple[int, int]]:
    """(first, count) of what parts in order leave out of so many items."""
    begin = 0
    for part in parts:
        if part.first > begin:
            yield begin, part.first - begin
        begin = part.first + part.count
    if begin < items:
        yield begin, items - begin


def _first(part: Part) -> int:
    return part.first
