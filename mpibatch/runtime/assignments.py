"""What the dispatcher grants, as workers are told of it: with where its items are."""

from __future__ import annotations

from collections.abc import Iterable

from mpibatch.core.events import Granted
from mpibatch.runtime.planner import Plan
from mpibatch.work import Assignment


def assignments(plan: Plan, granted: Iterable[Granted]) -> list[Assignment]:
    """In their order."""
    return [
        Assignment(
            attempt, piece.mini_batch, piece.first, piece.count, retry,
            plan.position(piece), plan.input_of(piece.mini_batch), plan.source(piece),
            plan.keys(piece.mini_batch), alone,
        )
        for attempt, piece, retry, alone in ((one.attempt, one.piece, one.retry, one.alone) for one in granted)
    ]  # fmt: skip
