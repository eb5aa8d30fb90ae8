"""Copies of what takes long, for those who have nothing else to do: the first success counts. Pure."""

from __future__ import annotations

from itertools import islice

from mpibatch.core.backlog import Work
from mpibatch.core.crew import Crew, Worker


def candidates(crew: Crew) -> list[Work]:
    """What idle workers may do too, what has been running longest first: what only one is at, and is at now.

    Each piece is copied once.
    """
    begun = [
        one for worker in crew.workers.values() if worker.ready for one in _is_at(worker, crew.concurrency)
    ]
    single = [one for one in begun if one[1].live == 1 and not one[1].copied]
    return [work for _, work in sorted(single, key=lambda one: one[0])]


def _is_at(worker: Worker, concurrency: int) -> list[tuple[int, Work]]:
    """The attempts that it is at, and what those are: the first ones, but for those that a copy has made needless.

    It may be through with one of those, and keep the answer until the next is done.
    """
    needed = (one for one in worker.attempts.items() if not one[1].ended)
    return list(islice(needed, concurrency))


def take_for(number: int, works: list[Work]) -> Work | None:
    """The first of these candidates that has not failed on this worker; it is one no more."""
    for place, work in enumerate(works):
        if number not in (work.failed_on or ()):
            return works.pop(place)
    return None


def may_be_given_back(crew: Crew) -> bool:
    """Whether somebody was asked for what he has not begun and has not answered, or could be asked."""
    return any(
        one.ready and (one.asked > 0 or len(one.attempts) - len(one.recalled) > crew.concurrency)
        for one in crew.workers.values()
    )
