"""What earlier sessions of a run left: what is finished, in which forms, and what remains to be done."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mpibatch.core import history
from mpibatch.core.accounting import Tally
from mpibatch.core.config import Job
from mpibatch.core.history import Facts
from mpibatch.core.shares import only
from mpibatch.runtime import failed_items
from mpibatch.runtime.forms import FORMATS_WITH_FORMS, Forms, recorded_forms
from mpibatch.runtime.journal import add_journal
from mpibatch.runtime.record import Begun
from mpibatch.work import ErrorReport, Piece


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a session begins with."""

    facts: Facts
    forms: Forms | None
    """Of the rows, for formats that have some."""
    todo: list[tuple[int, int]]
    """Ranges (start, stop) of mini-batches of which nothing is finished, or that are made again."""
    pieces: list[Piece]
    """What is left of mini-batches that were split."""
    again: frozenset[int]
    """Mini-batches that are done, and are made again as their `run()` had returned too few elements."""
    shorts: list[tuple[Piece, int, ErrorReport]]
    """(piece, items, error) of items that finished mini-batches left without a row."""
    tally: Tally


def read_past(job: Job, begun: Begun, say: Callable[[str], None]) -> Past:
    """Read all journals. `say` is told of what is damaged in them; raises StorageError where one is none."""
    folder, plan = begun.folder, begun.plan
    facts = _facts(begun, say)
    todo, pieces = history.left_to_do(facts)
    if begun.share is not None:
        todo = list(only(todo, begun.share))
    tally = history.tally_from(facts, begun.items, begun.mini_batches)
    again: frozenset[int] = frozenset()
    if begun.only_failed:
        again = frozenset(failed_items.short_mini_batches(folder, plan, facts))
        todo = sorted([*todo, *((number, number + 1) for number in again)])
        for number in again:
            _count_out(tally, facts, number)
    return Past(
        facts=facts,
        forms=_forms(job, begun),
        todo=todo,
        pieces=pieces,
        again=again,
        shorts=[one for one in failed_items.shorts(folder, plan, facts) if one[0].mini_batch not in again],
        tally=tally,
    )


def _facts(begun: Begun, say: Callable[[str], None]) -> Facts:
    folder, plan = begun.folder, begun.plan
    facts = history.no_facts(plan.mini_batches, plan.item_counts)
    for session in folder.sessions():
        damaged = add_journal(facts, folder, session, plan.fingerprint)
        if damaged:
            say(
                f"{folder.journal(session)}: {damaged} records are damaged (their checksums differ);"
                " what they told of is done again"
            )
    return facts


def _forms(job: Job, begun: Begun) -> Forms | None:
    if job.output_action != "append_row" or job.append_row_format not in FORMATS_WITH_FORMS:
        return None
    return Forms(list(recorded_forms(begun.folder, begun.plan.fingerprint)))


def _count_out(tally: Tally, facts: Facts, mini_batch: int) -> None:
    """A mini-batch that is done is open again: nothing of it has been counted."""
    succeeded = int(facts.item_successes[mini_batch])
    tally.mini_batches_succeeded -= 1
    tally.items_succeeded -= succeeded
    tally.items_failed -= history.item_count(facts, mini_batch) - succeeded
    tally.rows -= int(facts.row_counts[mini_batch])
